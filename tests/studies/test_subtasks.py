"""Promises of the sub-tasks: predictions before runs, what a row sees is counted, outcomes judged as written."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ledger
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from records import add_curve, run_record
from reporting import lines_of, render, whole
from scipy import stats

from reports.blocks.points import all_points, fallen
from reports.sections import predictions
from segnext.config import SIZES, Model, canonical
from segnext.data.generated.diagnostic import GeneratedSource
from segnext.model import build_network
from segnext.testing.by_distance import by_distance
from studies.declare.protocols import PROTOCOLS
from studies.declare.study import Study
from studies.declare.subtasks import CHANCE, REACH, WITHOUT_CONTEXT, Prediction, Subtask, controls
from studies.facts import foretold
from studies.judge.predictions import ByDistance, judge
from studies.judge.tiers import ELSEWHERE
from studies.records.schema import Cue, Metrics
from studies.records.store import REPOSITORY, Store
from studies.tables import studies, study

SUBTASKS = [(s, panel) for s in studies().values() for panel in s.subtasks if isinstance(panel, Subtask)]
COMMITTED = REPOSITORY / "results"
needs_history = pytest.mark.skipif(not ledger.has_history(), reason="not a git checkout with its history")


def named(pair: object) -> str:
    return pair.key if isinstance(pair, Subtask) else pair.slug if isinstance(pair, Study) else ""


@pytest.mark.parametrize(("declared", "panel"), SUBTASKS, ids=named)
def test_a_subtask_can_be_run_as_it_is_declared(declared: Study, panel: Subtask):
    assert panel.predictions
    protocol = PROTOCOLS[panel.protocol]
    for slug in panel.rows:
        run = protocol.run(panel, declared.row(slug), 0)
        source = GeneratedSource(run.data.dataset.removeprefix("diagnostic/"), run.data.test_split, run.data.generator)
        assert run.data.classes == panel.classes == len(source.classes)
        assert run.model.size in ("micro", "microscope", "microscope-wide")
        assert canonical(run)["model"]["channels"] == list(SIZES[run.model.size].channels)  # the record has the widths


def test_a_learning_rate_is_a_field_and_has_images_of_its_own():
    declared = study("table6")
    panel = declared.panel("diagnostic/strips at 0.001")
    assert (panel.dataset, panel.learning_rate) == ("diagnostic/strips", 0.001)
    assert declared.panel("diagnostic/strips").learning_rate is None
    run, shared = (PROTOCOLS["quick-full"].run(one, declared.row("full"), 0) for one in (panel, declared.subtasks[0]))
    assert (run.data.dataset, run.train.learning_rate) == (shared.data.dataset, 0.001)
    assert (run.data.train_split, run.data.test_split) == ("tuning", "tuning-val")
    assert dataclasses.replace(run, train=shared.train, data=shared.data) == shared
    for protocol in ("quick", "quick-full"):  # nor does the mixed scene stand in for it
        with pytest.raises(ValueError, match=r"no recipe for diagnostic/strips at 0\.002"):
            PROTOCOLS[protocol].run(dataclasses.replace(panel, learning_rate=0.002), declared.row("full"), 0)


def test_controls_say_chance_without_the_cue_and_no_difference_where_it_is_local():
    removed, local = controls("key", ("a", "b", "c"), "c")
    assert [(one.task_name, one.purpose) for one in (removed, local)] == [
        ("key-no-cue", "control"),
        ("key-local", "control"),
    ]
    assert [(one.row, one.reference, one.sign) for one in removed.predictions] == [(row, CHANCE, "0") for row in "abc"]
    assert [(one.row, one.reference, one.sign) for one in local.predictions] == [(row, "c", "0") for row in "ab"]
    elsewhere, _ = controls("key", ("a", "b"), "c")  # another table trains the reference without the cue
    assert elsewhere.rows == ("a", "b")


@pytest.mark.parametrize("declared", studies().values(), ids=named)
def test_the_default_cells_of_a_quick_table_are_at_most_60_runs(declared: Study):
    quick = PROTOCOLS["quick"]
    cells = {
        quick.run(panel, row, seed).id
        for panel in quick.panels(declared)
        for row in filter(panel.trains, declared.trained)
        for seed in quick.seeds_for(declared)
    }
    assert len(cells) <= 60
    if any(panel.protocol == "quick" for panel in declared.subtasks):
        assert len(quick.seeds_for(declared)) >= 5


def test_the_ledger_has_every_prediction_and_no_other():
    """`make predictions` after a new one. None is edited: a run was held against it, or will be."""
    declared = [ledger.words(said) for said in ledger.declared()]
    assert [entry.words for entry in ledger.entries()] == declared
    assert len(set(declared)) == len(declared)
    of_subtasks = [entry for entry in ledger.entries() if "subtask" in entry.said]
    assert len(of_subtasks) == sum(len(panel.predictions) for _, panel in SUBTASKS)
    assert all(entry.said["why"] for entry in of_subtasks)


@needs_history
def test_every_prediction_stands_in_the_commit_that_the_ledger_names():
    assert ledger.unproven(ledger.entries()) == []


@needs_history
def test_an_edited_ledger_is_found_out():
    """A prediction that says something else than its commit, and one that pretends to be older."""
    entry = ledger.entries()[0]
    other = dataclasses.replace(entry, words=ledger.words({**entry.said, "sign": "0"}))
    older = dataclasses.replace(entry, commit=(ledger.git("rev-parse", f"{entry.commit}^") or "").strip())
    assert ledger.unproven([entry, other, older]) == [other, older]
    assert ledger.not_predicted_before(str(older.commit), [entry, older]) == [entry]


@needs_history
def test_every_record_was_made_with_the_prediction_that_it_is_held_against():
    """Its commit is an ancestor of this one, and has every prediction about its row.

    None that it had is gone since. Rows may be added, each predicted before it is run; what a study only compares with
    may have been run for an earlier prediction.
    """
    records, entries = list(_records()), ledger.entries()
    assert records
    for declared, panel, row, record in records:
        commit = record["provenance"]["commit"]
        assert not record["provenance"]["dirty"], record["id"]
        assert ledger.is_ancestor(commit, "HEAD"), f"{record['id']}: {commit} is no ancestor"
        about = [entry for entry in entries if entry.is_about(declared.slug, row, panel.title)]
        late = ledger.not_predicted_before(commit, about)
        assert late == [], f"{record['id']}: made at {commit}, before this was predicted of {row}"
    today = {entry.words for entry in entries}
    for commit in {record["provenance"]["commit"] for *_, record in records}:
        gone = ledger.declared_at(commit) - today
        assert gone == set(), f"predictions are gone since {commit}, which records were made at"


def test_no_record_on_generated_data_is_without_a_prediction():
    """But those of the mixed scene, which no study says anything about: a sub-task that is gone would hide its runs."""
    held = {record["id"] for *_, record in _records()}
    of = {record["id"]: record["config"]["data"]["dataset"] for record in Store(COMMITTED).kind("run")}
    assert {data for run, data in of.items() if data.startswith("diagnostic/") and run not in held} == {
        "diagnostic/scene"
    }


def _records() -> Iterator[tuple[Study, Subtask, str, dict]]:
    store = Store(COMMITTED)
    for declared, panel in SUBTASKS:
        protocol = PROTOCOLS[panel.protocol]
        seeds = {record["config"]["seed"] for record in store.kind("run")}
        for row in filter(panel.trains, declared.trained):
            for seed in seeds:
                if (record := store.run(protocol.run(panel, row, seed))) is not None:
                    yield declared, panel, row.slug, record


MODELS = {
    "none": {"branches": ()},
    "7x7": {"branches": (7,)},
    "11x11": {"branches": (11,)},
    "21x21": {"branches": (21,)},
    "full": {},
    "lka": {"mixer": "lka"},
    "msca head alone": {"branches": (), "context": "msca"},
}


@pytest.mark.parametrize("row", REACH)
def test_what_a_pixel_sees_is_as_far_as_the_predictions_count(row: str):
    """By gradients: the farthest input pixel in its column that a pixel's score depends on."""
    torch.manual_seed(0)
    model = build_network(Model(**{**WITHOUT_CONTEXT, **MODELS[row]}), 2).eval()
    image = torch.randn(1, 3, 192, 32, requires_grad=True)
    farthest = 0
    for y in range(96, 100):  # the four places within a step of the first stage
        (gradient,) = torch.autograd.grad(model(image)[0, 0, y, 16], image)
        seen = gradient.abs().sum((0, 1, 3)).nonzero().ravel()
        farthest = max(farthest, y - int(seen.min()), int(seen.max()) - y)
    assert farthest == REACH[row]


@given(st.integers(0, 2**32 - 1))
def test_pixels_are_counted_once_at_their_distance(seed: int):
    random = np.random.default_rng(seed)
    labels, found = random.integers(0, 3, (2, 3, 8, 9)).astype(np.uint8)
    labels[labels == 2] = 255
    distances = random.choice(np.array([0, 1, 7, 255], np.uint8), (3, 8, 9))
    batches = [
        ([0, 1], torch.tensor(found[:2]), torch.tensor(labels[:2])),
        ([2], *map(torch.tensor, (found[2:], labels[2:]))),
    ]
    pixels, right = by_distance(iter(batches), lambda number: distances[number])
    for at in (0, 1, 7):
        here = (distances == at) & (labels != 255)
        assert pixels[at] == here.sum()
        assert right[at] == (here & (found == labels)).sum()
    assert pixels.sum() == ((distances != 255) & (labels != 255)).sum()


def runs_of(*accuracies: float) -> list[ByDistance]:
    """One run each, with this accuracy at every distance up to 9."""
    return [
        ByDistance(seed, f"r{seed}", (1000,) * 10, (round(10 * accuracy),) * 10)
        for seed, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("sign", "row", "reference", "outcome"),
    [
        ("-", (60, 61, 62), (90, 91, 92), "supported"),
        ("+", (60, 61, 62), (90, 91, 92), "contradicted"),
        ("0", (60, 61, 62), (90, 91, 92), "contradicted"),
        ("0", (90, 90.5, 91), (91, 91.5, 92), "supported"),
        ("0", (50, 70, 90), (60, 80, 95), "not resolved"),
        ("-", (50, 70, 90), (60, 80, 95), "not resolved"),
        ("-", (90, 91, 92), (90, 91.5, 92), "no difference"),
        ("+", (90, 91, 92), (90, 91.5, 92), "no difference"),
        ("-", (90, 90.1, 90.2), (91, 91.1, 91.2), "supported"),  # small, but as predicted
        ("-", (60, 61), (90, 91), "few seeds"),
        ("-", (), (90, 91, 92), "pending"),
    ],
)
def test_a_prediction_is_judged_as_written(sign, row, reference, outcome):
    prediction = Prediction("a", "b", sign, "", distances=(2, 8))
    judgement = judge(prediction, {"a": runs_of(*row), "b": runs_of(*reference)}, 50.0)
    assert judgement.verdict == outcome
    if row:
        assert judgement.difference == pytest.approx(np.mean(row) - np.mean(reference))
    if judgement.interval:
        assert judgement.interval.low <= judgement.difference <= judgement.interval.high


def test_a_row_is_held_against_chance():
    prediction = Prediction("a", CHANCE, "0", "", distances=(2, 8))
    assert judge(prediction, {"a": runs_of(49, 50, 52)}, 50.0).verdict == "supported"
    assert judge(prediction, {"a": runs_of(69, 70, 72)}, 50.0).verdict == "contradicted"


def test_the_p_that_is_shown_is_that_of_the_verdict():
    """Of rows that differ a little, and of rows that differ by a little for certain."""
    runs = {"a": runs_of(90, 91, 92), "b": runs_of(90, 91.5, 92)}
    tests = {sign: judge(Prediction("a", "b", sign, "", distances=(2, 8)), runs, 50.0) for sign in ("+", "0")}
    assert {sign: found.verdict for sign, found in tests.items()} == {"+": "no difference", "0": "supported"}
    assert tests["+"].p == tests["0"].p
    small = {"a": runs_of(90, 90.1, 90.2), "b": runs_of(91, 91.1, 91.2)}  # above zero by far, and equal by further
    shown = judge(Prediction("a", "b", "-", "", distances=(2, 8)), small, 50.0)
    assert shown.verdict == "supported"
    assert shown.p == pytest.approx(stats.ttest_ind([90, 90.1, 90.2], [91, 91.1, 91.2], equal_var=False).pvalue)


def test_a_constant_guess_is_not_held_against_chance():
    """`key`'s test images are 46 and 54 % of one class: three runs that guess one class say nothing for certain."""
    for sign in ("+", "0"):
        judgement = judge(Prediction("a", CHANCE, sign, "", distances=(2, 8)), {"a": runs_of(54, 54, 54)}, 50.0)
        assert (judgement.verdict, judgement.p, judgement.seeds) == ("not resolved", None, None)


def test_predictions_are_corrected_for_all_that_a_table_makes_under_a_protocol():
    """A difference that holds alone does not beside 19 others of the table, on whatever sub-task they are."""
    declared, (other, own) = study("table5"), study("table5").subtasks[:2]
    one = dataclasses.replace(own, predictions=(Prediction("cc", "ham", "-", ""),))
    many = dataclasses.replace(other, predictions=(Prediction("cc", "ham", "+", ""),) * 19)
    close, open_ = ({"cc": runs_of(*cc), "ham": runs_of(90, 91, 92)} for cc in ((84, 86, 88), (75, 91, 99)))
    alone = foretold.judged([(_variant(declared, one), one, close)])
    among = foretold.judged([(_variant(declared, one), one, close), (_variant(declared, many), many, open_)])
    ((before,), (after,)) = (found[_variant(declared, one).slug] for found in (alone, among))
    assert (before.verdict, after.verdict) == ("supported", "not resolved")
    assert after.adjusted == pytest.approx(min(1, 20 * before.p))


def test_a_run_has_learnt_when_its_loss_stays_below_half(tmp_path: Path):
    path = tmp_path / "curve.csv"
    losses = [1.0] * 10 + [0.1] + [1.0] * 5 + [0.2] * 10
    path.write_text("iteration,loss\n" + "".join(f"{10 * n},{loss}\n" for n, loss in enumerate(losses, start=1)))
    assert fallen(all_points(path)) == 200  # of five points four are low: the one low point at 110 was not enough
    path.write_text("iteration,loss\n" + "".join(f"{10 * n},1.0\n" for n in range(1, 20)))
    assert fallen(all_points(path)) is None
    assert fallen(all_points(tmp_path / "none.csv")) is None


def test_the_report_prints_refuted_predictions_too():
    panel = dataclasses.replace(
        SUBTASKS[0][1],
        predictions=(Prediction("cc", "ham", "-", "why"), Prediction("cc", "ham", "+", "why not")),
    )
    declared = study("table5")
    variant = _variant(declared, panel)
    runs = {"cc": runs_of(60, 61, 62), "ham": runs_of(90, 91, 92)}
    (judgements,) = foretold.judged([(variant, panel, runs)]).values()
    table = predictions.prediction_table(variant, panel, runs, judgements)
    assert [line.cells[-2].verdict for line in table.lines] == ["here too", "opposite here"]
    drawing = predictions.distance_figure(variant, panel, runs)
    assert drawing is not None
    assert "SegNeXt-B w/ CC: " in drawing.description


def test_learning_rates_stand_side_by_side():
    declared = study("table6")
    at = [panel for panel in declared.subtasks if panel.task_name == "strips" and panel.learning_rate]
    assert len(at) == 3
    runs = [{"7x7": runs_of(60, 61, 62), "full": runs_of(accuracy)} for accuracy in (70, 80, 90)]
    shown = [(_variant(declared, panel), panel, own) for panel, own in zip(at, runs, strict=True)]
    ((slug, table),) = predictions.rates_tables(declared, shown)
    assert slug == shown[-1][0].slug
    assert [column.title for column in table.columns] == ["Row", "0.001", "0.004", "0.016"]
    (_, beside), *_ = predictions.rates_tables(
        declared, [(_variant(declared, first := declared.subtasks[0]), first, {}), *shown]
    )
    assert beside.columns[-1].title == "0.004, test images"
    lines = {line.key: [cell.text for cell in line.cells[1:]] for line in table.lines}
    assert lines["full"] == ["70.0 (1)", "80.0 (1)", "90.0 (1)"]
    assert lines["7x7"] == ["61.0 ± 2.5 (3)"] * 3
    assert lines["21x21"] == ["–"] * 3


def test_a_page_has_predictions_beside_outcomes_and_accuracy_by_distance(tmp_path, monkeypatch):
    """Appendix Table 2 on `key`, from records: five seeds of one row, three of the other."""
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    store, declared = Store(), study("appendix_table2")
    panel = declared.subtasks[0]
    for slug, seeds, right in (("t-ham", 5, 990), ("t-msca", 3, 510)):
        for seed in range(seeds):
            run = PROTOCOLS["quick"].run(panel, declared.row(slug), seed)
            cue = Cue(pixels=" ".join(["1000"] * 120), right=" ".join([str(right + seed)] * 120))
            metrics = Metrics(miou_ss=50.0 + seed, miou_ms=50.0)
            precision = "bfloat16" if seed > 3 else "float32"
            store.add(run_record(run, metrics, classes=("red", "green"), cue=cue, precision=precision))
            add_curve(store, run.id)
    files = render(tmp_path / "out", "appendix_table2")
    lines = lines_of(files, "predictions.csv")
    assert [line["outcome"] for line in lines] == ["supported", "contradicted"]  # the second predicted no difference
    mixed = "float32 and bfloat16 together"
    assert [line["mixed"] for line in lines] == [mixed] * 2  # both are about `t-ham`, whose last seed is apart
    for name in ("predictions.tex", "summary/predictions.md", "summary/appendix_table2.md", "predictions.html"):
        assert mixed in files[name].decode(), name
    marks = [line.count(" †1 |") for line in files["summary/predictions.md"].decode().splitlines() if "t-ham" in line]
    assert marks == [2, 2]  # the difference and its outcome
    assert {line["protocol"] for line in lines} == {"quick on key"}  # with the learning rate, where it is another
    assert float(lines[0]["difference"]) == pytest.approx(51.1 - 99.2)
    learnt = lines_of(files, "appendix_table2-quick-key-learning.csv")
    assert [(line["row"], line["learnt"], line["seeds"], line["precision"], line["mixed"]) for line in learnt] == [
        ("t-msca", "0", "3", "float32", ""),
        ("t-ham", "5", "5", "float32, bfloat16", mixed),
    ]
    drawn = lines_of(files, "appendix_table2-quick-key-distance.csv")
    assert {line["row"] for line in drawn} == {"t-msca", "t-ham"}
    assert all(float(line["lowest"]) <= float(line["accuracy"]) <= float(line["highest"]) for line in drawn)
    page = whole(files)
    assert 'id="appendix_table2-quick-key-predictions"' in page
    assert 'href="predictions.csv"' in page
    assert "1 here too, 1 opposite here" in files["overview.html"].decode()
    said = "400 iterations of batch 8, learning rate 0.004; seeds 0, 1, 2, 3, 4."
    assert said in files["summary/appendix_table2.md"].decode()
    assert 'id="appendix_table2-quick-key-distance"' in page


def test_a_verdict_that_was_taken_back_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(COMMITTED))
    told = render(tmp_path, "table5")["summary/predictions.md"].decode()
    marked = [line for line in told.splitlines() if "not resolved" in line and "†1" in line and line.startswith("|")]
    assert len(marked) == sum(one.startswith("table5, ") for one in predictions.REVISED)
    assert "called supported until November 2026" in told
    declared = {
        f"{slug}, {panel.title}: {one.row} − {one.reference}, {predictions._range(one.distances)}"
        for slug, declared in studies().items()
        for panel in declared.subtasks
        for one in panel.predictions
    }
    assert declared >= predictions.REVISED


def test_what_became_of_the_papers_ideas_is_counted_apart_from_controls(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(COMMITTED))
    files = render(tmp_path, "table5")
    outcomes = Counter(
        (line["purpose"], line["source"], line["outcome"]) for line in lines_of(files, "predictions.csv")
    )
    assert {purpose for purpose, *_ in outcomes} == {"idea", "control", "learning rate"}
    (said,) = (
        line for line in files["summary/predictions.md"].decode().splitlines() if "What the paper claims: " in line
    )
    for part, purpose, source in (("What the paper claims", "idea", "paper"), ("Controls", "control", "mechanism")):
        counted = said.split(part)[1].split(": ")[1].split(";")[0].split(". ")[0]
        for (*of, outcome), count in outcomes.items():
            if of == [purpose, source]:
                assert f"{count} {ELSEWHERE.get(outcome, outcome)}" in counted


def _variant(declared: Study, panel: Subtask):
    from studies.facts.gather import Variant

    origins = {f"r{seed}": {"precision": "float32"} for seed in range(9)}  # of the runs of `runs_of`
    return Variant(declared, panel, PROTOCOLS["quick"], 400, (), {}, origins)
