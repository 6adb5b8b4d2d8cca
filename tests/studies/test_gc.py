"""`studies.gc` frees what finished runs no longer need, and what is told of them stays the same."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from records import table7_record

from segnext.config import Execution
from studies import gc, show, status
from studies.declare.protocols import protocol
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, plan, select
from studies.records.store import Store, runs_folder
from studies.records.working_state import Process, Progress, Submission
from studies.records.workspace import Workspace


def started(seeds: int) -> list[PlannedRun]:
    """Runs of a row as jobs of one array left them: every file that a run has, and what SLURM printed."""
    runs = plan(select(["table7/c"], protocol("quick"), None, range(seeds)), protocol("quick"), None, Store())
    array = runs_folder() / "slurm" / "segnext-1"
    array.mkdir(parents=True)
    for index, planned in enumerate(runs):
        workspace = Workspace(planned.id)
        workspace.write_spec(specification(planned, None, None, None, Execution(), "a test"))
        login = Process("login", 100, "1")
        workspace.submission.create(Submission("segnext-1", index, time.time(), "ann", login, "x", f"25_{index}"))
        with workspace.attempt() as attempt:
            attempt.cause = "done"
        workspace.report(Progress("test", 1, 1), force=True)
        workspace.states.mkdir()
        for path in (workspace.states / "00000300.pt", workspace.curve, workspace.log, workspace.weights):
            path.write_text("x")
        for end in ("out", "err"):
            (array / f"25_{index}_0_log.{end}").write_text("x")
    return runs


def recorded(planned: PlannedRun) -> None:
    record = table7_record("c", planned.run.seed, 50.0)
    assert record["id"] == planned.id
    Store().add(record)
    curve = Store().folder / "curves" / f"{planned.id}.csv"
    curve.parent.mkdir(exist_ok=True)
    curve.write_text("iteration,loss\n")


def told(capsys: pytest.CaptureFixture[str], planned: PlannedRun) -> object:
    """What the commands say of a run, but for the names of files."""
    status.main(["--json"])
    standing = json.loads(capsys.readouterr().out)
    show.main([planned.id, "--json"])
    return standing, {k: v for k, v in json.loads(capsys.readouterr().out).items() if k != "files"}


def names(planned: PlannedRun) -> set[str]:
    folder = Workspace(planned.id).folder
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_finished_run_keeps_its_story_and_half_of_its_files(capsys: pytest.CaptureFixture[str]):
    done, going = started(2)
    recorded(done)
    whole, before = names(going), told(capsys, done)
    gc.main([])
    assert "would be deleted" in capsys.readouterr().out
    assert names(done) == whole, "without --delete nothing goes"
    gc.main(["--delete"])
    assert "in 6 files deleted" in capsys.readouterr().out
    assert names(done) == {"spec.json", "submission.json", "attempts", "attempts/001.json", "log.txt", "weights.pt"}
    assert names(going) == whole
    assert sorted(path.name for path in (runs_folder() / "slurm" / "segnext-1").iterdir()) == [
        "25_1_0_log.err",
        "25_1_0_log.out",
    ]
    assert told(capsys, done) == before


def test_a_curve_that_results_do_not_have_stays(capsys: pytest.CaptureFixture[str]):
    (done,) = started(1)
    recorded(done)
    (Store().folder / "curves" / f"{done.id}.csv").unlink()
    gc.main(["--delete"])
    assert Path(Workspace(done.id).curve).exists()
