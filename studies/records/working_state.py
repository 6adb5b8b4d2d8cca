"""What stands in the small files of a run's folder, as values: who works on it, how far it is, how its attempts ended.

Each file has one reader and one writer, in `studies.records.workspace`. `studies.plan.jobspec` writes
what a worker has to do.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from segnext.config import Execution
from studies.records.typed import Natural

ProcessId = Annotated[int, Meta(gt=1, lt=2**31)]  # 0, -1 and less mean groups of processes to `kill`, and 1 is init
Moment = Annotated[float, Meta(ge=0, lt=1e11)]  # seconds since 1970, UTC
JobId = Annotated[str, Meta(pattern=r"^([1-9][0-9]*(_[0-9]+)?)?\Z")]  # as squeue writes it; empty outside of SLURM
Cause = Annotated[str, Meta(pattern=r"^[a-z_]+\Z")]  # a word of `studies.records.causes`, or `done`, `trained`
Token = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]*\Z")]  # names a folder, and a job


@dataclass(frozen=True)
class Process:
    """A process, told from every other one that ever had its number.

    `place` is where its number means it: this start of the machine and, in a container, its own numbers.
    """

    host: str
    pid: ProcessId
    born: str  # as /proc has it: when it started
    place: str = ""

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        return cls(socket.gethostname(), os.getpid(), born(os.getpid()) or "", place())

    @property
    def here(self) -> bool:
        """Whether it can be looked at from here, and signalled."""
        return self.host == socket.gethostname() and self.place == place()

    @property
    def alive(self) -> bool:
        """Whether it still is. Only where it is `here`."""
        return born(self.pid) == self.born

    def ask_to_leave(self) -> None:
        """Send SIGTERM to this very process. `ProcessLookupError` where it is over or not here, `PermissionError`."""
        if not self.here:
            raise ProcessLookupError(None, "it is not a process of this machine")
        if not hasattr(os, "pidfd_open"):
            if not self.alive:
                raise ProcessLookupError(None, "it is over")
            os.kill(self.pid, signal.SIGTERM)
            return
        handle = os.pidfd_open(self.pid)  # from here on the number cannot become another process's
        try:
            if not self.alive:
                raise ProcessLookupError(None, "it is over")
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Claim:
    """claim.json: who works on the run; touched as a heartbeat."""

    process: Process
    token: str
    job: JobId = ""
    restart: Natural = 0  # how often SLURM has started the job again
    node: str = ""
    code: str = ""  # the snapshot that it runs from


@dataclass(frozen=True)
class Submission:
    """submission.json: the job that is to do the run: written before sbatch is called, its id afterwards."""

    token: Token  # the job's name in the queue
    index: Natural  # of its element
    submitted: Moment
    user: str
    process: Process  # that calls sbatch
    snapshot: Token  # the code that it will run
    job: JobId | None = None
    cancelled: str = ""  # by whom
    memory: str = ""  # that the job asked for; empty: none
    sharing: Natural = 1  # runs that its element has at most


@dataclass(frozen=True)
class Progress:
    """progress.json: how far the run is; replaced about twice a second."""

    phase: str
    done: Natural
    total: Natural
    loss: float | None = None
    rate: Annotated[float, Meta(gt=0)] | None = None  # images a second


@dataclass
class Attempt:
    """attempts/001.json: one attempt. It says `killed` from its start on, so that a kill leaves the truth."""

    host: str
    pid: ProcessId
    started: Moment
    cause: Cause = "killed"
    message: str = ""
    job: JobId = ""
    restart: Natural = 0
    node: str = ""
    nodes: str = ""
    code: str = ""  # fingerprint of what trains
    processes: Natural = 1
    gpus: Natural = 0
    sharing: Natural = 1  # runs that its card was given to
    begins_after: Natural = 0  # iterations that were saved before it
    ends_after: Natural | None = None  # and after it
    finished: Moment | None = None  # None: under way, or killed

    @property
    def seconds(self) -> float:
        """How long it took, or is taking."""
        return max(0.0, (self.finished if self.finished is not None else time.time()) - self.started)


@dataclass(frozen=True)
class JobSpec:
    """spec.json: what a worker is to do, whole: written before it starts, read by it and by every command.

    `runs` are canonical configurations: the run's own, then what it starts from. The names of study, panel and row say
    where a table shows it; they are not looked up to find out what it is.
    """

    study: str
    dataset: str  # the panel of the table; what the run is trained on is the protocol's
    row: str
    protocol: str
    seed: Natural
    runs: tuple[dict[str, object], ...]
    execution: Execution
    command: str
    limit_iterations: Natural | None = None
    upstream: Natural = 0  # runs between it and the row's own, which starts from it
    evaluation: Literal["", "run", "file"] = ""  # a test of finished weights instead of a training: of which
    ham_seed: Natural = 0
    weights: str | None = None  # the file, of a test of a file
    weights_sha256: str = ""
    data_root: str | None = None
    pretrained: str | None = None
    tensorboard: bool = False
    train_only: bool = False
    supersedes: str | None = None  # the digest of the record that its own is to replace
    options: tuple[str, ...] = field(default=())  # the words that start the run again, after its selector


def job() -> str:
    """The SLURM job that this process is part of, as squeue writes it: `812_3`, `812`; empty outside of one."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")


def restarts() -> int:
    """How often SLURM has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


@cache
def place() -> str:
    """This start of this machine and, in a container, its own numbers of processes; empty where there is no /proc."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def born(pid: int) -> str | None:
    """When a process of this machine started, to tell it from a later one with its number; None when it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if state == "Z" else fields[18]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # no /proc (macOS): whether it is there is all that can be told
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"
