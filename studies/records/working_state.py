"""The small files in a run's folder as values: its owner, its progress, and how its attempts ended.

Each file has one reader and one writer, in `studies.records.workspace`. `studies.plan.jobspec` makes the worker's
specification.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from segnext.config import Execution
from studies.records.typed import Natural

ProcessId = Annotated[int, Meta(gt=1, lt=2**31)]  # for `kill`, 0 and below are groups of processes; 1 is init
Moment = Annotated[float, Meta(ge=0, lt=1e11)]  # seconds since 1970, UTC
JobId = Annotated[str, Meta(pattern=r"^([1-9][0-9]*(_[0-9]+)?)?\Z")]  # as squeue prints it; "" outside SLURM
Cause = Annotated[str, Meta(pattern=r"^[a-z_]+\Z")]  # one of `studies.records.causes`, or `done` or `trained`
Token = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]*\Z")]  # the name of a folder and of a job


class Process(Struct, frozen=True):
    """A process, distinguished from every other one that ever had its id.

    `place` is where the id is valid: this boot of the machine and, in a container, its namespace of process ids.
    """

    host: str
    pid: ProcessId
    born: str  # start time from /proc
    place: str = ""

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        return cls(socket.gethostname(), os.getpid(), born(os.getpid()) or "", place())

    @property
    def here(self) -> bool:
        """Whether it can be seen and signalled from here."""
        return self.host == socket.gethostname() and self.place == place()

    @property
    def alive(self) -> bool:
        """Whether it still runs; only valid if it is `here`."""
        return born(self.pid) == self.born

    def ask_to_leave(self) -> None:
        """Send SIGTERM to exactly this process.

        Raises `ProcessLookupError` if it has ended or is not here, and `PermissionError`.
        """
        if not self.here:
            raise ProcessLookupError(None, "it is not a process of this machine")
        if not hasattr(os, "pidfd_open"):
            if not self.alive:
                raise ProcessLookupError(None, "it is over")
            os.kill(self.pid, signal.SIGTERM)
            return
        handle = os.pidfd_open(self.pid)  # from here on the id cannot be reused by another process
        try:
            if not self.alive:
                raise ProcessLookupError(None, "it is over")
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)


class Claim(Struct, frozen=True):
    """claim.json: the owner of the run; touched as a heartbeat."""

    process: Process
    token: str
    job: JobId = ""
    restart: Natural = 0  # how often SLURM has restarted the job
    node: str = ""
    code: str = ""  # the snapshot from which it runs


class Submission(Struct, frozen=True):
    """submission.json: the job that will do the run; written before sbatch is called, its job id afterwards."""

    token: Token  # the job's name in the queue
    index: Natural  # index of the array element
    submitted: Moment
    user: str
    process: Process  # the process that calls sbatch
    snapshot: Token  # the code that the job will run
    job: JobId | None = None
    cancelled: str = ""  # the user who cancelled it
    memory: str = ""  # the memory that the job asked for; empty: none
    sharing: Natural = 1  # the most runs that its array element has


class Progress(Struct, frozen=True):
    """progress.json: the run's progress; replaced about twice a second."""

    phase: str
    done: Natural
    total: Natural
    loss: float | None = None
    rate: Annotated[float, Meta(gt=0)] | None = None  # images per second


class Attempt(Struct):
    """attempts/001.json: one attempt. Its cause is `killed` from the start, so that it is right after a kill."""

    host: str
    pid: ProcessId
    started: Moment
    cause: Cause = "killed"
    message: str = ""
    job: JobId = ""
    restart: Natural = 0
    node: str = ""
    nodes: str = ""
    code: str = ""  # fingerprint of the code
    processes: Natural = 1
    gpus: Natural = 0
    sharing: Natural = 1  # runs that its card was given to
    begins_after: Natural = 0  # iterations saved when it started
    ends_after: Natural | None = None  # iterations saved when it ended
    finished: Moment | None = None  # None: running, or killed

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return max(0.0, (self.finished if self.finished is not None else time.time()) - self.started)


class JobSpec(Struct, frozen=True):
    """spec.json: everything that a worker needs; written before it starts, read by it and by every command.

    `runs` are canonical configurations: the run's own, then those of its upstream runs. Study, panel and row only say
    where a table shows the run; they are not looked up to find out what it is.
    """

    study: str
    dataset: str  # the table's panel; the protocol decides on which data the run is trained
    row: str
    protocol: str
    seed: Natural
    runs: tuple[dict[str, object], ...]
    execution: Execution
    command: str
    limit_iterations: Natural | None = None
    upstream: Natural = 0  # as `PlannedRun.upstream`
    evaluation: Literal["", "run", "file"] = ""  # whose finished weights to test instead of training
    ham_seed: Natural = 0
    weights: str | None = None  # the file, for the test of a file
    weights_sha256: str = ""
    weights_rank: Natural = 0  # of Ham, with which the file was trained; 0: the row's
    data_root: str | None = None
    pretrained: str | None = None
    tensorboard: bool = False
    train_only: bool = False
    supersedes: str | None = None  # digest of the record that its own will replace
    options: tuple[str, ...] = ()  # after its selector, the words that start the run again


def timestamp(moment: float) -> str:
    """A moment in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def job() -> str:
    """The SLURM job of this process as squeue prints it, `812_3` or `812`; "" outside SLURM."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")


def restarts() -> int:
    """How often SLURM has restarted this job."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


@cache
def place() -> str:
    """This boot of the machine and, in a container, its namespace of process ids; "" if there is no /proc."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def born(pid: int) -> str | None:
    """The start time of a process here, which distinguishes it from a later one with its id; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if state == "Z" else fields[18]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # no /proc (macOS): only its existence can be found out
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"
