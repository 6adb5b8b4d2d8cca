"""A follower of many runs sees each end, and leaves the file server in peace."""

from __future__ import annotations

import builtins
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from records import run_record

from segnext.config import Execution
from studies.declare.protocols import protocol
from studies.launch import local
from studies.launch.local import Outcome, follow
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, plan, select
from studies.records.schema import Metrics
from studies.records.store import Store
from studies.records.working_state import Process, Progress, Submission
from studies.records.workspace import Workspace

CALLS_A_SECOND = 200
SYSTEM = ("stat", "lstat", "open", "scandir", "listdir", "access", "readlink", "unlink", "remove", "rename", "replace")


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.progress: Counter[str] = Counter()
        self.over: dict[str, Outcome] = {}

    def progressed(self, planned: PlannedRun, phase: str, done: int, total: int, note: str) -> None:
        self.progress[planned.id] += 1

    def ended(self, planned: PlannedRun, outcome: Outcome) -> None:
        self.over[planned.id] = outcome


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each function of the file system is called meanwhile."""
    calls: Counter[str] = Counter()

    def counting(module: object, name: str) -> None:
        plain = getattr(module, name)

        def count(*words: object, **named: object) -> object:
            calls[name] += 1
            return plain(*words, **named)

        patch.setattr(module, name, count)

    with monkeypatch.context() as patch:
        for name in SYSTEM:
            counting(os, name)
        counting(io, "open")
        counting(builtins, "open")
        yield calls


def submitted(seeds: int) -> list[PlannedRun]:
    """Runs of Table 7 as they lie in runs/ once they were submitted, as jobs of one array."""
    smoke = protocol("smoke")
    runs = plan(select(["table7"], smoke, None, range(seeds)), smoke, 2, Store())
    spec = specification(runs[0], 2, None, None, Execution(), "a test")
    login = Process("login", 100, "1")
    for index, planned in enumerate(runs):
        workspace = Workspace(planned.id)
        workspace.write_spec(spec)
        workspace.submission.create(Submission("segnext-1", index, time.time(), "ann", login, "x", f"25_{index}"))
    return runs


def recorded(planned: PlannedRun) -> None:
    Store().add(run_record(planned.run, Metrics(miou_ss=1.0)))


def within(seconds: float, true: object = lambda: False):
    """Asks to stop after a time, or as soon as something is true."""
    last = time.monotonic() + seconds
    return lambda: time.monotonic() > last or true()


@pytest.mark.parametrize("moving", [False, True], ids=["all wait", "all train"])
def test_two_hundred_runs_cost_the_file_server_at_most_two_hundred_calls_a_second(
    answers,
    monkeypatch: pytest.MonkeyPatch,
    moving: bool,
):
    runs = submitted(50)
    assert len(runs) == 204
    answers("squeue", "".join(f"segnext-1|25_{index}|RUNNING|n1|None\n" for index in range(len(runs))))
    monkeypatch.setattr(local, "FOLLOW_SECONDS", (0.5, 60.0))
    if moving:
        for planned in runs:
            Workspace(planned.id).report(Progress("train", 1, 2), force=True)
    seen = Seen()
    with counted(monkeypatch) as calls:
        begun = time.monotonic()
        outcomes = follow(runs, seen, within(2.5))
        took = time.monotonic() - begun
    assert {outcome.state for outcome in outcomes.values()} == {"stopped"}
    assert sum(calls.values()) > 20, "it looked at something"
    assert sum(calls.values()) < CALLS_A_SECOND * took, calls
    assert answers.asked() == ["squeue"] * len(answers.asked())
    assert bool(seen.progress) == moving


def test_looks_become_rare_while_nothing_moves(answers, monkeypatch: pytest.MonkeyPatch):
    runs = submitted(1)[:2]
    answers("squeue", "".join(f"segnext-1|25_{index}|PENDING||Priority\n" for index in range(2)))
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(local, "REST_SECONDS", 0.5)
    rates = []
    with counted(monkeypatch) as calls:

        def look() -> bool:
            rates.append((time.monotonic(), sum(calls.values())))
            return time.monotonic() - rates[0][0] > 2

        follow(runs, Seen(), look)
    half = rates[0][0] + 1
    early = max(count for at, count in rates if at < half)
    assert rates[-1][1] - early < early / 2


def test_every_end_is_seen(answers, monkeypatch: pytest.MonkeyPatch):
    """Recorded before and during, failed by its own word, left the queue without one, withdrawn, and what goes on."""
    monkeypatch.setattr(local, "FOLLOW_SECONDS", (0.3, 0.3))
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)
    runs = submitted(2)
    before, during, failed, lost, withdrawn, *others = runs
    (Workspace(withdrawn.id).folder / "submission.json").unlink()
    recorded(before)
    alive = [index for index, planned in enumerate(runs) if planned not in (failed, lost)]
    answers("squeue", "".join(f"segnext-1|25_{index}|RUNNING|n1|None\n" for index in alive))
    answers("sacct", "")
    with Workspace(failed.id).attempt() as attempt:
        attempt.cause, attempt.message, attempt.job = "diverged", "the loss is nan", f"25_{runs.index(failed)}"
    seen = Seen()

    def stop() -> bool:
        if before.id in seen.over and not Store().path(during.id).exists():
            recorded(during)
        return len(seen.over) == 5 or late()

    late = within(20)
    outcomes = follow(runs, seen, stop)
    assert seen.over == {
        before.id: Outcome("done"),
        during.id: Outcome("done"),
        failed.id: Outcome("failed", "diverged: the loss is nan"),
        lost.id: seen.over[lost.id],
        withdrawn.id: Outcome("failed", "left the queue"),
    }
    assert seen.over[lost.id].message.startswith("lost")
    assert {outcomes[planned.id] for planned in others} == {Outcome("stopped", "goes on")}


def test_a_run_that_was_submitted_anew_is_followed_under_its_new_name(
    answers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(local, "FOLLOW_SECONDS", (0.2, 0.2))
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)
    (planned,) = submitted(1)[:1]
    path = Workspace(planned.id).folder / "submission.json"
    first = json.loads(path.read_text())
    answers("squeue", "segnext-1|25_0|RUNNING|n1|None\nsegnext-2|26_0|RUNNING|n1|None\n")
    answers("sacct", "")

    def again() -> bool:
        asked = (tmp_path / "words").read_text() if (tmp_path / "words").exists() else ""
        if "segnext-1" in asked and "segnext-2" not in path.read_text():
            path.write_text(json.dumps({**first, "token": "segnext-2", "job": "26_0"}))
            (tmp_path / "squeue.txt").write_text("segnext-2|26_0|RUNNING|n1|None\n")
        return asked.count("segnext-2") >= 2 or late()

    late = within(20)
    outcomes = follow([planned], Seen(), again)
    assert outcomes == {planned.id: Outcome("stopped", "goes on")}
    assert "segnext-2" in (tmp_path / "words").read_text()


def test_a_run_that_failed_beside_others_in_one_job_is_seen_while_they_go_on(
    answers,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(local, "FOLLOW_SECONDS", (0.1, 0.1))
    runs = submitted(1)[:2]
    for planned in runs:
        submission = Workspace(planned.id).submission
        submission.replace(msgspec.structs.replace(submission.read(), index=0, job="25_0", sharing=2))
    answers("squeue", "segnext-1|25_0|RUNNING|n1|None\n")
    seen, (failed, other) = Seen(), runs

    begun = time.monotonic()

    def looked() -> bool:
        workspace = Workspace(failed.id)
        if time.monotonic() < begun + 0.5 or not (there := workspace.submission.read()):
            return failed.id in seen.over
        with workspace.attempt() as attempt:
            attempt.cause, attempt.message, attempt.job = "code", "a tensor of another shape", "25_0"
        workspace.submission.remove(there)
        return False

    outcomes = follow(runs, seen, within(20, looked))
    assert outcomes[failed.id] == Outcome("failed", "code: a tensor of another shape")
    assert outcomes[other.id].state == "stopped"
