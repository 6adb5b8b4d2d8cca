"""Runs as SLURM jobs: arrays through submitit, dependencies, a throttle, and never the same run twice.

submitit renders the batch script. The command in the script is ours, and a run's id is all it carries. Before sbatch
is called every run of the array is reserved by a file with the job's name in it: what sbatch answers may be wrong (a
time-out after it accepted), the name in the queue is not. What a job inherits from the shell is chosen: nothing of an
allocation in which somebody types, and no $SBATCH_... that counts more than the profile.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import re
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from segnext.config import Execution
from studies.launch.ending import OUTSIDE
from studies.plan.runs import PlannedRun, upstream
from studies.plan.state import submitted
from studies.records.external import Absent
from studies.records.store import Store, results_folder, runs_folder
from studies.records.working_state import JobSpec, Process, Submission
from studies.records.workspace import Claimed, Workspace
from studies.slurm.profile import Profile
from studies.slurm.scheduler import Queue, Refused, Unreachable, call, cluster_of, named

Specify = Callable[[PlannedRun, Execution], JobSpec]
"""Makes a run's specification (`studies.plan.jobspec`)."""

SUBMITTED_WITHIN = 90.0  # seconds that somebody else's sbatch may take
LOOKS = (1.0, 2.0, 4.0, 8.0)  # seconds before each look for a job whose submission went wrong
CHOICES = ("account", "partition", "qos", "reservation", "constraint", "wckey")  # of a person, by SBATCH_NAME


@dataclass
class Array:
    """Runs that become one job array: the same resources, the same things to wait for."""

    stage: str
    runs: list[PlannedRun]
    waits: tuple[str, ...] = ()  # ids of the runs that must be over before
    memory: str = ""  # of an element; empty: the profile's
    per_element: int = 1  # runs that an element carries out side by side
    throttle: int = 0  # elements at a time, 0: no limit
    before: Array | None = None  # must be over before, for the throttle's sake
    token: str = field(default_factory=lambda: f"segnext-{uuid.uuid4().hex[:10]}")
    job: str = ""  # once submitted

    @property
    def elements(self) -> list[list[PlannedRun]]:
        """The runs of each element."""
        return [self.runs[k : k + self.per_element] for k in range(0, len(self.runs), self.per_element)]


def arrays(runs: Sequence[PlannedRun], profile: Profile, max_array_size: int, max_parallel: int) -> list[Array]:
    """Group runs, in the plan's order, into arrays that can be submitted one after the other.

    With `max_parallel` the arrays are a chain, each with that throttle, so that no more runs are under way at any time.
    Without, runs that start from the same run wait for it alone. Runs that share a card are an element together; those
    that ran out of memory are in arrays of their own, where the profile gives them more.
    """
    coming = {planned.id for planned in runs}
    groups: dict[tuple[int, str, tuple[str, ...], str], list[PlannedRun]] = {}
    depths: dict[str, int] = {}
    for planned in runs:
        before = upstream(planned)
        waits: tuple[str, ...] = ()
        if before is not None and (before.id in coming or _live(before.id)):
            waits = (before.id,)
        depths[planned.id] = max((depths.get(name, 0) + 1 for name in waits), default=0)
        if max_parallel:  # what comes before is over anyway when the chain has come here
            waits = tuple(name for name in waits if name not in coming)
        memory = _memory(planned, profile.at(planned.stage))
        groups.setdefault((depths[planned.id], planned.stage, waits, memory), []).append(planned)
    found: list[Array] = []
    for (_, stage, waits, memory), members in sorted(groups.items(), key=lambda item: item[0][0]):
        together = profile.at(stage).runs_per_job
        together = min(together, max_parallel or together)
        most = max_array_size * together
        for start in range(0, len(members), most):
            array = Array(stage, members[start : start + most], waits, memory, together, max_parallel // together)
            array.token = named(array.token, profile.cluster)
            array.before = found[-1] if found and max_parallel else None
            found.append(array)
    return found


def _memory(planned: PlannedRun, profile: Profile) -> str:
    """What a run gets; more than the last time, where it ran out of it and the profile's [retry] says so."""
    if planned.stands.cause != "out_of_memory":
        return profile.memory
    last, before = Workspace(planned.id).last_attempt(), submitted(planned.id)
    of_the_card = last is not None and "CUDA out of memory" in last.message  # the machine's memory does not mend that
    return profile.memory if of_the_card else profile.memory_after(before.memory if before else "")


def _live(run_id: str) -> bool:
    submission = submitted(run_id)
    return bool(submission and not submission.cancelled and not Store().path(run_id).exists())


def execution(profile: Profile, evaluation_interval: int) -> Execution:
    """How a run is carried out on the cluster."""
    return Execution(
        device=profile.where,
        processes=profile.nodes * profile.processes_per_node,
        threads=profile.cpus,
        workers=profile.workers,
        precision=profile.precision,
        compile=profile.compile,
        cudnn_benchmark=profile.cudnn_benchmark,
        deterministic=profile.deterministic,
        evaluation_interval=evaluation_interval,
    )


def submit(array: Array, profile: Profile, snapshot: Path, specify: Specify, settings: Execution) -> list[PlannedRun]:
    """Submit an array; returns the runs that others had submitted in the meantime and that are left to them.

    Raises `Refused` with sbatch's words when it declines, and `Unreachable` when nobody answers. Then nothing is in the
    queue, or, where that cannot be known, the reservations stay and the next command finds out.
    """
    kept: list[PlannedRun] = []
    left: list[PlannedRun] = []
    try:
        for planned in array.runs:
            (kept if _reserve(planned, array, len(kept) // array.per_element, snapshot) else left).append(planned)
        array.runs = kept
        if not kept:
            return left
        for planned in kept:
            Workspace(planned.id).write_spec(specify(planned, settings))
        script = _script(array, profile, snapshot)
    except BaseException:  # sbatch was not called
        _withdraw(array)
        raise
    try:
        array.job = _sbatch(array, profile, script)
    except Absent:
        _withdraw(array)
        raise
    except (Refused, Unreachable) as error:
        array.job = _look_for(array)
        if not array.job:
            if isinstance(error, Refused):
                _withdraw(array)
            raise
    for planned in kept:
        _note(planned, array)
    return left


def user() -> str:
    """Who submits: the login name, or the number of an account that has none here (a container's)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _reserve(planned: PlannedRun, array: Array, index: int, snapshot: Path) -> bool:
    """Put our name on a run; False where somebody else's is on it since we looked."""
    workspace = Workspace(planned.id)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    try:
        workspace.unpack()
    except Claimed:
        return False
    there = submitted(planned.id)
    if (there.token if there else "") != planned.stands.token:
        return False
    if not workspace.submission.remove(there) and there is not None:
        return False
    return workspace.submission.create(
        Submission(
            token=array.token,
            index=index,
            submitted=time.time(),
            user=user(),
            process=Process.this(),
            snapshot=snapshot.name,
            memory=array.memory,
            sharing=array.per_element,
        )
    )


def _note(planned: PlannedRun, array: Array) -> None:
    """Add the job's id to the reservation: for people, and for dependencies."""
    submission, content = Workspace(planned.id).submission, submitted(planned.id)
    if content is not None and content.token == array.token:
        submission.replace(msgspec.structs.replace(content, job=f"{array.job}_{content.index}"))


def _withdraw(array: Array) -> None:
    for planned in array.runs:
        submission, content = Workspace(planned.id).submission, submitted(planned.id)
        if content is not None and content.token == array.token:
            submission.remove(content)


def _look_for(array: Array) -> str:
    """The id of the job that is in the queue under the array's name although sbatch failed; empty without one."""
    (first, *_) = (submitted(planned.id) for planned in array.runs)
    for pause in LOOKS:
        time.sleep(pause)
        queue = Queue.ask([first] if first else [])
        if first and (job := queue.of(first)):
            return job.id.split("_")[0]
        if not queue.silence:
            break
    return ""


def _script(array: Array, profile: Profile, snapshot: Path) -> Path:
    """Write the batch script, beside what SLURM will print. Raises `Absent` where there is no SLURM, and `Refused`."""
    import submitit

    own = profile.at(array.stage)
    folder = runs_folder() / "slurm" / array.token
    for path in (folder, snapshot):
        if not str(path).isprintable() or "%" in str(path):  # a line of the script ends, or sbatch fills it in: %j
            raise Refused(f"the folder {str(path)!r}: sbatch needs a name on one line and without % (SEGNEXT_RUNS)")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.SlurmExecutor(folder)
    except RuntimeError as error:  # submitit's word for a machine without srun
        raise Absent(str(error)) from None
    own = dataclasses.replace(own, memory=array.memory or own.memory)
    executor.update_parameters(**_parameters(array, own, snapshot))
    executor.parameters["map_count"] = len(array.elements)
    script = folder / "submission.sh"
    # submitit's own command would load a pickle, that is the state of things at submission; ours reads it at start.
    script.write_text(executor._make_submission_file_text(_command(array, own), ""), encoding="utf-8")
    return script


def _sbatch(array: Array, profile: Profile, script: Path) -> str:
    """Submit; returns the job's id. Raises `Refused` and `Unreachable`."""
    said = call("sbatch", "--parsable", str(script), kept=kept_variables(profile.at(array.stage)))
    # `77;wice` by SLURM itself; a site's wrapper may greet first ("Your last job 42 took 3 h"), or drop our option.
    found = re.findall(r"^(?:Submitted batch job )?(\d+)(?:;\S+| on cluster \S+)?$", said, re.MULTILINE)
    if len(set(found)) == 1:
        return str(found[0])
    words = " ".join(said.split())[:300]
    raise Unreachable(f"sbatch names no job, and the queue has none called {array.token}; it said: {words}")


def kept_variables(profile: Profile) -> list[str]:
    """The variables with which a person chooses for every sbatch, where the profile leaves the choice.

    For sbatch a variable counts more than a line of the script: where the profile does choose, it is left out.
    """
    given = {**_resources(profile), **profile.options}
    return [f"SBATCH_{name.upper()}" for name in CHOICES if name not in given]


def sbatch_options(profile: Profile) -> list[str]:
    """The resources of a run as words for sbatch."""
    given = {name.replace("_", "-"): value for name, value in {**_resources(profile), **_options(profile)}.items()}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def _resources(profile: Profile) -> dict[str, Any]:
    """The resources of a run by sbatch's names. What is empty is left to the cluster."""
    given = {name: getattr(profile, name) for name in ("partition", "account", "qos", "constraint")}
    given |= {"mem": profile.memory, "gpus_per_node": profile.gpus}
    return {
        **{name: value for name, value in given.items() if value},
        "time": profile.time,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.processes_per_node,
        "cpus_per_task": profile.cpus * profile.runs_per_job,
    }


def _options(profile: Profile) -> dict[str, Any]:
    """The other options of sbatch. A job inherits the shell's environment, whatever $SBATCH_EXPORT says."""
    cluster = {"clusters": profile.cluster} if profile.cluster else {}
    return {"export": "ALL", **profile.options, **cluster}


def _parameters(array: Array, profile: Profile, snapshot: Path) -> dict[str, Any]:
    """What submitit renders."""
    variables = {"SEGNEXT_RESULTS": results_folder(), "SEGNEXT_RUNS": runs_folder(), "SEGNEXT_WARNING": profile.warning}
    site = {"SEGNEXT_NOTIFY": profile.notify, "SEGNEXT_STAGE": profile.stage}
    variables |= {name: json.dumps(words) for name, words in site.items() if words}
    variables |= {"SEGNEXT_SCRATCH": profile.scratch} if profile.scratch else {}
    variables |= {"SEGNEXT_TIME": profile.time} if profile.time else {}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), profile.cpus)
    # Where sbatch --export=NONE left an empty environment, srun would not hand on what is set here either.
    exports = {**variables, **threads, "SLURM_EXPORT_ENV": "ALL"}
    lines = [f"export {name}={shlex.quote(str(value))}" for name, value in exports.items()]
    waits = _dependency(array)
    return {
        **_resources(profile),
        **({"dependency": waits} if waits else {}),
        "job_name": array.token,
        "signal_delay_s": profile.warning,
        "array_parallelism": array.throttle or len(array.elements),
        "wckey": None,  # submitit's own is refused where wckeys are checked
        "setup": [
            "set -e  # a line of the profile that fails, fails the job",
            "export SEGNEXT_BEGAN=$(date +%s)",
            *profile.setup,
            *lines,
        ],
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={profile.cpus * profile.runs_per_job}"],
        "additional_parameters": {"chdir": str(snapshot), "requeue": True, **_options(profile)},
    }


def _command(array: Array, profile: Profile) -> str:
    """The worker, deaf to the warning signal until it can listen: it would be killed by it while it imports.

    Where a command of the profile's own starts it, a container's, there may be no scontrol: the shell around it asks.
    """
    elements = " ".join(",".join(planned.id for planned in runs) for runs in array.elements)
    waits = f'"$@"; code=$?; [ $code != {OUTSIDE} ] || scontrol requeue $SLURM_JOB_ID; exit $code'
    starts = f'trap "" USR2 TERM; {waits}' if profile.python else 'trap "" USR2; exec "$@"'
    return f"bash -c '{starts}' worker {profile.starts_python} -u -m studies.worker {elements}"


def _dependency(array: Array) -> str:
    """`afterany`: what must be over, well or not. A job that finds nothing to start from says so and leaves."""
    jobs = [array.before.job] if array.before and array.before.job else []
    jobs += [job for name in array.waits if (job := _job(name, cluster_of(array.token)))]
    return "afterany:" + ":".join(jobs) if jobs else ""


def _job(run_id: str, cluster: str) -> str | None:
    """The job that a run was submitted as. Somebody else may be submitting it this moment: then it has none yet.

    Raises `Unreachable`, and `Refused` where it waits on another cluster: jobs wait for those of their own alone.
    """
    until = time.monotonic() + SUBMITTED_WITHIN
    while (submission := submitted(run_id)) is not None and submission.job is None:
        if time.monotonic() > until:
            raise Unreachable(f"the submission of run {run_id}, which this one starts from, does not come to an end")
        time.sleep(0.5)
    if submission is None:
        return None
    there = cluster_of(submission.token)
    if there != cluster:
        words = [f"cluster {name}" if name else "the login node's own cluster" for name in (there, cluster)]
        raise Refused(f"run {run_id} is queued on {words[0]}; what starts from it cannot wait for it on {words[1]}")
    return submission.job
