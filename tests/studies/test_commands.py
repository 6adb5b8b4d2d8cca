"""The commands around a run: what they show, what they change, what they refuse. Real processes and real folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import conftest
import pytest
from conftest import REPOSITORY

from studies.declare.protocols import protocol
from studies.plan.estimate import step_times
from studies.plan.runs import plan, select
from studies.records.store import Store
from studies.records.working_state import Attempt
from studies.records.workspace import Workspace

SMOKE = ("--protocol", "smoke", "--limit-iterations", "2")


def does(verb: str, *words: str, code: int = 0, cwd: Path = REPOSITORY) -> str:
    return conftest.does(f"studies.{verb}", *words, code=code, cwd=cwd)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    records = tmp_path / "results" / "records"
    records.mkdir(parents=True)
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        shutil.copy(path, records)
    return tmp_path


def attempts(row: str = "c", seed: int = 0) -> list[Attempt]:
    chosen = protocol("smoke")
    *_, planned = plan(select([f"table7/{row}@{seed}"], chosen, None, None), chosen, 2, Store())
    return Workspace(planned.id).attempts()


@pytest.mark.long
def test_a_run_is_shown_followed_compared_done_again_and_tidied_up(lab: Path):
    """One run through every command, since a run takes its time."""
    assert "nothing of it was started here" in does("status")
    said = does("run", "table7/c", *SMOKE, "--dry-run")
    assert "hours: unknown (studies.probe measures step times)\ndisk: unknown; " in said
    does("probe", "table7/c", *SMOKE, "--steps", "2")
    assert len(step_times(Store())) == 1
    assert "process-hours, by step times measured on cpu" in does("run", "table7/c", *SMOKE, "--dry-run")

    does("run", "table7/c", *SMOKE, "--only", "train")
    states = {line["seed"]: line for line in json.loads(does("status", "--json")) if line["row"] == "c"}
    assert "trained" in {line["state"] for line in json.loads(does("status", "--json"))}
    assert states
    assert [attempt.cause for attempt in attempts()] == ["trained"]
    does("run", "table7/c", *SMOKE, "--only", "evaluate")
    assert [attempt.cause for attempt in attempts()] == ["trained", "done"]
    assert attempts()[-1].begins_after == 2, "what was trained is not trained again"

    shown = does("show", "table7/c", *SMOKE)
    assert "train.batch" in shown
    assert "miou_ss" in shown
    facts = json.loads(does("show", "table7/c", *SMOKE, "--json"))
    assert facts["state"] == "done"
    assert json.loads(does("show", facts["run"], "--json"))["run"] == facts["run"]
    assert "stopped" not in does("logs", "table7/c@0", "-n", "5", "--limit-iterations", "2")

    another = does("run", "table7/c@5", *SMOKE, "--dry-run")
    assert "MB of checkpoints and weights" in another

    before = Store().digest(facts["run"])
    assert "1 of 1 runs are done already" in does("run", "table7/c", *SMOKE)
    does("run", "table7/c", *SMOKE, "--rerun", "done")
    record = json.loads(Store().path(facts["run"]).read_text())
    assert record["provenance"]["supersedes"] == before
    assert [attempt.cause for attempt in attempts()] == ["trained", "done", "done"]
    assert attempts()[-1].begins_after == 0, "a repetition begins anew"

    workspace = Workspace(facts["run"])
    assert "would be deleted" in does("gc")
    assert workspace.states.exists()
    does("gc", "--delete")
    assert not workspace.states.exists()
    assert workspace.weights.exists()
    does("gc", "table7/c", "--weights", "--delete")
    assert not workspace.weights.exists()
    assert Store().digest(facts["run"]), "a record is no rubbish"
    assert "0 jobs cancelled, 0 processes" in does("cancel", "all")


@pytest.mark.long
def test_a_failure_says_what_mends_it_and_is_left_until_it_is_told_or_the_code_is_another(lab: Path, tmp_path: Path):
    copy = tmp_path / "repository"
    for name in ("segnext", "studies"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "segnext" / "training" / "segmentation.py"
    good = source.read_text()
    source.write_text(good + "\n\ndef _broken(*_):\n    raise IndexError('wrong')\n\n\nSegmentation.loss = _broken\n")
    quick = ("table7/c@0", "--protocol", "quick", "--limit-iterations", "1")
    does("run", *quick, code=1, cwd=copy)
    status = does("status", code=1, cwd=copy)
    assert "python -m studies.logs table7/c@0" in status
    assert "wrong" in status
    left = does("run", *quick, code=1, cwd=copy)
    assert "--retry code starts them again" in left
    assert "IndexError" in does("logs", "table7/c@0", cwd=copy)
    does("run", *quick, "--retry", "code", code=1, cwd=copy)
    does("run", *quick, "--rerun", "failed", code=1, cwd=copy)
    source.write_text(good)
    does("run", *quick, cwd=copy)
    states = json.loads(does("status", "--json", cwd=copy))
    assert [line["state"] for line in states] == ["done"]


def test_two_rows_differ_in_what_the_table_says(lab: Path):
    said = does("diff", "table7/b", "table7/c", "--protocol", "quick", code=1)
    assert "model.stages" in said
    assert "has no record: only configurations are compared" in said
    found = json.loads(does("diff", "table7/b", "table7/c", "--protocol", "quick", "--json", code=1))
    assert set(found["configuration"]) == {"model.decoder", "model.stages"}
    assert not json.loads(does("diff", "table7/c", "table7/c", "--json"))["configuration"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "table7"), "table7 has several rows; name one: table7/a"),
        (("show", "table7/d"), "unknown row of table7 'd'"),
        (("show", "0123456789ab"), "there is no run 0123456789ab"),
        (("show", "table11/t", "--protocol", "quick"), "table11"),
        (("diff", "table7/a", "tabel7/b"), "did you mean table7?"),
        (("logs", "table7/a@0"), "0 started runs fit, one is wanted"),
        (("cancel",), "name the runs to cancel, or say: all"),
        (("status", "tabel7"), "did you mean table7?"),
        (("gc", "tabel7"), "did you mean table7?"),
        (("doctor", "--profile", "nowhere"), "there is no"),
        (("run", "table7", "--retry", "tiredness"), "'tiredness' is not a cause of failure"),
        (("run", "table7", "--nodes", "2"), "--nodes: only --cluster slurm has that"),
        (("run", "table7", "--json"), "--json goes with --dry-run"),
    ],
)
def test_a_users_mistake_exits_2_and_says_what_to_do(lab: Path, words: tuple[str, ...], said: str):
    assert said in does(*words, code=2)


def test_a_device_that_is_not_there_exits_3_and_measures_nothing(lab: Path):
    assert "nothing was measured: --device cuda:99: " in does("probe", "table7", "--device", "cuda:99", code=3)


def test_where_no_scheduler_answers_nothing_is_submitted_and_the_doctor_says_why(
    lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", "/nowhere")
    said = does("run", "table7/c@0", "--protocol", "quick", "--cluster", "slurm", code=4)
    assert "is this a login node of the cluster?" in said
    assert not list((tmp_path / "runs").glob("*/submission.json"))
    said = does("doctor", "table7", "--protocol", "quick", code=1)
    assert "✗ scheduler: no answer" in said
    assert "this would fail" in said
    assert "no problem was found" in does("doctor", "table7", "--protocol", "quick", "--cluster", "local")


def test_a_plan_and_the_studies_are_also_json(lab: Path):
    runs = json.loads(does("run", "table7", "--protocol", "quick", "--dry-run", "--json"))
    assert len(runs) == 12
    assert all(planned["starts"] and planned["state"] == "new" for planned in runs)
    (table,) = json.loads(does("list", "table7", "--json"))
    assert [row["row"] for row in table["rows"] if row["trained"]] == ["a", "b", "c", "c-stage1"]
    printed = {(value["metric"], value["value"]) for value in table["rows"][0]["printed"]}
    assert ("miou_ss", 40.3) in printed
