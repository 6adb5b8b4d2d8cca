"""Where runs are carried out: `local` (processes of this machine) or `debug` (in this process, one after the other)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from segnext.config import Execution
from studies import snapshot
from studies.plan import Cell, upstream
from studies.standing import Standing, settle, superseded
from studies.store import Store, results_folder, runs_folder
from studies.worker import work
from studies.workspace import Workspace

POLL_SECONDS = 0.2
FOLLOW_SECONDS = (2.0, 60.0)  # between two questions to the scheduler, at first and at most
GRACE_SECONDS = 120.0  # how long a worker may take to save and leave before it is killed


class Watcher(Protocol):
    """Is told what becomes of the runs."""

    def progressed(self, cell: Cell, phase: str, done: int, total: int, note: str) -> None:
        """The run is in `phase`, `done` of `total`."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """The run is over, one way or another."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `done`, `failed` or `stopped` (can be continued)."""

    state: str
    message: str = ""


TRAINED = Outcome("done", "trained; --only evaluate tests it")


def run_local(
    cells: Sequence[Cell],
    parallel: int,
    execution: Execution,
    watcher: Watcher,
    asked_to_stop: Callable[[], bool],
) -> dict[str, Outcome]:
    """Work on the cells as processes of this machine, `parallel` at a time.

    Own processes instead of submitit's local executor: that one starts every job at once and reports nothing until the
    end. A run that someone else is working on is waited for. When asked to stop, workers save at their next step.
    """
    code = snapshot.take()
    waiting = list(cells)
    working: dict[str, tuple[Cell, subprocess.Popen[bytes] | None]] = {}
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
                outcomes.update({cell.id: Outcome("stopped", "not started") for cell in waiting})
                waiting.clear()
            late = stopped_at is not None and time.monotonic() - stopped_at > GRACE_SECONDS
            while len(working) < parallel and (cell := _next(waiting, working)):
                waiting.remove(cell)
                if (failed := _upstream_failure(cell, outcomes)) is not None:
                    outcomes[cell.id] = failed
                    watcher.ended(cell, failed)
                    continue
                elsewhere = Workspace(cell.id).owner() is not None
                watcher.progressed(cell, "waits" if elsewhere else "starts", 0, cell.total, "")
                working[cell.id] = (cell, None if elsewhere else _start(cell, execution, code))
            for run_id, (cell, process) in list(working.items()):
                _tell(cell, watcher)
                if late and process is not None:
                    process.kill()
                outcome = _outcome(cell, process, stopping=stopped_at is not None)
                if outcome is not None and outcome.state == "failed" and Workspace(run_id).owner() is not None:
                    working[run_id] = (cell, None)  # somebody else was quicker: waited for
                elif outcome is not None:
                    del working[run_id]
                    outcomes[run_id] = outcome
                    watcher.ended(cell, outcome)
                elif process is None and Workspace(run_id).owner() is None:
                    working[run_id] = (cell, _start(cell, execution, code))  # whoever had it left it unfinished
            time.sleep(POLL_SECONDS)
    finally:
        for _, process in working.values():
            if process is not None and process.poll() is None:
                process.terminate()
    return outcomes


def run_debug(cells: Sequence[Cell], watcher: Watcher, asked_to_stop: Callable[[], bool]) -> dict[str, Outcome]:
    """Work on the cells in this process, one after the other, so that a debugger and a profiler can look inside."""
    outcomes: dict[str, Outcome] = {}
    for cell in cells:
        if asked_to_stop():
            outcomes[cell.id] = Outcome("stopped", "not started")
            continue
        outcomes[cell.id] = _upstream_failure(cell, outcomes) or _judge(cell, work(cell.id, asked_to_stop))
        watcher.ended(cell, outcomes[cell.id])
    return outcomes


def follow(cells: Sequence[Cell], watcher: Watcher, asked_to_stop: Callable[[], bool]) -> dict[str, Outcome]:
    """Watch submitted runs until all are over. Heartbeats are looked at often, the queue less and less often."""
    outcomes: dict[str, Outcome] = {}
    pause, asked = FOLLOW_SECONDS[0], time.monotonic()
    while len(outcomes) < len(cells) and not asked_to_stop():
        open_ = [cell for cell in cells if cell.id not in outcomes]
        ended = {cell.id: Outcome("done") for cell in open_ if _recorded(cell)}
        for cell in open_:
            _tell(cell, watcher)
        if not ended and time.monotonic() - asked >= pause:
            stands, _ = settle((cell.wanted for cell in open_), Store())
            ended = {key: over for key, s in stands.items() if (over := _over(s)) is not None}
            pause, asked = min(1.5 * pause, FOLLOW_SECONDS[1]), time.monotonic()
        for cell in open_:
            if cell.id in ended:
                outcomes[cell.id] = ended[cell.id]
                watcher.ended(cell, ended[cell.id])
        if ended:
            pause = FOLLOW_SECONDS[0]
        time.sleep(POLL_SECONDS)
    return outcomes | {cell.id: Outcome("stopped", "goes on") for cell in cells if cell.id not in outcomes}


def _over(stands: Standing) -> Outcome | None:
    """The outcome of a submitted run that is neither recorded nor in the queue any more."""
    match stands.state:
        case "trained":
            return TRAINED
        case "stopped" | "failed" | "new":
            return Outcome("failed", ": ".join(filter(None, (stands.cause, stands.detail))) or "left the queue")
    return None


def _next(waiting: Sequence[Cell], working: Iterable[str]) -> Cell | None:
    """The first cell that waits for no run under way or still to come."""
    unfinished = {*working, *(cell.id for cell in waiting)}
    free = (cell for cell in waiting if (before := upstream(cell)) is None or before.id not in unfinished)
    return next(free, None)


def _upstream_failure(cell: Cell, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """Why a cell cannot start: what it starts from did not end well."""
    before = upstream(cell)
    if before is None or before.id not in outcomes or outcomes[before.id].state == "done":
        return None
    ended = outcomes[before.id]
    return Outcome(ended.state, f"upstream_{ended.state}: {before.id} on {before.data.dataset}")


def _start(cell: Cell, execution: Execution, code: Path) -> subprocess.Popen[bytes]:
    workspace = Workspace(cell.id)
    workspace.forget_progress()
    snapshot.renew(code)
    threads = str(execution.threads)
    folders = {"SEGNEXT_RESULTS": str(results_folder()), "SEGNEXT_RUNS": str(runs_folder())}
    environment = {**os.environ, **folders, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={execution.processes}"]
    with open(workspace.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, *(launcher if execution.processes > 1 else []), "-m", "studies.worker", cell.id],
            cwd=code,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then asks its workers to save
        )


def _outcome(cell: Cell, process: subprocess.Popen[bytes] | None, stopping: bool) -> Outcome | None:
    if process is None:
        if _recorded(cell):
            return Outcome("done", "by another process")
        return Outcome("stopped", "another process is working on it") if stopping else None
    code = process.poll()
    return None if code is None else _judge(cell, code)


def _judge(cell: Cell, code: int) -> Outcome:
    """Success means that a valid record exists; nothing else does."""
    if _recorded(cell):
        return Outcome("done")
    if code == 5:
        return Outcome("stopped", "saved; the same command continues")
    attempts = Workspace(cell.id).attempts()
    if code == 0 and attempts and attempts[-1]["cause"] == "trained":
        return TRAINED
    if code == 1 and attempts and attempts[-1]["cause"] == "stopped":  # torchrun has exit codes of its own
        return Outcome("stopped", "saved; the same command continues")
    if code < 0:
        return Outcome("failed", f"killed by {signal.Signals(-code).name}; the same command continues")
    last = attempts[-1] if attempts else {"cause": "code", "message": f"exit code {code}"}
    return Outcome("failed", f"{last['cause']}: {last['message']}")


def _recorded(cell: Cell) -> bool:
    store = Store()
    if not store.path(cell.id).exists() or superseded(Workspace(cell.id), store):
        return False
    return (store.evaluation(cell.evaluation) if cell.evaluation else store.run(cell.run)) is not None


def _tell(cell: Cell, watcher: Watcher) -> None:
    progress = Workspace(cell.id).progress()
    if progress:
        note = f"loss {progress['loss']:.3f}  {progress['rate']:.1f} images/s" if "loss" in progress else ""
        watcher.progressed(cell, progress["phase"], progress["done"], progress["total"], note)
