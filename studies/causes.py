"""Why an attempt ended: one word each, which decides whether it is tried again and what mends it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from studies.typed import Damaged


@dataclass(frozen=True)
class Cause:
    """What a cause means. `again`: whether the same command starts the run again without being told to.

    `remedy` is what mends it; `{run}` stands for the command that starts the run again, `{selector}` for the run.
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
    "not_started": Cause("the job ended before the run began", False, "python -m studies.logs {selector}"),
    "out_of_memory": Cause(
        "out of memory",
        False,
        "{run} --retry out_of_memory, with fewer at a time (--max-parallel, --workers), more --gpus, or more memory in "
        "the profile",
    ),
    "diverged": Cause("the loss is not finite", False, "python -m studies.logs {selector}; {run} --retry diverged"),
    "data": Cause("bad data", False, "python -m segnext.data check {dataset}; {run} --retry data"),
    "damaged": Cause("a file of it is damaged", False, "see what mends it beside the run's state; then {run}"),
    "code": Cause("an error in the code", False, "python -m studies.logs {selector}; {run} --retry code"),
}
"""Every cause of a failure. What would only fail again is not started again before somebody has looked."""

AGAIN = tuple(name for name, cause in CAUSES.items() if cause.again)


def cause_of(error: Exception) -> str:
    """The cause that an exception is."""
    from segnext.data import DataError  # numpy: not for those who only read causes

    if isinstance(error, UpstreamMissing):
        return "upstream_failed"
    if isinstance(error, Damaged):
        return "damaged"
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ArithmeticError):
        return "diverged"
    said = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "error: out of memory" in said:
        return "out_of_memory"
    if type(error).__name__ == "AcceleratorError" or (isinstance(error, RuntimeError) and "CUDA error" in said):
        return "device"  # an ECC error, a launch that failed, a card that is gone: nothing works in this process again
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
        return "not_writable"
    return "code"


class UpstreamMissing(Exception):
    """What the run starts from has no record or no weights."""
