"""The state of a run: from its record, its folder, and what SLURM says about its job, in that order."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from segnext.config import Evaluation, Run
from studies.records.causes import CAUSES
from studies.records.glance import Glance
from studies.records.provenance import todays
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged
from studies.records.working_state import Submission
from studies.records.workspace import Workspace
from studies.slurm.scheduler import VANISHED_SECONDS, Job, Queue

STATES = ("done", "running", "queued", "unknown", "trained", "stopped", "failed", "new")
"""`trained`: weights without a record; `stopped`: the same command continues it; `failed`: a person must look first."""

SUBMITTING_SECONDS = 600.0  # how long a submission from another machine may take before it has a job


class RunState(Struct, frozen=True):
    """A state, the reason, and where to look."""

    state: str
    detail: str = ""
    cause: str = ""  # of `stopped` and `failed` runs
    job: str = ""
    node: str = ""
    token: str = ""  # of the run's submission at that moment


NEW = RunState("new")


def standing(
    wanted: Run | Evaluation, store: Store, queue: Queue | None = None, workspace: Workspace | None = None
) -> RunState:
    """Where a run or a test stands. Without a `queue` what depends on it is `queued`, whatever became of its job.

    `workspace`: its folder, where somebody has looked at it already.
    """
    workspace = workspace or Glance(wanted.id)
    submission = _submission(workspace)  # first: what changes afterwards is somebody else's doing
    stands = _standing(wanted, store, workspace, submission, queue)
    return replace(stands, token=submission.token) if submission else stands


def _standing(
    wanted: Run | Evaluation, store: Store, workspace: Workspace, submission: Submission | None, queue: Queue | None
) -> RunState:
    if (damaged := store.damaged(wanted.id)) is not None:  # only damage to its own record blocks a run
        return RunState("failed", str(damaged), "damaged")
    made = store.made(wanted)
    if made is not None and not superseded(workspace, store):
        return RunState("done", "" if todays(made.kind, made.code) else "made by other code than today's")
    if not workspace.exists():
        return _new(wanted)
    return _unfinished(wanted, workspace, submission, queue)


def _unfinished(
    wanted: Run | Evaluation, workspace: Workspace, submission: Submission | None, queue: Queue | None
) -> RunState:
    """Where one stands that has a folder and no record."""
    if (owner := workspace.owner()) is not None:
        progress = workspace.progress()
        detail = f"{progress.phase} {progress.done}/{progress.total}" if progress else ""
        return RunState("running", detail, job=owner.job, node=owner.node or owner.process.host)
    if submission is not None and not submission.cancelled:
        if queue is None:
            return RunState("queued", job=submission.job or "")
        found = _by_queue(workspace, submission, queue)
        if found is not None:
            return found
    return _left(wanted, workspace, submission, queue)


def settle(waiting: Iterable[tuple[Run | Evaluation, Workspace]]) -> tuple[dict[str, RunState], Queue]:
    """Where these that are `queued` stand by id, and the queue, which was asked once for all of them."""
    folders = [(value, workspace, _submission(workspace)) for value, workspace in waiting]
    queue, stands = Queue.ask([submission for _, _, submission in folders if submission is not None]), {}
    for value, workspace, submission in folders:
        job = queue.of(submission) if submission else None
        if job is None or job.place != "waiting":
            workspace.look_again()
        found = _unfinished(value, workspace, submission, queue)
        stands[value.id] = replace(found, token=submission.token) if submission else found
    return stands, queue


def submitted(identifier: str) -> Submission | None:
    """The submission of a run; None if there is none or it is damaged. That is safe: its job finds the run taken."""
    return _submission(Workspace(identifier))


def _submission(workspace: Workspace) -> Submission | None:
    try:
        return workspace.submitted()
    except Damaged:
        return None


def superseded(workspace: Workspace, store: Store) -> bool:
    """Whether the run is to be done again although its record exists (`--rerun`)."""
    return bool(replaced := _rerun(workspace)) and replaced == store.digest(workspace.run_id)


def _by_queue(workspace: Workspace, submission: Submission, queue: Queue) -> RunState | None:
    """The state of a run whose job is not over, from the queue; None if the job is over."""
    if silence := queue.silence_of(submission):
        return RunState("unknown", f"the scheduler does not answer: {silence}", job=submission.job or "")
    job = queue.of(submission)
    if job is None:
        if submission.job is None and _submitting(submission):
            return RunState("queued", f"being submitted by {submission.user}")
        return None
    if job.place == "unknown":
        return RunState("unknown", f"SLURM calls it {job.state}", job=job.id, node=job.nodes)
    if job.place == "over":
        return None
    if job.place == "vanished":
        if time.time() - max(submission.submitted, workspace.seen()) > VANISHED_SECONDS:
            return None
        words = (
            f"sacct calls it {job.state}, but it is not in the queue: lost, if nothing is heard of it for "
            f"{VANISHED_SECONDS / 60:.0f} minutes (sacctmgr show runawayjobs)"
        )
        return RunState("unknown", words, job=job.id, node=job.nodes)
    saved = workspace.last_state()
    after = f"continues after {saved}" if saved else ""
    if job.place == "running":
        return RunState("running", f"starts{', ' + after if after else ''}", job=job.id, node=job.nodes)
    return RunState("queued", ", ".join(filter(None, (job.reason, after))), job=job.id)


def _submitting(submission: Submission) -> bool:
    """Whether the process that reserved the run may still be submitting it."""
    if submission.process.here:
        return submission.process.alive
    return time.time() - submission.submitted < SUBMITTING_SECONDS


def _left(
    wanted: Run | Evaluation, workspace: Workspace, submission: Submission | None, queue: Queue | None
) -> RunState:
    """The state of a run that no process works on."""
    trained = isinstance(wanted, Run) and _weights(workspace) and not _rerun(workspace)
    last = workspace.last_attempt()
    cause, message = (last.cause, last.message) if last else ("", "")
    job, node = (last.job, last.node or last.host) if last else ("", "")
    if submission is not None:
        known = queue.of(submission) if queue else None
        job_id = known.id if known else submission.job
        own = bool(job) and job == job_id  # compare job ids, because the clocks of nodes differ
        if last is None or own or last.started < submission.submitted:  # otherwise a later attempt was elsewhere
            cause, message, job = (cause, message, job) if own else ("", "", job_id or job)
            if submission.cancelled:
                cause, message = "cancelled", f"by {submission.cancelled}"
            elif cause in ("", "killed", "stopped"):
                cause = _refined(cause, known, submission, workspace)
                if cause == "lost" and queue is not None and (mute := queue.mute_of(submission)):
                    return RunState("unknown", f"left the queue; accounting does not answer: {mute}", job=job)
    if cause not in CAUSES:  # `done`, `trained`: the files on disk tell
        return RunState("trained", "to be evaluated") if trained else _new(wanted)
    saved = workspace.last_state()
    if CAUSES[cause].again:
        if trained:
            return RunState("trained", "to be evaluated", cause, job, node)
        if not saved and submission is None and cause == "stopped":
            return _new(wanted)
        after = (
            f"continues after {saved} of {wanted.train.iterations} iterations"
            if saved and isinstance(wanted, Run)
            else ""
        )
        said = message or CAUSES[cause].words
        words = after if cause == "stopped" else ", ".join(filter(None, (said, after)))
        return RunState("stopped", words or CAUSES[cause].words, cause, job, node)
    return RunState("failed", message or CAUSES[cause].words, cause, job, node)


def _weights(workspace: Workspace) -> bool:
    return workspace.has("weights.pt") and workspace.weights.exists()


def _refined(cause: str, job: Job | None, submission: Submission, workspace: Workspace) -> str:
    """Why a job ended that could not record it: from the scheduler, and from what SLURM printed."""
    if job is not None and job.state not in ("FAILED", "COMPLETED"):
        return job.cause or cause or "lost"
    if cause == "stopped":
        return cause
    if ran_out_of_memory(submission):
        return "out_of_memory"
    if cause:
        return cause
    if workspace.began_since_submission():  # it began, whatever became of the attempt that said so
        return "killed"
    return "not_started" if job is not None and job.state == "FAILED" else "lost"


def ran_out_of_memory(submission: Submission) -> bool:
    """Whether SLURM's output says so: without cgroups the job's state does not show it (FAILED 9:0)."""
    said = re.compile(r"oom[-_ ]?kill|exceeded memory limit|out of memory", re.I)
    return any(said.search(path.read_text(errors="replace")) for path in printed(submission))


def printed(submission: Submission) -> list[Path]:
    """The files with a job's output from SLURM: what came before the worker started, and the end of a killed one."""
    if not submission.job:
        return []
    found = (runs_folder() / "slurm" / submission.token).glob(f"{submission.job}_*_log.*")
    return sorted(path for path in found if path.is_file())


def _rerun(workspace: Workspace) -> str | None:
    """The digest of the record that the run is to replace; "" or None if there is none."""
    try:
        spec = workspace.spec()
    except Damaged:
        return None
    return spec.supersedes if spec else None


def _new(wanted: Run | Evaluation) -> RunState:
    if not isinstance(wanted, Run) or wanted.init is None:
        return RunState("new")
    if isinstance(wanted.init, Run):
        return RunState("new", f"after {wanted.init.id} ({wanted.init.data.dataset})")
    return RunState("new", f"from {wanted.init}")
