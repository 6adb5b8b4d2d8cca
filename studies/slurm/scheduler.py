"""What SLURM knows of submitted runs: one squeue for all of them, and one sacct for those that left the queue.

Never a query per run, and none at all for runs that are recorded or whose heartbeat is seen. Success is not decided
here: that is a record.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from studies.records.external import Absent as Absent
from studies.records.external import Refused as Refused
from studies.records.external import Unreachable as Unreachable
from studies.records.external import slurm
from studies.records.working_state import Submission

_NO_ACCOUNTING = re.compile(r"accounting storage is disabled|a supported accounting_storage plugin", re.IGNORECASE)
VANISHED_SECONDS = 600.0  # without a sign of life after which a job that only accounting still has counts as lost

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


@dataclass(frozen=True)
class Job:
    """One array element as SLURM has it. `place` is `waiting`, `running`, `over`, `unknown` or `vanished`.

    `vanished`: accounting says that it waits or runs, but it is not in the queue. Either accounting will hear of its
    end in a moment, or the controller has lost it (a "runaway job"), and then it says so for ever.
    """

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


BUSY_SECONDS = (1.0, 2.0, 4.0, 8.0)  # before each further question to a busy controller; half to once and a half
PATIENCE = 30.0  # seconds after which nobody is asked again: one who hangs for that long hangs the next time, too
_BUSY = re.compile(r"timed out|temporarily unavailable|connection reset|zero bytes|try again|rate limit", re.IGNORECASE)
_NOTHING_DONE = re.compile(r"resource temporarily unavailable|rate limit", re.IGNORECASE)


def call(*words: str, cluster: str = "", kept: Iterable[str] = ()) -> str:
    """What one of SLURM's commands prints; a busy controller is asked again, later and later.

    Not so sbatch where it is silent on whether the job was accepted: a second one would be a second job. Raises
    `Unreachable`, or `Refused` with its own words.
    """
    began = time.monotonic()
    for pause in BUSY_SECONDS:
        try:
            return slurm(*words, cluster=cluster, kept=kept)
        except (Unreachable, Refused) as error:
            if time.monotonic() - began > PATIENCE or not (_NOTHING_DONE if words[0] == "sbatch" else _BUSY).search(
                str(error)
            ):
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))  # all runs of a cluster that is back ask at once otherwise
    return slurm(*words, cluster=cluster, kept=kept)


def named(name: str, cluster: str) -> str:
    """A job's name that also says to which of several clusters it was submitted: there it is asked for."""
    return f"{name}@{cluster}" if cluster else name


def cluster_of(token: str) -> str:
    """The cluster that a job's name names; empty: this machine's own."""
    return token.partition("@")[2]


@dataclass
class Queue:
    """SLURM's knowledge of some submissions, asked once."""

    jobs: dict[tuple[str, int], Job] = field(default_factory=dict)  # by token and index
    silent: dict[str, str] = field(default_factory=dict)  # by cluster: why it could not be asked
    mute: dict[str, str] = field(default_factory=dict)  # by cluster: why accounting, which there is, does not answer
    queries: int = 0

    @property
    def silence(self) -> str:
        """Why clusters could not be asked; empty if all were."""
        return "; ".join(f"cluster {name}: {why}" if name else why for name, why in self.silent.items())

    def silence_of(self, submission: Submission) -> str:
        """Why a submission's own cluster could not be asked; empty if it was."""
        return self.silent.get(cluster_of(submission.token), "")

    def mute_of(self, submission: Submission) -> str:
        """Why a submission's own cluster does not say how jobs ended; empty if it does."""
        return self.mute.get(cluster_of(submission.token), "")

    @classmethod
    def ask(cls, submissions: Iterable[Submission]) -> Queue:
        """Ask for these. Two queries at most for each cluster, however many they are; none for none."""
        queue = cls()
        clusters: dict[str, dict[tuple[str, int], float]] = {}
        for submission in submissions:
            found = clusters.setdefault(cluster_of(submission.token), {})
            found[submission.token, submission.index] = submission.submitted
        for cluster, wanted in clusters.items():
            try:
                queue._ask(cluster, wanted)
            except (Unreachable, Refused) as error:
                queue.silent[cluster] = str(error)
        return queue

    def _ask(self, cluster: str, wanted: Mapping[tuple[str, int], float]) -> None:
        names = {token for token, _ in wanted}
        name = f"--name={','.join(sorted(names))}"
        self.queries += 1
        told = call("squeue", "--noheader", "--array", name, "--format=%j|%i|%T|%N|%r", cluster=cluster)
        self._keep(_rows(told, names, 5))
        if gone := [since for key, since in wanted.items() if key not in self.jobs]:
            self._account(cluster, names, name, min(gone))

    def _account(self, cluster: str, names: Iterable[str], name: str, since: float) -> None:
        """What became of those that are no longer in the queue. Clusters without accounting answer nothing."""
        start = datetime.fromtimestamp(since - 60).isoformat(timespec="seconds")
        words = ("--allusers", "--allocations", "--noheader", "--parsable2", name, f"--starttime={start}")
        self.queries += 1
        try:
            told = call("sacct", *words, "--format=JobName,JobID,State,NodeList", cluster=cluster)
        except (Unreachable, Refused) as error:
            if not keeps_no_accounts(error):
                self.mute[cluster] = str(error)
            return
        self._keep(_rows(told, names, 4), queued=False)

    def _keep(self, rows: Iterable[list[str]], queued: bool = True) -> None:
        """Keep (token, job id, state, ...) under every index it is about.

        What names one element counts more than what names a range: accounting has `CANCELLED` for the rest of an array.
        """
        found: dict[tuple[str, int], Job] = {}
        for token, identifier, *facts in sorted(rows, key=lambda row: "[" not in row[1]):
            array, underscore, _ = identifier.partition("_")
            for index in _indices(identifier):
                job = Job.of(f"{array}_{index}" if underscore else array, *facts)
                if not queued and job.place in ("waiting", "running"):
                    job = replace(job, place="vanished")
                found[token, index] = job
        self.jobs = found | self.jobs

    def of(self, submission: Submission) -> Job | None:
        """The job of a submission; None where SLURM knows nothing of it (any more)."""
        return self.jobs.get((submission.token, submission.index))


def keeps_no_accounts(error: Unreachable | Refused) -> bool:
    """Whether a refused `sacct` means that this cluster has no accounting, rather than one that does not answer."""
    return isinstance(error, Absent) or bool(_NO_ACCOUNTING.search(str(error)))


def _rows(told: str, names: Iterable[str], columns: int) -> Iterator[list[str]]:
    """The lines about these jobs. Others are between them: `CLUSTER: wice`, what a site's wrapper greets with."""
    for line in told.splitlines():
        row = line.strip().split("|", columns - 1)
        if len(row) == columns and row[0] in names and re.match(r"\d", row[1]):
            yield row


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


def max_array_size(cluster: str = "") -> int:
    """How many elements an array may have there. Raises `Unreachable`, and `Refused` where there are no arrays."""
    said = call("scontrol", "show", "config", cluster=cluster)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
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


def cancel(jobs: Iterable[tuple[str, str]]) -> None:
    """Cancel these (job or array element, the token it was submitted as), in one call for each cluster.

    Raises `Unreachable`, `Refused`.
    """
    clusters: dict[str, list[str]] = {}
    for job, token in jobs:
        clusters.setdefault(cluster_of(token), []).append(job)
    for cluster, own in clusters.items():
        call("scancel", *own, cluster=cluster)
