"""What SLURM knows of submitted runs: one squeue for all of them, and one sacct for those that left the queue.

Never a query per run, and none at all for runs that are recorded or whose heartbeat is seen. Success is not decided
here: that is a record.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from studies.state import Submission

TIMEOUT_SECONDS = 60.0

# Every state that SLURM 24 has, as (where the job stands, the cause if it is over): `waiting`, `running` or `over`.
STATES: dict[str, tuple[str, str]] = {
    "BOOT_FAIL": ("over", "node_failure"),
    "CANCELLED": ("over", "cancelled"),
    "COMPLETED": ("over", ""),  # the worker's own attempt says how it went
    "COMPLETING": ("running", ""),
    "CONFIGURING": ("waiting", ""),
    "DEADLINE": ("over", "time_limit"),
    "EXPEDITING": ("waiting", ""),
    "FAILED": ("over", "killed"),
    "LAUNCH_FAILED": ("over", "node_failure"),
    "NODE_FAIL": ("over", "node_failure"),
    "OUT_OF_MEMORY": ("over", "out_of_memory"),
    "PENDING": ("waiting", ""),
    "POWER_UP_NODE": ("waiting", ""),
    "PREEMPTED": ("over", "preempted"),
    "RECONFIG_FAIL": ("over", "node_failure"),
    "REQUEUED": ("waiting", ""),
    "REQUEUE_FED": ("waiting", ""),
    "REQUEUE_HOLD": ("waiting", ""),
    "RESIZING": ("running", ""),
    "RESV_DEL_HOLD": ("waiting", ""),
    "REVOKED": ("over", "cancelled"),
    "RUNNING": ("running", ""),
    "SIGNALING": ("running", ""),
    "SPECIAL_EXIT": ("waiting", ""),
    "STAGE_OUT": ("running", ""),
    "STOPPED": ("running", ""),
    "SUSPENDED": ("running", ""),
    "TIMEOUT": ("over", "time_limit"),
    "UPDATE_DB": ("running", ""),
}


class Unreachable(Exception):
    """The scheduler does not answer, or is not installed: nothing is known about any job."""


class Refused(Exception):
    """The scheduler answered, and the answer is no."""


@dataclass(frozen=True)
class Job:
    """One array element as SLURM has it. `place` is `waiting`, `running`, `over` or `unknown`."""

    id: str
    state: str
    place: str
    cause: str = ""
    nodes: str = ""
    reason: str = ""  # why it waits

    @classmethod
    def of(cls, identifier: str, state: str, nodes: str = "", reason: str = "") -> Job:
        """Read the state as SLURM prints it: `CANCELLED by 0` and `CANCELLED+` are CANCELLED."""
        word = (state.split() or [""])[0].rstrip("+")
        place, cause = STATES.get(word, ("unknown", ""))
        return cls(identifier, word, place, cause, nodes, "" if reason == "None" else reason)


def call(*words: str) -> str:
    """What one of SLURM's commands prints. Raises `Unreachable`, or `Refused` with its own words."""
    # One's own SQUEUE_STATES or SQUEUE_USERS would hide jobs; and SLURM cuts what names many elements to 64 characters.
    own = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    own["SLURM_BITSTR_LEN"] = "0"
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False, env=own)
    except FileNotFoundError:
        raise Unreachable(f"{words[0]} is not on this machine: is this a login node of the cluster?") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{words[0]} did not answer within {TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode:
        said = spoken(done.stderr) or f"{words[0]} exited with {done.returncode}"
        raise Unreachable(said) if unreachable(said) else Refused(said)
    return done.stdout


def spoken(text: str) -> str:
    """What a command of SLURM prints, on one line and without its own name before every sentence."""
    lines = (re.sub(r"^s[a-z]+: (error: |fatal: )?", "", line.strip()) for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


def unreachable(said: str) -> bool:
    """Whether these words of a SLURM command mean that nobody answered it."""
    return bool(re.search(r"unable to contact|socket timed out|connection refused|configuration source", said, re.I))


@dataclass
class Queue:
    """SLURM's knowledge of some submissions, asked once."""

    jobs: dict[tuple[str, int], Job] = field(default_factory=dict)  # by token and index
    silence: str = ""  # why it could not be asked
    queries: int = 0

    @classmethod
    def ask(cls, submissions: Iterable[Submission]) -> Queue:
        """Ask for these. Two queries at most, however many they are; none for none."""
        wanted = {(s.token, s.index): s for s in submissions}
        queue = cls()
        if not wanted:
            return queue
        names = ",".join(sorted({token for token, _ in wanted}))
        try:
            queue.queries += 1
            told = call("squeue", "--noheader", "--array", f"--name={names}", "--format=%j|%i|%T|%N|%r")
            queue._keep(line.split("|", 4) for line in told.splitlines())
            if gone := [submission for key, submission in wanted.items() if key not in queue.jobs]:
                queue._account(names, min(submission.submitted for submission in gone))
        except (Unreachable, Refused) as error:
            queue.silence = str(error)
        return queue

    def _account(self, names: str, since: float) -> None:
        """What became of those that are no longer in the queue. Clusters without accounting answer nothing."""
        start = datetime.fromtimestamp(since - 60).isoformat(timespec="seconds")
        words = ("sacct", "--allusers", "--allocations", "--noheader", "--parsable2", f"--name={names}")
        self.queries += 1
        try:
            told = call(*words, f"--starttime={start}", "--format=JobName,JobID,State,NodeList")
        except (Unreachable, Refused):
            return
        self._keep(line.split("|", 3) for line in told.splitlines())

    def _keep(self, rows: Iterable[list[str]]) -> None:
        """Keep (token, job id, state, ...) under every index it is about.

        What names one element counts more than what names a range: accounting has `CANCELLED` for the rest of an array.
        """
        found: dict[tuple[str, int], Job] = {}
        for token, identifier, *facts in sorted(rows, key=lambda row: "[" not in row[1]):
            array, underscore, _ = identifier.partition("_")
            for index in _indices(identifier):
                found[token, index] = Job.of(f"{array}_{index}" if underscore else array, *facts)
        self.jobs = found | self.jobs

    def of(self, submission: Submission) -> Job | None:
        """The job of a submission; None where SLURM knows nothing of it (any more)."""
        return self.jobs.get((submission.token, submission.index))


def _indices(identifier: str) -> Iterator[int]:
    """The array indices of a job id as SLURM prints it: `812_3`, `812_[1-4,7%2]`; 0 for a plain job.

    What is cut short (`...`) is left out.
    """
    _, underscore, suffix = identifier.partition("_")
    if not underscore:
        yield 0
        return
    for part in suffix.strip("[]").split("%")[0].split(","):
        if named := re.fullmatch(r"(\d+)(?:-(\d+))?", part):
            yield from range(int(named[1]), int(named[2] or named[1]) + 1)


def max_array_size() -> int:
    """How many elements an array may have here. Raises `Unreachable`, and `Refused` where there are no arrays."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", call("scontrol", "show", "config"), re.MULTILINE)
    size = int(found[1]) if found else 1001  # SLURM's default
    if not size:
        raise Refused("this cluster allows no job arrays (MaxArraySize=0)")
    return size


def time_left(job: str) -> float | None:
    """Seconds until the time limit of a running job; None without a limit, or where that is not to be had.

    By limit and time used: the end that SLURM names is, of a job that is being preempted, that of its grace time.
    """
    try:
        limit, used = call("squeue", "--noheader", f"--jobs={job}", "--format=%l|%M").strip().split("|")
        return seconds(limit) - seconds(used)
    except (Unreachable, Refused, ValueError):
        return None


def seconds(duration: str) -> float:
    """A duration as SLURM writes it: `1-02:03:04`, `02:03:04`, `03:04`. `ValueError` for `UNLIMITED` and the like."""
    days, dash, clock = duration.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if not 2 <= len(parts) <= 3:
        raise ValueError(f"{duration!r} is no duration")
    clock_seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    return 86400 * int(days if dash else 0) + clock_seconds


def cancel(jobs: Iterable[str]) -> None:
    """Cancel these jobs and array elements, in one call. Raises `Unreachable`, `Refused`."""
    call("scancel", *jobs)
