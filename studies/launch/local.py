"""Where runs are carried out: `local` (processes of this machine) or `debug` (in this process, one after the other)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from segnext.config import Execution
from studies.launch.cards import Cards
from studies.launch.ending import note_killed
from studies.launch.work import work
from studies.plan.runs import PlannedRun, upstream
from studies.plan.state import RunState, standing, submitted, superseded
from studies.records import snapshot
from studies.records.causes import CAUSES, oom_kills
from studies.records.store import Store, results_folder, runs_folder
from studies.records.working_state import Submission
from studies.records.workspace import Workspace
from studies.slurm.scheduler import Queue

POLL_SECONDS = 0.2
FOLLOW_SECONDS = (2.0, 60.0)  # between two questions to the scheduler, at first and at most
REST_SECONDS = 1.0  # between two looks of a follower while nothing moves
LOOKS_AT_ONCE = 4  # runs that a follower looks at between two rests
RECORDS_A_SECOND = 100  # that a follower reads at most
GRACE_SECONDS = 120.0  # how long a worker may take to save and leave before it is killed


class Watcher(Protocol):
    """Is told what becomes of the runs."""

    def progressed(self, planned: PlannedRun, phase: str, done: int, total: int, note: str) -> None:
        """The run is in `phase`, `done` of `total`."""

    def ended(self, planned: PlannedRun, outcome: Outcome) -> None:
        """The run is over, one way or another."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `done`, `failed` or `stopped` (can be continued)."""

    state: str
    message: str = ""


GOES_ON = Outcome("stopped", "goes on")
TRAINED = Outcome("done", "trained; --only evaluate tests it")


def run_local(
    runs: Sequence[PlannedRun],
    parallel: int,
    execution: Execution,
    watcher: Watcher,
    asked_to_stop: Callable[[], bool],
    cards: Cards,
) -> dict[str, Outcome]:
    """Work on the runs as processes of this machine, `parallel` at a time, each on the one of `cards` with the fewest.

    Not submitit's local executor: it starts every job at once and reports nothing until the end. A run that someone
    else works on is waited for. When asked to stop, workers save at their next step.
    """
    code, kills, waiting = snapshot.take(), oom_kills(), list(runs)
    working: dict[str, tuple[PlannedRun, subprocess.Popen[bytes] | None]] = {}
    outcomes: dict[str, Outcome] = {}
    stopped_at: float | None = None
    try:
        while waiting or working:
            if stopped_at is None and asked_to_stop():
                stopped_at = time.monotonic()
                for _, process in working.values():
                    if process is not None:
                        process.send_signal(signal.SIGTERM)
            if stopped_at is not None:
                outcomes.update({planned.id: Outcome("stopped", "not started") for planned in waiting})
                waiting.clear()
            late = stopped_at is not None and time.monotonic() - stopped_at > GRACE_SECONDS
            while len(working) < parallel and (planned := _next(waiting, working)):
                waiting.remove(planned)
                if (failed := _upstream_failure(planned, outcomes)) is not None:
                    outcomes[planned.id] = failed
                    watcher.ended(planned, failed)
                    continue
                elsewhere = Workspace(planned.id).owner() is not None
                watcher.progressed(planned, "waits" if elsewhere else "starts", 0, planned.total, "")
                working[planned.id] = (
                    planned,
                    None if elsewhere else _start(planned, execution, code, cards.take(planned.id)),
                )
            for run_id, (planned, process) in list(working.items()):
                _tell(planned, watcher)
                if late and process is not None:
                    process.kill()
                outcome = _outcome(planned, process, stopped_at is not None, kills)
                if outcome is not None and outcome.state == "failed" and Workspace(run_id).owner() is not None:
                    working[run_id] = (planned, None)  # somebody else was quicker: waited for
                elif outcome is not None:
                    del working[run_id]
                    cards.leave(run_id)
                    outcomes[run_id] = outcome
                    watcher.ended(planned, outcome)
                elif process is None and Workspace(run_id).owner() is None:  # whoever had it left it unfinished
                    working[run_id] = (planned, _start(planned, execution, code, cards.take(run_id)))
            time.sleep(POLL_SECONDS)
    finally:
        for _, process in working.values():
            if process is not None and process.poll() is None:
                process.terminate()
    return outcomes


def run_debug(runs: Sequence[PlannedRun], watcher: Watcher, asked_to_stop: Callable[[], bool]) -> dict[str, Outcome]:
    """Work on the runs in this process, one after the other, so that a debugger and a profiler can look inside."""
    outcomes: dict[str, Outcome] = {}
    for planned in runs:
        if asked_to_stop():
            outcomes[planned.id] = Outcome("stopped", "not started")
            continue
        outcomes[planned.id] = _upstream_failure(planned, outcomes) or _judge(planned, work(planned.id, asked_to_stop))
        watcher.ended(planned, outcomes[planned.id])
    return outcomes


def follow(
    runs: Sequence[PlannedRun], watcher: Watcher, asked_to_stop: Callable[[], bool], left: int = 0
) -> dict[str, Outcome]:
    """Watch submitted runs until no more than `left` go on.

    runs/ is on a file server that many share: a few runs are looked at at a time, in turn, less often while nothing
    moves. The queue is asked less and less often, and only about runs that show no progress.
    """
    outcomes: dict[str, Outcome] = {}
    look = _Look(watcher)
    turn = deque(runs)
    idle, rest, rested = 0, POLL_SECONDS, 0.0
    pause, asked = FOLLOW_SECONDS[0], time.monotonic()
    while len(turn) > left and not asked_to_stop():
        if time.monotonic() - rested >= rest:
            looks = LOOKS_AT_ONCE
            for planned in list(islice(turn, looks)):
                if looks <= 0:
                    break
                looks -= look.cost(planned)
                over, moved = look.at(planned)
                idle = 0 if moved else idle + 1
                turn.popleft()
                if over is None:
                    turn.append(planned)
                else:
                    outcomes[planned.id] = over
                    watcher.ended(planned, over)
                    pause = FOLLOW_SECONDS[0]
            rest = POLL_SECONDS if idle < len(turn) else min(1.2 * rest, REST_SECONDS)
            rested = time.monotonic()
        if time.monotonic() >= max(asked + pause, look.read_again):
            look.ask(turn)
            pause, asked = min(1.5 * pause, FOLLOW_SECONDS[1]), time.monotonic()
        time.sleep(POLL_SECONDS)
    return outcomes | dict.fromkeys((planned.id for planned in turn), GOES_ON)


class _Look:
    """What a follower knows of runs, so that few files tell it what has changed."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._folders: dict[str, Workspace] = {}
        self._progress: dict[str, object] = {}
        self._moved: set[str] = set()  # since the queue was asked
        self._submissions: dict[str, Submission] = {}
        self._queue = Queue()
        self._doubtful: set[str] = set()  # neither waiting nor running, as the queue had it
        self._store = Store()
        self.read_again = 0.0  # when the records may be: each is a file

    def cost(self, planned: PlannedRun) -> int:
        """How many looks this one counts as: the first finds the folder; where a run stands takes a score of files."""
        return LOOKS_AT_ONCE if planned.id in self._doubtful else 1 if planned.id in self._folders else 2

    def at(self, planned: PlannedRun) -> tuple[Outcome | None, bool]:
        """How the run ended, None while it goes on; and whether anything has changed since the last look."""
        if self._recorded(planned):
            return Outcome("done"), True
        workspace = self._folders.get(planned.id) or self._folders.setdefault(planned.id, Workspace(planned.id))
        progress = _tell(planned, self._watcher, workspace)
        moved = progress != self._progress.get(planned.id)
        self._progress[planned.id] = progress
        if moved:
            self._moved.add(planned.id)
        submission = self._submissions.get(planned.id)
        doubtful = planned.id in self._doubtful
        if submission is None or doubtful:
            there = submitted(planned.id)  # one that is damaged ends nobody's watching
            if there:
                self._submissions[planned.id] = there
            # Where somebody submitted it anew, the queue is asked about that first.
            doubtful &= there in (None, submission)
        self._doubtful.discard(planned.id)
        over = _over(standing(planned.wanted, self._store, self._queue)) if doubtful else None
        return over, moved or over is not None

    def ask(self, runs: Iterable[PlannedRun]) -> None:
        """Ask the queue about those that have made no progress since it was asked last."""
        quiet = [planned.id for planned in runs if planned.id not in self._moved]
        known = {key: self._submissions[key] for key in quiet if key in self._submissions}
        self._queue, self._moved, self._doubtful = Queue.ask(known.values()), set(), set()
        known = {key: submission for key, submission in known.items() if not self._queue.silence_of(submission)}
        if known or not self._queue.silence:
            found = {key: self._queue.of(submission) for key, submission in known.items()}
            self._doubtful = {key for key, job in found.items() if job is None or job.place in ("over", "vanished")}
            withdrawn = (key for key in quiet if key in self._folders and key not in self._submissions)
            self._doubtful |= set(withdrawn)
            shared = (key for key, submission in known.items() if submission.sharing > 1)
            self._doubtful |= {key for key in shared if submitted(key) is None}  # ended, and its job goes on
        if self._doubtful:
            self._read()  # after the queue: what was recorded before a job left is there

    def _recorded(self, planned: PlannedRun) -> bool:
        """Whether a valid record is there. All records are read to know that, so not at every look."""
        if not self._store.path(planned.id).exists():
            return False
        if planned.id not in self._store.records:
            if time.monotonic() < self.read_again:
                return False
            self._read()
        return _recorded(planned, self._store)

    def _read(self) -> None:
        self._store = Store()
        self.read_again = time.monotonic() + len(self._store.records) / RECORDS_A_SECOND


def _over(stands: RunState) -> Outcome | None:
    """The outcome of a submitted run that is neither recorded nor in the queue any more."""
    match stands.state:
        case "trained":
            return TRAINED
        case "stopped" | "failed" | "new":
            return Outcome("failed", ": ".join(filter(None, (stands.cause, stands.detail))) or "left the queue")
    return None


def _next(waiting: Sequence[PlannedRun], working: Iterable[str]) -> PlannedRun | None:
    """The first run that waits for no run under way or still to come."""
    unfinished = {*working, *(planned.id for planned in waiting)}
    free = (planned for planned in waiting if (before := upstream(planned)) is None or before.id not in unfinished)
    return next(free, None)


def _upstream_failure(planned: PlannedRun, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """Why a run cannot start: what it starts from did not end well."""
    before = upstream(planned)
    if before is None or before.id not in outcomes or outcomes[before.id].state == "done":
        return None
    ended = outcomes[before.id]
    return Outcome(ended.state, f"upstream_{ended.state}: {before.id} on {before.data.dataset}")


def _start(
    planned: PlannedRun, execution: Execution, code: Path, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    workspace = Workspace(planned.id)
    workspace.forget_progress()
    snapshot.renew(code)
    threads = str(execution.threads)
    folders = {"SEGNEXT_RESULTS": str(results_folder()), "SEGNEXT_RUNS": str(runs_folder())}
    environment = {**os.environ, **folders, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **variables}
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={execution.processes}"]
    with open(workspace.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, *(launcher if execution.processes > 1 else []), "-m", "studies.worker", planned.id],
            cwd=code,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then asks its workers to save
        )


def _outcome(
    planned: PlannedRun, process: subprocess.Popen[bytes] | None, stopping: bool, kills: int
) -> Outcome | None:
    if process is None:
        if _recorded(planned):
            return Outcome("done", "by another process")
        return Outcome("stopped", "another process is working on it") if stopping else None
    code = process.poll()
    return None if code is None else _judge(planned, code, starved=code < 0 and oom_kills() > kills)


def _judge(planned: PlannedRun, code: int, starved: bool = False) -> Outcome:
    """Success means that a valid record exists. `starved`: the kernel has killed for want of memory meanwhile."""
    if _recorded(planned):
        return Outcome("done")
    if code == 5:
        return Outcome("stopped", "saved; the same command continues")
    last = Workspace(planned.id).last_attempt()
    if code == 0 and last and last.cause == "trained":
        return TRAINED
    if code == 1 and last and last.cause == "stopped":  # torchrun has exit codes of its own
        return Outcome("stopped", "saved; the same command continues")
    if code < 0:
        return _killed(planned, -code, starved)
    return Outcome("failed", f"{last.cause}: {last.message}" if last else f"code: exit code {code}")


def _killed(planned: PlannedRun, number: int, starved: bool) -> Outcome:
    """Note with the run what its process could not: that it was killed, and why, as far as that can be known."""
    cause, message = note_killed(Workspace(planned.id), number, starved)
    return Outcome("failed", f"{message}; the same command continues" if CAUSES[cause].again else message)


def _recorded(planned: PlannedRun, store: Store | None = None) -> bool:
    store = store or Store()
    if not store.path(planned.id).exists() or superseded(Workspace(planned.id), store):
        return False
    return (store.evaluation(planned.evaluation) if planned.evaluation else store.run(planned.run)) is not None


def _tell(planned: PlannedRun, watcher: Watcher, workspace: Workspace | None = None) -> object:
    """Tell how far the run is; returns what it reported, to compare."""
    progress = (workspace or Workspace(planned.id)).progress()
    if progress:
        note = "" if progress.loss is None else f"loss {progress.loss:.3f}"
        note += f"  {progress.rate:.1f} images/s" if progress.rate else ""
        watcher.progressed(planned, progress.phase, progress.done, progress.total, note)
    return progress
