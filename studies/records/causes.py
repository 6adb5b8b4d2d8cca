"""Why an attempt ended: one word, which decides whether the run is started again, and the remedy."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path

from studies.records.typed import Damaged


@dataclass(frozen=True)
class Cause:
    """The meaning of a cause. `again` says whether the same command starts the run again without --retry.

    In `remedy`, `{run}` stands for the command that starts the run again, `{selector}` for the run.
    """

    words: str
    again: bool
    remedy: str = "{run}"


CAUSES = {
    "stopped": Cause("stopped by a signal", True),
    "preempted": Cause("preempted by another job", True),
    "time_limit": Cause("the time limit was reached", True),
    "node_failure": Cause("its node failed", True),
    "device": Cause("the GPU failed", True),
    "cancelled": Cause("cancelled", True),
    "killed": Cause("killed from outside", True),
    "lost": Cause("gone from the queue, and accounting knows nothing (cancelled while it waited?)", True),
    "disk_full": Cause("a disk was full", True),
    "not_writable": Cause("a folder could not be written", True),
    "upstream_failed": Cause("what it starts from did not finish", True),
    "no_progress": Cause(
        "twice nothing was saved before the time limit", False, "{run} --retry no_progress --time D-HH"
    ),
    "not_started": Cause(
        "the job ended before the run began", False, "python -m studies.logs {selector}; {run} --retry not_started"
    ),
    "out_of_memory": Cause(
        "out of memory",
        False,
        "{run} --retry out_of_memory, with fewer at a time (--max-parallel, --workers), more --gpus, or more memory in "
        "the profile",
    ),
    "diverged": Cause("the loss is not finite", False, "python -m studies.logs {selector}; {run} --retry diverged"),
    "other_data": Cause(
        "the data are others than those that it began with",
        True,
        "{run}, with the --data-root that it began with, or with --rerun failed to start anew",
    ),
    "other_weights": Cause(
        "the weights that it needs are others than those that were recorded",
        False,
        "python -m studies.logs {selector}; {run} --retry other_weights",
    ),
    "data": Cause("bad data", False, "python -m segnext.data check {dataset}; {run} --retry data"),
    "damaged": Cause("one of its files is damaged", False, "apply the remedy beside the run's state; then {run}"),
    "code": Cause("an error in the code", False, "python -m studies.logs {selector}; {run} --retry code"),
}
"""Every cause of a failure. A run that would only fail again is not started again before a person has looked."""

AGAIN = tuple(name for name, cause in CAUSES.items() if cause.again)


_KILLED_LOADER = re.compile(
    r"DataLoader worker \(pid.*\) (?:is killed by signal: (Killed|Terminated|Bus error)|exited unexpectedly$)"
)
"""torch's message, which its handler of SIGCHLD raises anywhere in the main thread."""

_EVENTS = {
    "": (Path("/sys/fs/cgroup"), "memory.events"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.oom_control"),  # version 1
}


def oom_kills() -> int:
    """The number of processes that the kernel has killed for lack of memory, in this control group or else machine.

    0 if the OS does not report it.
    """
    groups = (line.split(":", 2)[1:] for line in _lines(Path("/proc/self/cgroup")))
    events = [_EVENTS[kind][0] / own.lstrip("/") / _EVENTS[kind][1] for kind, own in groups if kind in _EVENTS]
    lines = [line for path in events for line in _lines(path)] or _lines(Path("/proc/vmstat"))
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def cause_of(error: Exception, out_of_memory: bool = False) -> str:
    """The cause for an exception. `out_of_memory` says whether the kernel killed a process for that meanwhile."""
    from segnext.data import DataError  # imports numpy, which reading causes does not need
    from segnext.data.source import OtherData

    if isinstance(error, UpstreamMissing):
        return "upstream_failed"
    if isinstance(error, Damaged):
        return "damaged"
    if isinstance(error, OtherData):
        return "other_data"
    if isinstance(error, OtherWeights):
        return "other_weights"
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ArithmeticError):
        return "diverged"
    said = str(error)
    if isinstance(error, RuntimeError) and (loader := _KILLED_LOADER.search(said)):
        if loader[1] == "Bus error":  # /dev/shm is full, through which loaders pass what they load
            return "out_of_memory"
        return "out_of_memory" if out_of_memory else "killed"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "error: out of memory" in said:
        return "out_of_memory"
    if type(error).__name__ == "AcceleratorError" or (isinstance(error, RuntimeError) and "CUDA error" in said):
        return "device"  # ECC error, failed launch, lost GPU: this process cannot use the GPU again
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
        return "not_writable"
    return "code"


class UpstreamMissing(Exception):
    """The run that this one starts from has no record or no weights."""


class OtherWeights(ValueError):
    """Weights on disk differ from those that a record or a plan names."""
