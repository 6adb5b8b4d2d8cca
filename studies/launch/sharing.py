"""Several runs side by side in one job, on one card: each a worker of its own, with its claim, its log, its attempts.

This process only starts them, hands signals on, and waits. A run that ends, well or not, leaves the others alone, and
its job: its submission goes, so that the job's next start, after a preemption or a time limit, continues those that are
left. It goes back to the queue once, after the last has saved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from studies.launch.ending import note_killed, notify
from studies.records.causes import oom_kills
from studies.records.typed import Damaged
from studies.records.working_state import Attempt, job, restarts
from studies.records.workspace import Workspace
from studies.slurm import scheduler

LOOK_SECONDS = 0.25  # between two looks at the workers and at their memory
CANCELLED_SECONDS = 10.0  # between two looks whether somebody cancelled one of them
SIGNAL_SECONDS = 1.0  # between two signals to those that have not left: one that still starts does not hear the first
FULL = 0.95  # of a job's memory; SLURM and the kernel end more than the run that takes the rest
REQUEUED = ("time_limit", "preempted")
"""Causes after which a job goes back to the queue by itself."""


def share(identifiers: Sequence[str], heard: Callable[[], int | None], number: int) -> tuple[int, list[str]]:
    """Carry out those of these runs that this job still has to do.

    `heard` is the signal that asks to stop, `number` how many runs a full card has. Returns the exit code and the runs
    with which the job is to go back to the queue.
    """
    kills, limit = oom_kills(), _memory_limit()
    workers = {name: _start(name, number) for name in identifiers if _ours(name)}
    print(f"job {job()}: {len(workers)} of {len(identifiers)} runs side by side", flush=True)
    codes: dict[str, int] = {}
    signalled = looked = time.monotonic()
    while workers:
        now = time.monotonic()
        if (asked := heard()) is not None and now - signalled >= SIGNAL_SECONDS:
            signalled = now
            _signal(workers.values(), asked)
        if now - looked >= CANCELLED_SECONDS:
            looked = now
            _signal((workers[name] for name in list(workers) if _cancelled(name)), signal.SIGTERM)
        greedy = _spare_the_others(workers, limit) if limit else None
        for name, worker in list(workers.items()):
            if (code := worker.poll()) is not None:
                del workers[name]
                codes[name] = code
                _ended(name, code, oom_kills() > kills, noted=name == greedy)
                if asked is None:
                    _release(name)
        time.sleep(LOOK_SECONDS)
    left = [name for name in codes if (last := _attempt(name)) and last.finished and last.cause in REQUEUED]
    for name in codes if left else ():
        last = _attempt(name)
        if last and last.cause not in (*REQUEUED, "killed", "stopped"):  # it ended by itself while the others saved
            _release(name)
    return 5 if left else int(any(codes.values())), left


def _start(name: str, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "studies.worker", name],
        env={**os.environ, "SEGNEXT_SHARING": str(number)},
        stdin=subprocess.DEVNULL,
        preexec_fn=_deaf,
    )


def _deaf() -> None:
    """A worker is deaf to the warning until it can save: it would be killed by it while it imports."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _signal(workers: Iterable[subprocess.Popen[bytes]], number: int) -> None:
    for worker in workers:
        with suppress(ProcessLookupError):
            worker.send_signal(number)


def _ours(name: str) -> bool:
    """Whether this job still has to do the run: it has not ended in it, was not cancelled, and is nobody else's now."""
    try:
        submission = Workspace(name).submission.read()
    except Damaged:
        return True  # its claim decides
    return submission is not None and not submission.cancelled and submission.job in (None, job())


def _cancelled(name: str) -> bool:
    try:
        submission = Workspace(name).submission.read()
    except Damaged:
        return False
    return submission is not None and bool(submission.cancelled)


def _ended(name: str, code: int, starved: bool, *, noted: bool) -> None:
    """Say of a run that was killed what its own process could not. `noted`: the attempt has it already."""
    last = _attempt(name)
    if code >= 0 or (last and last.finished and not noted):
        return
    workspace = Workspace(name)
    cause = last.cause if last and noted else note_killed(workspace, -code, starved)[0]
    print(f"{name}: {cause}", flush=True)
    notify(workspace, cause)


def _release(name: str) -> None:
    """The run has ended by itself while its job goes on, which has nothing to do with it any more."""
    workspace = Workspace(name)
    with suppress(Damaged):
        submission = workspace.submission.read()
        if submission is not None and not submission.cancelled and submission.job in (None, job()):
            workspace.submission.remove(submission)


def _attempt(name: str) -> Attempt | None:
    """The run's attempt in this start of this job."""
    last = Workspace(name).last_attempt()
    return last if last and (last.job, last.restart) == (job(), restarts()) else None


def _memory_limit() -> int:
    """Bytes above which SLURM ends all runs of a job; 0 where it does not.

    Where jobs have control groups the kernel ends the one process that holds most: nothing is left to do here.
    """
    limit = int(os.environ.get("SLURM_MEM_PER_NODE") or 0) << 20
    try:
        if not limit or "slurm" in Path("/proc/self/cgroup").read_text():
            return 0
        return limit if "OverMemoryKill" in scheduler.call("scontrol", "show", "config") else 0
    except (OSError, scheduler.Unreachable, scheduler.Refused):
        return 0


def _spare_the_others(workers: dict[str, subprocess.Popen[bytes]], limit: int) -> str | None:
    """End the run that holds most where the job's memory is nearly full; its id."""
    held = memory_of([worker.pid for worker in workers.values()])
    if sum(held.values()) < FULL * limit:
        return None
    name, worker = max(workers.items(), key=lambda item: held[item[1].pid])
    with suppress(ProcessLookupError):
        worker.kill()
    worker.wait()
    Workspace(name).amend_attempt(
        "out_of_memory",
        f"it held {held[worker.pid] / 1e9:.1f} GB of the job's {limit / 1e9:.1f} GB, which were nearly full: ended, so "
        "that the runs beside it go on",
    )
    return name


def memory_of(processes: Sequence[int]) -> dict[int, int]:
    """Bytes that each process and its children hold, by its number; what several share counts in each, as for SLURM."""
    page = os.sysconf("SC_PAGE_SIZE")
    own: dict[int, int] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):  # one that has just ended
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            own[int(folder.name)] = page * int((folder / "statm").read_text().split()[1])
    found = dict.fromkeys(processes, 0)
    for process in own:
        above: int | None = process
        while above is not None and above not in found:
            above = parents.get(above)
        if above is not None:
            found[above] += own[process]
    return found
