"""One job = one run, or one test of finished weights: `python -m studies.worker ID[,ID ...] [ID[,ID ...] ...]`.

Of several words a SLURM array's element takes its own. Several ids in one word are runs that share a card, each with a
worker of its own (`studies.launch.sharing`).

Exit codes: 0 the record exists, 1 failed (the attempt says why), 5 stopped by a signal and resumable. A run that SLURM
preempts, or whose time is over, saves and goes back to the queue by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType

from segnext.door import forgiving
from segnext.measure.machine import keep_freed
from studies.launch.ending import OUTSIDE, notify
from studies.launch.sharing import REQUEUED, share
from studies.launch.stage import stage
from studies.launch.work import work
from studies.records.typed import Damaged
from studies.records.working_state import job, timestamp
from studies.records.workspace import Workspace
from studies.slurm import scheduler

WARNING_SECONDS = float(os.environ.get("SEGNEXT_WARNING", "120"))  # what the job was submitted with, `Profile.warning`
REQUEUE_TRIES, REQUEUE_PAUSE = 6, 10.0  # a controller may be away for a moment
STAGING = timedelta(hours=2)  # that processes wait for another node, which may still copy its data
AT_THE_END = 5.0  # seconds before the time limit in which SIGTERM is taken for its own: clocks count whole seconds
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class _Signals:
    """Hears the signals that ask to stop, and that the process which started this one is gone."""

    def __init__(self) -> None:
        self.heard: int | None = None
        self._parent = os.getppid()
        for number in STOP_SIGNALS:
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = self.heard or number

    def over(self) -> None:
        """Be deaf from here on: what was to be saved is saved, and a signal amid the leaving would look like a kill."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def asked(self) -> bool:
        """Whether to save and leave."""
        return self.heard is not None or os.getppid() != self._parent

    def cause(self) -> str:
        """Why. SLURM announces both the end of the time and a preemption by SIGUSR2; everything else is a stop.

        A job that was too slow in starting to hear the first is told by SIGTERM when its time is over.
        """
        if not job() or self.heard is None or self.heard == signal.SIGINT:
            return "stopped"
        left = _time_left()
        if self.heard == signal.SIGTERM:
            return "time_limit" if left is not None and left < AT_THE_END else "stopped"
        return "time_limit" if left is not None and left < WARNING_SECONDS + 75 else "preempted"  # a minute early


def _time_left() -> float | None:
    """Seconds until the job's time limit; None without one."""
    if ends := os.environ.get("SLURM_JOB_END_TIME"):
        return float(ends) - time.time()
    left = scheduler.time_left(job())
    return _left_by_the_profile() if left is None else left


def _left_by_the_profile() -> float | None:
    """The same by when the script began and what the profile asked for: a controller may be too busy to answer."""
    try:
        used = time.time() - float(os.environ["SEGNEXT_BEGAN"])
        return scheduler.seconds(os.environ["SEGNEXT_TIME"]) - used
    except (KeyError, ValueError):
        return None


def _idles(workspace: Workspace) -> bool:
    """Whether the last two attempts saved nothing before their time was over: then a third would not either."""
    attempts = workspace.attempts()[-2:]
    idle = [a.cause == "time_limit" and a.begins_after == a.ends_after for a in attempts]
    if len(idle) < 2 or not all(idle):
        return False
    workspace.amend_attempt(cause="no_progress", message="twice nothing was saved before the time limit")
    return True


def _go_back_to_the_queue(code: int) -> int:
    """Let SLURM start this job once more; the exit code, `OUTSIDE` where there is no scontrol, as in a container."""
    for _ in range(REQUEUE_TRIES):
        try:
            scheduler.call("scontrol", "requeue", job())
            print(f"job {job()} goes back to the queue", flush=True)
            return code
        except scheduler.Absent:
            return OUTSIDE
        except (scheduler.Unreachable, scheduler.Refused) as error:
            print(f"job {job()} cannot go back to the queue: {error}", flush=True)
            time.sleep(REQUEUE_PAUSE)
    return code


def _last_cause(workspace: Workspace) -> str:
    last = workspace.last_attempt()
    return last.cause if last else ""


def _print_to(log: Path) -> None:
    """Print to the run's own log from here on, the first process to log.txt, the others to log-1.txt, ..."""
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    file = os.open(log.with_name(f"log-{rank}.txt") if rank else log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    print(
        f"job {job()}, restart {restarts}, on {os.environ.get('SLURMD_NODENAME', '')}, {timestamp(time.time())}",
        flush=True,
    )


def main(words: Sequence[str]) -> int:
    """Work until it is done, a signal asks to stop, or the process that started this one is gone."""
    forgiving()
    signals = _Signals()
    own = words[int(os.environ["SLURM_ARRAY_TASK_ID"]) if len(words) > 1 else 0].split(",")
    if len(own) == 1:
        return _alone(own[0], signals)
    code, left = share(own, lambda: signals.heard, len(own))
    return _go_back_to_the_queue(code) if left else code


def _alone(identifier: str, signals: _Signals) -> int:
    """The work of one run."""
    from segnext.distributed import TIMEOUT, distributed

    keep_freed()
    workspace = Workspace(identifier)
    if job():
        _print_to(workspace.log)
    try:
        execution = workspace.told().execution
    except Damaged as damaged:
        print(damaged, file=sys.stderr, flush=True)
        return 1
    root = stage(workspace, signals.asked)
    patience = STAGING if "SEGNEXT_STAGE" in os.environ else TIMEOUT
    with distributed(execution.device, execution.processes, patience) as world:
        code = work(workspace.run_id, signals.asked, world, signals.cause, root)
        signals.over()
    if world.first and code == 5 and _last_cause(workspace) in REQUEUED and not _idles(workspace):
        if "SEGNEXT_SHARING" not in os.environ:  # else whoever started the runs of this card waits for the last
            code = _go_back_to_the_queue(code)
    elif world.first and (last := workspace.last_attempt()) and last.job == job() != "" and last.finished:
        notify(workspace, last.cause)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
