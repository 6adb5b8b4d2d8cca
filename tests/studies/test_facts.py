"""results/ can be read alone: every line is told from every other, and says what the report says."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY
from records import add_evaluation, add_run, fabricate
from reporting import undrawn

from reports import build
from reports.sections.claims import claims_table
from reports.sections.discrepancies import differing
from segnext.config import Evaluation, Execution, Weights
from studies import run
from studies.declare.protocols import PROTOCOLS
from studies.facts import files
from studies.facts.finished import switches
from studies.facts.gather import Evidence, gather
from studies.facts.rows import KEY
from studies.launch.tail import LINES, keep_tail
from studies.plan.jobspec import specification
from studies.plan.runs import plan, select
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.tables import studies, study

COMMITTED = REPOSITORY / "results"
README = COMMITTED / "README.md"
TABLES = [f"{slug}.csv" for slug in studies()]


@pytest.fixture(scope="module")
def everything() -> dict[str, Evidence]:
    store = Store(COMMITTED)
    return {slug: gather(declared, store) for slug, declared in studies().items()}


def lines_of(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, keep_default_na=False, dtype=str)


def several(folder: Path) -> Store:
    """Runs at two lengths, tested again, and weights of elsewhere, once more with other bases of Ham."""
    table = study("table7")
    store = fabricate(folder)
    add_run(store, table, table.row("c"), "quick", 0, 12.0, 10)
    trained = PROTOCOLS["quick"].run(table.panel(), table.row("c"), 0)
    add_evaluation(store, Evaluation(trained, trained.model, trained.data, 1), 41.0, 42.0)
    wanted = PROTOCOLS["paper"].run(table.panel(), table.row("c"), 0)
    for digest in ("a" * 64, "b" * 64):
        for ham_seed in (0, 1):
            test = Evaluation(Weights("c_ade20k.pth", digest), wanted.model, wanted.data, ham_seed)
            add_evaluation(store, test, 41.0, 42.0, stands_for=wanted.id)
    return store


@pytest.mark.parametrize("name", TABLES)
def test_every_committed_line_of_a_table_is_told_from_every_other_by_its_key(name: str):
    counted = lines_of(COMMITTED, name).groupby(list(KEY)).size()
    assert counted[counted > 1].to_dict() == {}


def test_tests_made_again_and_weights_of_elsewhere_have_lines_of_their_own(tmp_path: Path):
    store = several(tmp_path / "several")
    files.write(store)
    lines = lines_of(store.folder, "table7.csv")
    counted = lines.groupby(list(KEY)).size()
    assert counted[counted > 1].to_dict() == {}
    kinds = lines.groupby("kind").size().to_dict()
    assert kinds == {"cost": 4, "run": 13, "evaluation": 1, "imported": 4}
    assert set(lines[lines.kind == "imported"].printed_miou_ss) == {"41.1"}, "beside what may be held against it"
    assert set(lines[lines.kind == "run"].printed_miou_ss) == {""}, "never beside a result on other data"


KEYS = {
    "runs.csv": "run_id",
    "claims.csv": "claim tier protocol",
    "predictions.csv": "table protocol dataset split learning_rate row reference metric from_distance below_distance "
    "source",
    "accuracy-by-distance.csv": "table row protocol dataset split learning_rate from_distance",
    "missing.csv": "table row what dataset protocol learning_rate iterations seeds",
}


@pytest.mark.parametrize("name", KEYS)
def test_every_committed_line_is_one_of_a_kind(name: str):
    counted = lines_of(COMMITTED, name).groupby(KEYS[name].split()).size()
    assert counted[counted > 1].to_dict() == {}


def test_every_record_is_in_the_list_of_runs_once_and_every_line_leads_to_one():
    listed = lines_of(COMMITTED, "runs.csv")
    assert sorted(listed.run_id) == sorted(path.stem for path in (COMMITTED / "records").glob("*.json"))
    for name in TABLES:
        assert set(lines_of(COMMITTED, name).run_id) <= set(listed.run_id), "no line for what never ran"
    behind = lines_of(COMMITTED, "claims.csv").query("tier != 'published'").run_ids.str.split().explode().dropna()
    assert set(behind) <= set(listed.run_id)


def test_a_printed_value_stands_beside_every_measured_one_that_the_paper_prints(everything: dict[str, Evidence]):
    """The printed costs that the report says are wrong are wrong by as much in the files."""
    for slug, evidence in everything.items():
        lines = pd.read_csv(COMMITTED / f"{slug}.csv").query("kind == 'cost'").set_index(["row", "dataset"])
        for found in differing(evidence):
            here = lines.loc[[(found.row.slug, found.panel.dataset)]]
            line = here.dropna(subset=["printed_params", "printed_gmacs"], how="all").iloc[0]
            unit, column = (1e6, "params") if found.metric == "params_m" else (1, "gmacs")
            assert line[column] / unit == pytest.approx(found.measured, rel=1e-12)
            assert line[f"printed_{column}"] / unit == pytest.approx(found.printed, rel=1e-12)


def test_claims_are_those_of_the_report(everything: dict[str, Evidence]):
    said = pd.read_csv(COMMITTED / "claims.csv").set_index(["table", "claim", "protocol"])
    compared = 0
    for slug, evidence in everything.items():
        for variant in (v for v in evidence.variants if v.counted and v.finished):
            for line in claims_table(evidence, variant).lines:
                shown = {key: value for cell in line.cells for key, value in cell.values.items()}
                if shown["verdict"] == "pending":
                    continue
                own = said.loc[(slug, line.key, variant.protocol.name)]
                compared += 1
                for column, name in (("difference", "difference"), ("low", "low"), ("p_adjusted", "p_holm")):
                    assert own[column] == shown[name] or (pd.isna(own[column]) and shown[name] is None)
    assert compared


def test_results_on_other_data_never_sound_like_the_papers():
    lines = lines_of(COMMITTED, "claims.csv")
    small = lines[lines.tier.isin(["small", "mechanism"])]
    assert len(small)
    assert set(small.verdict) <= {"here too", "opposite here", "no difference here", "not resolved here", "few seeds"}


def questions() -> Iterator[tuple[str, str]]:
    """The questions that results/README.md asks, each with its line of pandas."""
    text = README.read_text().split("## Ten questions")[1].split("\n## ")[0]
    for number, rest in re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", text, re.DOTALL | re.MULTILINE):
        (line,) = re.findall(r"```python\n\s+(.*?)\n\s*```", rest)
        yield f"{number}. {rest.splitlines()[0]}", line


def test_the_readme_answers_ten_questions_with_a_line_of_pandas_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(REPOSITORY)
    known: dict[str, object] = {}
    exec(README.read_text().split("```python\n")[1].split("```")[0], known)
    answers = {question: eval(line, known) for question, line in questions()}
    assert len(answers) == 10
    assert all(len(answer) for question, answer in answers.items() if "stale" not in question)
    worst, means = list(answers.values())[:2]
    assert (worst["table"], worst["row"], worst["printed_gmacs"]) == ("table5", "cc", 35.7)
    assert means["count"].max() >= 3


def test_the_command_beside_what_is_missing_makes_it(monkeypatch: pytest.MonkeyPatch):
    """Read as the command line reads it: it plans the very runs that have no record, as many as the line says."""
    monkeypatch.setenv("SEGNEXT_RESULTS", str(COMMITTED))
    lines = pd.read_csv(COMMITTED / "missing.csv", keep_default_na=False)
    assert len(lines)
    store = Store()
    for line in lines[lines.what == "runs"].itertuples():
        words = shlex.split(line.command)
        assert words[:3] == ["python", "-m", "studies.run"]
        options = run.parser().parse_args(words[3:])
        chosen = PROTOCOLS[options.protocol]
        (selection,) = select(options.selectors, chosen, options.rows, options.seeds)
        named = {*options.datasets}
        panels = [p for p in chosen.panels(selection.study) if not named or {p.key, p.title} & named]
        assert [panel.dataset for panel in panels] == [selection.study.panel(panels[0].key).dataset], line.command
        (row,) = selection.rows
        wanted = [chosen.run(panels[0], row, seed, options.limit_iterations) for seed in selection.seeds]
        assert [store.run(one) for one in wanted] == [None] * line.count
        assert {(one.data.dataset, one.train.iterations) for one in wanted} == {(line.dataset, line.iterations)}


def test_who_writes_them_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`studies.run` with nothing to do, and `reports.build`, leave the same bytes from the same records."""
    contents = []
    for name in ("ran", "built"):
        folder = tmp_path / name
        several(folder)
        monkeypatch.setenv("SEGNEXT_RESULTS", str(folder))
        if name == "ran":
            assert run.main(["table7", "--protocol", "quick"]) == 0
        else:
            with undrawn():
                assert build.main(["table7", "--out", str(tmp_path / "out")]) == 0
        contents.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    assert contents[0].keys() >= {*TABLES, "runs.csv", "claims.csv", "missing.csv", files.SUMS}
    assert contents[0] == contents[1]


def test_who_read_the_records_before_another_run_finished_writes_what_there_is_now(tmp_path: Path):
    fabricate(tmp_path / "results", seeds=1)
    early = Store(tmp_path / "results")
    gathered = {slug: gather(declared, early) for slug, declared in studies().items()}
    late = Store(tmp_path / "results")
    table = study("table7")
    add_run(late, table, table.row("c"), "quick", 5, 51.0)
    files.write(late)
    files.write(early, files.Made({}, lambda: files.Ready.of(early, gathered)))
    assert all(file.current() for file in files.derived(Store(tmp_path / "results")))


@pytest.mark.parametrize("look", [1, 2])
def test_a_run_that_finishes_while_another_looks_is_in_what_stays(
    look: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It has written its tables before the other writes those that were made without it."""
    store, looks, really = fabricate(tmp_path / "results", seeds=1), list[int](), files.lying
    assert store.records

    def lying(at: Store) -> dict[str, int]:
        looks.append(len(looks) + 1)
        if looks[-1] == look:
            late, table = Store(at.folder), study("table7")
            add_run(late, table, table.row("c"), "quick", 5, 51.0)
        return really(at)

    monkeypatch.setattr(files, "lying", lying)
    files.write(store)
    monkeypatch.undo()
    assert all(file.current() for file in files.derived(Store(store.folder)))
    assert len(looks) > 2


def test_files_that_are_what_they_should_be_are_not_touched(tmp_path: Path):
    store = fabricate(tmp_path / "results")
    files.write(store)
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir() if path.is_file()}
    assert {path: path.stat().st_mtime_ns for path in files.write(Store(store.folder))} == before


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sha256sum", "--check", "--quiet", files.SUMS], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
@pytest.mark.parametrize("name", ["records", "curves"])
def test_a_reviewer_finds_an_edited_file_by_the_list_of_digests(tmp_path: Path, name: str):
    store = fabricate(tmp_path / "results", curves=True)
    files.write(store)
    assert checked(store.folder).returncode == 0
    path = sorted((store.folder / name).iterdir())[0]
    path.write_text(path.read_text().replace("1", "2", 1))
    found = checked(store.folder)
    assert (found.returncode, found.stdout) == (1, f"{name}/{path.name}: FAILED\n")


def test_the_committed_list_of_digests_names_every_fact():
    listed = {line.split("  ", 1)[1] for line in (COMMITTED / files.SUMS).read_text().splitlines()}
    facts = {f"{name}/{path.name}" for name in files.FACTS for path in (COMMITTED / name).glob("[!.]*")}
    assert listed == facts | {path.name for path in COMMITTED.glob("*.csv")}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("table7/c", ""),
        ("table7/a", "decoder a"),
        ("table7/c-stage1", "stages 1 2 3 4"),
        ("table6/no-attention", "no attention"),
        ("table6/7x7", "branches 7"),
        ("table8/t-van", ""),
    ],
)
def test_a_models_switches_are_told_in_words(row: str, words: str):
    slug, name = row.split("/")
    run_ = PROTOCOLS["paper"].run(study(slug).panel("ade20k"), study(slug).row(name), 0)
    assert switches(run_.model.resolved()) == words


def test_the_end_of_a_log_is_kept_without_hosts_and_folders_and_always_to_the_same_bytes(tmp_path: Path):
    chosen = PROTOCOLS["quick"]
    (cell,) = plan(select(["table7/c@0"], chosen, None, None), chosen, None, Store())
    workspace = Workspace(cell.id)
    workspace.folder.mkdir(parents=True)
    root = tmp_path / "my data"
    workspace.write_spec(specification(cell, None, root, None, Execution(), "python -m studies.run table7"))
    private = f"job 3 on {socket.gethostname()}, {root}/x.jpg, {REPOSITORY}/studies/run.py, {sys.prefix}/lib/x.py"
    workspace.log.write_text("".join(f"line {number}\n" for number in range(1000)) + private + "\n" + "x" * 9999 + "\n")
    kept = []
    for _ in range(2):
        keep_tail(workspace)
        (path,) = (tmp_path / "results" / "logs").iterdir()
        kept.append(path.read_bytes())
    assert (path.name, kept[0]) == (f"{cell.id}.txt.gz", kept[1])
    lines = gzip.decompress(kept[0]).decode().splitlines()
    assert len(lines) == LINES
    assert lines[-3:-1] == ["line 999", "job 3 on HOST, DATA/x.jpg, ./studies/run.py, PYTHON/lib/x.py"]
    assert len(lines[-1]) < 1000
