"""Studies expand into runs: what starts from what, what is shared, and which files are whose weights."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import msgspec
import pytest
from conftest import REPOSITORY, needs
from PIL import Image

from segnext.config import ClassificationData, ClassificationTrain, Data, Execution, Model, Run, canonical
from segnext.model import MSCANClassifier, build_network
from segnext.released_weights import save_released
from studies import run
from studies.declare import protocols
from studies.declare.protocols import PROTOCOLS, Protocol, Recipe, protocol, released_encoder
from studies.launch.local import Outcome, _next, _upstream_failure, run_debug
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, evaluations, imports, plan, select
from studies.plan.weights import pretrained_file, sha256, weights_file
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.tables import studies, study

PAPER = protocol("paper")
ABLATIONS = ("table5", "table6", "table7", "table8", "table9")


def beginnings(chosen: Protocol, slugs: tuple[str, ...], without: str = "-") -> set[str]:
    """The ids or names of the ImageNet weights that the rows of these studies start from."""
    found = set()
    for slug in slugs:
        for panel in chosen.panels(study(slug)):
            for row in study(slug).trained:
                run: Run | str | None = chosen.run(panel, row, seed=0)
                if row.slug.endswith(without):
                    continue
                while isinstance(run, Run):
                    beginning, run = run, run.init
                found.add(run or beginning.id)
    return found


def test_tables_5_to_9_need_13_pretrainings_and_11_under_one_reading_of_table_8():
    assert len(beginnings(PAPER, ABLATIONS)) == 13
    assert len(beginnings(PAPER, ABLATIONS, without="-van")) == 11
    assert len(beginnings(PAPER, ABLATIONS, without="-lka")) == 11


def test_released_weights_serve_the_tables_whose_encoders_were_released():
    chosen = protocol("paper-pretrained")
    assert beginnings(chosen, ("table5", "table7", "table9", "table12", "appendix_table2")) == {
        f"released/mscan_{size}" for size in "tsbl"
    }
    for slug in ("table6", "table8"):
        assert chosen.panels(study(slug)) == []
        assert any("nobody released ImageNet weights" in reason for reason in chosen.left_out(study(slug)))


def test_every_encoder_that_was_released_has_a_name_and_no_ablation_has():
    assert released_encoder(Model("S", decoder="a")) == "mscan_s"
    assert released_encoder(Model("S", encoder="van", nmf_rank=32)) == "van_b1"
    assert released_encoder(Model(encoder="convnext_tiny")) == "convnext_tiny"
    for ablation in ({"branches": (7,)}, {"mixer": "lka"}, {"encoder_norm": "ln"}, {"attention": False}):
        assert released_encoder(Model("T", **ablation)) is None


def test_decoders_share_the_pretraining_of_their_encoder_and_its_seed_is_its_own():
    table7 = study("table7")
    runs = [PAPER.run(table7.panel(), row, seed) for row in table7.trained for seed in (0, 1, 2)]
    assert len({run.id for run in runs}) == 12
    assert len({run.init for run in runs}) == 1
    assert runs[0].init == PAPER.run(study("table6").panel("imagenet1k"), study("table6").row("full"), seed=0)


def test_the_page_on_scaling_counts_the_runs_that_are_declared():
    page = (REPOSITORY / "slurm" / "scaling.md").read_text()
    printed = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    seen: set[str] = set()
    for slug, runs, own in printed:
        planned_runs = {
            planned.id
            for planned in plan(select([slug], protocol("paper"), None, None), protocol("paper"), None, Store())
        }
        assert (len(planned_runs), len(planned_runs - seen)) == (int(runs), int(own)), slug
        seen |= planned_runs
    everything = plan(select(["all"], protocol("paper"), None, None), protocol("paper"), None, Store())
    assert seen == {planned.id for planned in everything}
    assert f"**{len(seen)}**" in page


def test_a_limit_that_shortens_nothing_leaves_the_pretraining_whole():
    table7 = study("table7")
    whole = PAPER.run(table7.panel(), table7.row("c"), 0)
    assert PAPER.run(table7.panel(), table7.row("c"), 0, limit_iterations=160_000) == whole
    short = PAPER.run(table7.panel(), table7.row("c"), 0, limit_iterations=100)
    assert isinstance(short.init, Run)
    assert (short.train.iterations, short.init.train.iterations) == (100, 100)


def test_what_a_run_starts_from_is_planned_before_it_once():
    planned_runs = plan(select(["table7", "table6/full"], PAPER, None, [0, 1]), PAPER, None, Store())
    assert (
        len({planned.id for planned in planned_runs}) == len(planned_runs) == 8 + 1 + 1
    )  # the encoder's seed 0 is both
    assert planned_runs[0].upstream == 1
    assert planned_runs[0].run.task == "classification"
    assert all(planned.run.init == planned_runs[0].run for planned in planned_runs[1:9])
    context = study("table12").trained[-1]
    chain = plan(select([f"table12/{context.slug}@0"], PAPER, None, None), PAPER, None, Store())
    assert [planned.run.data.dataset for planned in chain] == ["imagenet1k", "ade20k", "pascal_context"]
    assert [planned.upstream for planned in chain] == [2, 1, 0]


AUTHORS = {
    "segnext_tiny_512x512_ade_160k.pth": ("t", "ade20k"),
    "segnext_small_1024x1024_city_160k.pth": ("s", "cityscapes"),
    "segnext_base_512x512_ade_160k.pth": ("b", "ade20k"),
    "segnext_large_1024x1024_city_160k.pth": ("l", "cityscapes"),
    "segnext_mscan-t_1x16_512x512_adamw_160k_ade20k_20230210_140244-05bd8466.pth": ("t", "ade20k"),
    "segnext_mscan-l_1x16_512x512_adamw_160k_ade20k_20230209_172055-19b14b63.pth": ("l", "ade20k"),
    "s_coco_stuff164k.pth": ("s", "coco_stuff164k"),
    "notes.txt": None,
    "mscan_t.pth": None,
}


@pytest.mark.parametrize("name", AUTHORS)
def test_weights_are_found_by_the_names_that_people_have(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"weights")
    table9, found = study("table9"), set()
    for panel in table9.panels:
        for row in table9.trained:
            if weights_file(tmp_path, row, panel, PAPER.run(panel, row, 0)):
                found.add((row.slug, panel.dataset))
    assert found == ({AUTHORS[name]} if AUTHORS[name] else set())


def test_two_files_for_one_row_are_refused(tmp_path: Path):
    for name in ("t_ade20k.pth", "segnext_tiny_512x512_ade_160k.pth"):
        (tmp_path / name).write_bytes(b"weights")
    table9 = study("table9")
    with pytest.raises(ValueError, match=r"segnext_tiny.*t_ade20k.*keep one"):
        weights_file(tmp_path, table9.row("t"), table9.panel(), PAPER.run(table9.panel(), table9.row("t"), 0))


def test_an_ablation_is_never_given_the_weights_of_the_whole_model(tmp_path: Path):
    save_released(MSCANClassifier(Model("micro")), tmp_path / "segnext_tiny_512x512_ade_160k.pth")
    planned_runs = imports(select(["table6", "table7"], PAPER, None, None), PAPER, Store(), tmp_path, [0])
    assert {planned.row.slug for planned in planned_runs} == {"full"}  # table7/c is the same model: one evaluation
    assert all(planned.evaluation and isinstance(planned.run.data, Data) for planned in planned_runs)


@pytest.mark.parametrize("present", [(), ("mscan_t.pth", "mscan_t-0.pth")])
def test_released_imagenet_weights_must_be_exactly_one_file(tmp_path: Path, present: tuple[str, ...]):
    for name in present:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"mscan_t\.pth are needed"):
        pretrained_file(tmp_path, "released/mscan_t")
    (tmp_path / "mscan_s.pth").touch()
    assert pretrained_file(tmp_path, "released/mscan_s").name == "mscan_s.pth"


@pytest.fixture
def chained(monkeypatch: pytest.MonkeyPatch) -> Protocol:
    """The quick protocol with a stage before it, as VOC's and Context's recipes have."""
    quick = protocol("quick")
    recipe = quick.recipes["*"]
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, test_scales=(0.5,)))
    before = Recipe(dataclasses.replace(recipe.data, flip=0.0), recipe.train)
    found = dataclasses.replace(
        quick, name="chained", recipes={"*": dataclasses.replace(recipe, after="before"), "before": before}
    )
    monkeypatch.setitem(PROTOCOLS, "chained", found)
    return found


class Silent:
    def progressed(self, *arguments: object) -> None: ...
    def ended(self, *arguments: object) -> None: ...


def carried_out(
    planned_runs: list[PlannedRun],
    limit: int | None = None,
    root: Path | None = None,
    pretrained: Path | None = None,
    execution: Execution = Execution(),  # noqa: B008  # frozen
) -> dict[str, Outcome]:
    for planned in planned_runs:
        Workspace(planned.id).write_spec(specification(planned, limit, root, pretrained, execution, "a test"))
    return run_debug(planned_runs, Silent(), lambda: False)


@pytest.mark.long
def test_a_run_trains_on_from_the_weights_of_the_one_before_it(chained: Protocol):
    planned_runs = plan(select(["table7/c@3"], chained, None, None), chained, 2, Store())
    assert [(planned.upstream, planned.run.seed) for planned in planned_runs] == [(1, protocols.UPSTREAM_SEED), (0, 3)]
    outcomes = carried_out(planned_runs, limit=2)
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]
    before, run = (Store().records[planned.id] for planned in planned_runs)
    assert run["provenance"]["initial"] == {"name": planned_runs[0].id, "sha256": before["weights"]["sha256"]}
    assert before["provenance"]["initial"] is None
    (line,) = (li for li in Store().lines(study("table7")) if li.protocol == "chained" and li.state == "done")
    assert (line.run_id, line.upstream_run_id) == (planned_runs[1].id, planned_runs[0].id)
    again = plan(select(["table7/c@3"], chained, None, None), chained, 2, Store())
    assert [(planned.id, planned.state) for planned in again] == [(planned_runs[1].id, "done")]

    # The finished weights are tested once more, with two seeds of Ham's bases.
    tests = evaluations(select(["table7/c@3"], chained, None, None), chained, 2, Store(), [0, 1])
    assert [outcome.state for outcome in carried_out(tests, limit=2).values()] == ["done", "done"]
    first, second = (Store().records[planned.id]["metrics"] for planned in tests)
    assert first == run["metrics"]
    assert second["miou_ss"] is not None
    assert second != first


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> Protocol:
    """The paper's way from ImageNet to a table, as short and small as it can be."""
    quick = protocol("quick").recipes["*"]
    recipes = {
        "imagenet1k": Recipe(
            ClassificationData(classes=3, crop=(32, 32), test_resize=36),
            ClassificationTrain(
                iterations=3, batch=4, mixing=4, epoch_iterations=1, warmup_iterations=1, cooldown_iterations=0
            ),
        ),
        "ade20k": dataclasses.replace(
            quick,
            data=dataclasses.replace(quick.data, test_scales=(0.5,)),
            train=dataclasses.replace(quick.train, iterations=2),
        ),
    }
    found = Protocol("pretrained", 1, "a test", "nothing", (0,), recipes, size="micro", pretraining="own")
    monkeypatch.setitem(PROTOCOLS, found.name, found)
    return found


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Three classes of three flat pictures in ImageNet's folders."""
    for split in ("train", "val"):
        for number, wnid in enumerate(("n01", "n02", "n03")):
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for picture in range(3):
                Image.new("RGB", (40, 36), (80 * number, 20 * picture, 90)).save(folder / f"{picture}.JPEG")
    return tmp_path


def test_pretraining_and_finetuning_are_two_runs_of_one_command(pretrained: Protocol, imagenet: Path):
    planned_runs = plan(select(["table6/full@0"], pretrained, None, None), pretrained, None, Store())
    assert [planned.run.task for planned in planned_runs] == ["classification", "segmentation"]
    outcomes = carried_out(planned_runs, root=imagenet)
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]
    before, run = (Store().records[planned.id] for planned in planned_runs)
    assert 0 <= before["metrics"]["top1"] <= 100
    assert before["provenance"]["data"]["train_images"] == 9
    assert run["provenance"]["initial"] == {"name": planned_runs[0].id, "sha256": before["weights"]["sha256"]}
    done = {line.dataset: line for line in Store().lines(study("table6")) if line.state == "done"}
    assert done["imagenet1k"].top1 == before["metrics"]["top1"]
    assert done["diagnostic/scene"].upstream_run_id == planned_runs[0].id


@pytest.mark.long
def test_released_imagenet_weights_start_a_run_and_are_named_in_its_record(
    pretrained: Protocol, imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    released = dataclasses.replace(pretrained, name="released", pretraining="released", size=None)
    monkeypatch.setitem(PROTOCOLS, "released", released)
    weights = tmp_path / "weights"
    save_released(MSCANClassifier(Model("T")), weights / "mscan_t.pth")
    planned_runs = plan(select(["table7/c@0"], released, None, None), released, 1, Store())
    assert [planned.run.init for planned in planned_runs] == ["released/mscan_t"]
    assert [outcome.state for outcome in carried_out(planned_runs, 1, pretrained=weights).values()] == ["done"]
    initial = Store().records[planned_runs[0].id]["provenance"]["initial"]
    assert initial == {"name": "mscan_t.pth", "sha256": sha256(weights / "mscan_t.pth")}


def test_weights_of_elsewhere_are_imported_and_never_among_the_runs(tmp_path: Path):
    quick = protocol("quick")
    chosen = select(["table7/c"], quick, None, None)
    model = build_network(quick.model(study("table7").row("c")), 7)
    save_released(model, tmp_path / "c_diagnostic_scene.pth")
    planned_runs = imports(chosen, quick, Store(), tmp_path, [0])
    assert [outcome.state for outcome in carried_out(planned_runs).values()] == ["done"]
    lines = [line for line in Store().lines(study("table7")) if line.protocol == "quick"]
    imported = [line for line in lines if line.state == "imported"]
    assert [(line.row, line.seed, line.run_id) for line in imported] == [("c", None, planned_runs[0].id)]
    assert imported[0].miou_ss is not None
    assert {line.state for line in lines} == {"imported", "pending"}
    assert [planned.state for planned in imports(chosen, quick, Store(), tmp_path, [0])] == ["done"]
    record = Store().records[planned_runs[0].id]
    assert record["config"]["weights"] == {
        "name": "c_diagnostic_scene.pth",
        "sha256": sha256(tmp_path / "c_diagnostic_scene.pth"),
    }


@pytest.mark.long
def test_a_file_is_tested_with_the_rank_that_it_was_trained_with_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """mmsegmentation's B and L have Ham's rank 16 where the row has the release's 64, and no weight shows it."""
    quick = protocol("quick")
    model = build_network(quick.model(study("table7").row("c")), 7)
    path = tmp_path / "c_diagnostic_scene.pth"
    told: dict[str, str] = {}
    for meta in ({"config": "ham_kwargs=dict(MD_S=1, MD_R=5)"}, {"config": "no rank"}):
        save_released(model, path, meta)
        assert run.main(["table7/c", "--protocol", "quick", "--weights", str(tmp_path), "--only", "evaluate"]) == 0
        (record,) = [record for key, record in Store().records.items() if key not in told and key.startswith("eval")]
        told[record["id"]] = capsys.readouterr().out
        assert record["config"]["model"]["nmf_rank"] == (5 if "MD_R" in meta["config"] else 16)
    words = "c_diagnostic_scene.pth was trained with Ham's rank 5, and the row has 16: 5 is tested"
    assert [words in said for said in told.values()] == [True, False]


def test_a_file_that_says_that_it_is_another_rows_is_refused_although_its_shapes_fit(tmp_path: Path):
    """Attention is a product without weights."""
    quick, table6 = protocol("quick"), study("table6")
    panel = next(panel for panel in quick.panels(table6) if panel.dataset == "diagnostic/strips")
    other = quick.run(panel, table6.row("no-attention"), 0)
    model = build_network(other.model, other.data.classes)
    save_released(model, tmp_path / "full_diagnostic_strips.pth", {"run": canonical(other)})
    with pytest.raises(ValueError, match=r"_strips\.pth: trained with attention False and not True; name the file"):
        imports(select(["table6/full"], quick, None, None), quick, Store(), tmp_path, [0])


def test_a_run_whose_upstream_failed_does_not_start(chained: Protocol):
    planned_runs = plan(select(["table7/c@0", "table7/c@1"], chained, None, None), chained, 2, Store())
    upstream, *dependants = planned_runs
    assert _next(planned_runs, []) == upstream
    assert _next(dependants, [upstream.id]) is None
    assert _next(dependants, []) == dependants[0]
    failed = _upstream_failure(dependants[0], {upstream.id: Outcome("failed", "out of memory")})
    assert failed is not None
    assert failed.message.startswith(f"upstream_failed: {upstream.id}")
    assert _upstream_failure(dependants[0], {upstream.id: Outcome("done")}) is None


def test_every_study_plans_under_every_protocol():
    for chosen in PROTOCOLS.values():
        plan(select(list(studies()), chosen, None, None), chosen, None, Store())


@pytest.mark.long
def test_tests_on_the_way_change_nothing_and_leave_a_curve(chained: Protocol, monkeypatch: pytest.MonkeyPatch):
    (planned, *_) = plan(select(["table7/c@0"], chained, None, None), chained, 4, Store())
    records = []
    for name, interval in (("with", 2), ("without", 0)):
        monkeypatch.setenv("SEGNEXT_RESULTS", str(Store().folder.parent / name))
        monkeypatch.setenv("SEGNEXT_RUNS", str(Store().folder.parent / f"runs-{name}"))
        assert carried_out([planned], 4, execution=Execution(evaluation_interval=interval))[planned.id].state == "done"
        records.append(Store().records[planned.id])
        tests = Store().folder / "curves" / f"{planned.id}-tests.csv"
        if interval:
            (line,) = csv.DictReader(tests.read_text().splitlines())
            assert line["iteration"] == "2"  # the last one is the record's own
            assert 0 <= float(line["miou_ss"]) <= 100
        assert tests.exists() == bool(interval)
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["weights"] == records[1]["weights"]
    assert records[0]["training"]["final_loss"] == records[1]["training"]["final_loss"]


@needs("tensorboard", "tensorboard")
def test_the_curve_is_also_tensorboards(chained: Protocol):
    (planned, *_) = plan(select(["table7/c@0"], chained, None, None), chained, 1, Store())
    spec = specification(planned, 1, None, None, Execution(), "a test", tensorboard=True)
    Workspace(planned.id).write_spec(spec)
    assert run_debug([planned], Silent(), lambda: False)[planned.id].state == "done"
    (events,) = (Workspace(planned.id).folder / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


@pytest.mark.long
def test_a_repetition_that_fails_is_no_success_because_of_the_record_before_it(chained: Protocol):
    planned_runs = plan(select(["table7/c@3"], chained, None, None), chained, 2, Store())
    carried_out(planned_runs, limit=2)
    planned, workspace = planned_runs[-1], Workspace(planned_runs[-1].id)
    workspace.write_spec(msgspec.structs.replace(workspace.told(), supersedes=Store().digest(planned.id)))
    workspace.weights.unlink()
    workspace.weights.mkdir()  # in the way
    assert run_debug([planned], Silent(), lambda: False)[planned.id].state == "failed"


def test_a_worker_whose_run_was_taken_over_while_it_slept_leaves_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studies.records.workspace.BEAT_SECONDS", 0.01)
    quick = protocol("quick")
    (planned,) = plan(select(["table7/c@0"], quick, None, None), quick, 100_000, Store())
    workspace = Workspace(planned.id)
    workspace.write_spec(specification(planned, 100_000, None, None, Execution(), "a test"))
    claim = workspace.folder / "claim.json"

    def asked() -> bool:
        if claim.exists():
            claim.write_text(json.dumps({**json.loads(claim.read_text()), "token": "of another"}))
        return False

    assert run_debug([planned], Silent(), asked)[planned.id].state == "stopped"
    assert json.loads(claim.read_text())["token"] == "of another"
