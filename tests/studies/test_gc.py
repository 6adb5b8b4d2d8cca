"""`studies.gc` frees what finished runs no longer need, and what is told of them stays the same."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from records import table7_record

from segnext.config import Execution
from studies import gc, logs, show, status
from studies.declare.protocols import protocol
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, plan, select
from studies.records import packed
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
    out = capsys.readouterr().out
    assert "in 6 files deleted" in out
    assert "1 finished runs are packed, in 4 files less" in out
    assert names(done) == {"finished", "weights.pt"}
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


def said_of_all(capsys: pytest.CaptureFixture[str], runs: list[PlannedRun]) -> object:
    """What the commands say of each run, its log included."""
    found = []
    for planned in runs:
        capsys.readouterr()
        logs.main([f"table7/c@{planned.run.seed}"])
        printed = capsys.readouterr().out.partition("--- log.txt")[2]
        found.append((told(capsys, planned), printed))
    return found


def killed_before(step: int) -> bool:
    """Let a gc run that ends, as by a kill, before this change of a file; whether there was one."""
    if not (child := os.fork()):
        left = step

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def change(*arguments: object, **options: object) -> object:
                nonlocal left
                left -= 1
                return real(*arguments, **options) if left >= 0 else os._exit(9)

            return change

        for name in ("rename", "replace", "link", "unlink", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        gc.main(["--delete"])
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_gc_that_is_killed_at_any_step_loses_nothing_and_the_next_ends_it(capsys: pytest.CaptureFixture[str]):
    runs = started(2)
    for planned in runs:
        recorded(planned)
        Workspace(planned.id).log.write_text(f"seed {planned.run.seed}\n")
    gc.main(["--delete"])
    before, step = said_of_all(capsys, runs), 0
    while True:
        for planned in runs:
            Workspace(planned.id).unpack()
        if not killed_before(step):
            break
        assert said_of_all(capsys, runs) == before, step
        gc.main(["--delete"])
        assert said_of_all(capsys, runs) == before, step
        for planned in runs:
            assert {name for name in names(planned) if name[0] != "."} == {"finished", "weights.pt"}
        step += 1
    assert step > 15


def test_a_packed_run_is_not_started_again_and_one_that_is_rerun_has_its_whole_story(
    capsys: pytest.CaptureFixture[str],
):
    (done,) = started(1)
    recorded(done)
    folder = Workspace(done.id).folder
    kept = {name: (folder / name).read_text().rstrip(" ") for name in packed.loose(folder)}
    gc.main(["--delete"])
    (planned,) = plan(select(["table7/c"], protocol("quick"), None, range(1)), protocol("quick"), None, Store())
    assert planned.state == "done"
    assert packed.loose(folder) == []
    workspace = Workspace(done.id)
    workspace.write_spec(specification(done, None, None, None, Execution(), "again"))
    assert not (folder / packed.NAME).exists()
    spec = workspace.spec()
    assert spec is not None
    assert spec.command == "again"
    assert {name: (folder / name).read_text() for name in kept if name != "spec.json"} == {
        name: text for name, text in kept.items() if name != "spec.json"
    }
    with workspace.attempt() as attempt:
        attempt.cause = "done"
    assert [one.cause for one in workspace.attempts()] == ["done", "done"]


def test_a_file_that_a_command_writes_while_gc_packs_stays(capsys: pytest.CaptureFixture[str]):
    (done,) = started(1)
    recorded(done)
    workspace = Workspace(done.id)
    path, old = workspace.folder / "spec.json", (workspace.folder / "spec.json").read_bytes()
    path.write_bytes(old.replace(b"a test", b"again!"))
    packed._drop(path, old)
    assert b"again!" in path.read_bytes()
    packed._drop(path, path.read_bytes())
    assert not path.exists()
    assert [found.name for found in workspace.folder.glob(".*")] == []


def test_a_damaged_pack_is_named_and_hides_no_other_run(capsys: pytest.CaptureFixture[str]):
    runs = started(2)
    for planned in runs:
        recorded(planned)
    gc.main(["--delete"])
    (Workspace(runs[0].id).folder / packed.NAME).write_bytes(b'{"spec')
    capsys.readouterr()
    assert status.main([]) == 1
    out, err = capsys.readouterr()
    assert f"{runs[0].id}/finished" in err
    assert "1 done" in out


def test_a_file_that_is_no_text_is_named_and_stays_and_all_others_are_packed(capsys: pytest.CaptureFixture[str]):
    damaged, fine = started(2)
    for planned in (damaged, fine):
        recorded(planned)
    path = Workspace(damaged.id).folder / "submission.json"
    path.write_bytes(b'"\xff"')
    assert gc.main(["--delete"]) == 1
    assert f"{damaged.id}/submission.json: it is no text" in capsys.readouterr().err
    assert path.read_bytes() == b'"\xff"'
    assert not (Workspace(damaged.id).folder / packed.NAME).exists()
    assert packed.loose(Workspace(fine.id).folder) == []
