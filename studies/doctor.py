"""Check, before a job is queued, whether a study would run: `python -m studies.doctor [STUDY ...] [--profile FILE]`.

Checks the scheduler, its limits, data, folders and GPUs, and says what to do about each problem.
Exit codes: 0 fine, 1 something would fail, 2 usage.
"""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import re
import stat
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.door import Parser, command, console, typed_path
from studies.declare.protocols import protocol
from studies.plan.options import SELECTOR, add_data_root, add_selection
from studies.plan.preflight import FREE_OF_RESULTS, FREE_OF_RUNS, OPENED, PreflightError, check, room
from studies.plan.runs import PlannedRun, plan, select
from studies.records import external, snapshot
from studies.records.store import REPOSITORY, Store, results_folder, runs_folder
from studies.slurm import scheduler
from studies.slurm.profile import STAGES, Profile, profile
from studies.slurm.scheduler import Refused, Unreachable

SHARED = (
    "nfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse",
    "afs",
    "gfs2",
    "ocfs2",
    "orangefs",
    "wekafs",
    "pvfs",
    "9p",
)
SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


@dataclass(frozen=True)
class Finding:
    """The result of a check: `ok`, `warn` (may go wrong) or `fail` (will go wrong)."""

    what: str
    level: str
    words: str


@command("python -m studies.doctor")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.doctor", __doc__)
    parse.add_argument("selectors", nargs="*", metavar=SELECTOR, help="also check these runs' data and weights")
    add_selection(parse)
    parse.add_argument("--cluster", default="slurm", choices=("local", "slurm"), help="default: slurm")
    parse.add_argument(
        "--profile",
        type=os.path.expanduser,
        default="default",
        metavar="FILE",
        help="slurm/profiles/NAME.toml, or its NAME",
    )
    add_data_root(parse)
    parse.add_argument("--pretrained", type=typed_path, metavar="DIR", help="released ImageNet weights")
    options = parse.parse_args(arguments)
    resources = profile(options.profile) if options.cluster == "slurm" else Profile(name="local")
    chosen = protocol("paper-pretrained" if options.pretrained else options.protocol)
    selections = select(options.selectors, chosen, options.rows, options.seeds) if options.selectors else []
    planned_runs = plan(selections, chosen, options.limit_iterations, Store())
    out = console()
    worst = 0
    for finding in _findings(options.cluster, resources, planned_runs, options.data_root, options.pretrained):
        sign, style = SIGNS[finding.level]
        out.print(f"{sign} {finding.what}: {finding.words}", style="" if finding.level == "ok" else style)
        worst = max(worst, finding.level == "fail")
    out.print("this would fail: see ✗" if worst else "no problem was found")
    return worst


def _findings(
    cluster: str, resources: Profile, planned_runs: Sequence[PlannedRun], root: Path | None, pretrained: Path | None
) -> Iterator[Finding]:
    todo = [planned for planned in planned_runs if planned.state != "done"]
    yield from _folders(cluster)
    yield from _checkout()
    if cluster == "slurm":
        yield from _environment(resources)
        yield from _cluster(
            resources, [planned for planned in todo if planned.state not in ("queued", "running", "unknown")]
        )
    yield from _gpus(cluster, resources)
    if todo:
        try:
            from studies.launch.stage import packed_under

            check(todo, {planned.id for planned in todo}, root, pretrained, Store(), packed_under(root, resources))
            yield Finding("data", "ok", f"what {len(todo)} runs read is there")
        except (PreflightError, ValueError) as error:
            yield Finding("data", "fail", str(error))


def _folders(cluster: str) -> Iterator[Finding]:
    """Check the folders that runs write to: free space, permissions, and whether other machines see them."""
    for what, folder, needed in (
        ("results", results_folder(), FREE_OF_RESULTS),
        ("runs", runs_folder(), FREE_OF_RUNS),
    ):
        try:
            free = room(folder)
        except OSError as error:
            yield Finding(what, "fail", f"{folder} cannot be written: {error.strerror}")
            continue
        level = "ok" if free > needed else "fail"
        yield Finding(what, level, f"{folder} can be written, {free / 1e9:,.1f} GB are free")
        if what == "runs":
            yield from _runs_folder(folder)
    if cluster != "slurm":
        return
    places = (runs_folder(), results_folder(), Path(sys.executable))
    own = {path: kind for path in places if (kind := _file_system(path)) and not kind.startswith(SHARED)}
    if own:
        yield Finding(
            "seen by nodes",
            "warn",
            f"{', '.join(map(str, own))}: on {', '.join(dict.fromkeys(own.values()))}, which other machines usually "
            "do not see; jobs need them under the same path (SEGNEXT_RUNS, SEGNEXT_RESULTS, the profile's python)",
        )


def _runs_folder(folder: Path) -> Iterator[Finding]:
    """Check what otherwise shows only in use: hard links, colleagues' folders, and files that a purge has deleted."""
    probe = folder / f".doctor.{uuid.uuid4().hex}"
    try:
        probe.touch()
        os.link(probe, probe.with_suffix(".link"))
    except OSError as error:
        instead = "a run is claimed by creating a file instead, which NFS before version 3 does not do safely"
        yield Finding("hard links", "warn", f"{folder}: {error.strerror}; {instead}")
    finally:
        for path in (probe, probe.with_suffix(".link")):
            with contextlib.suppress(OSError):
                path.unlink()
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        yield Finding("rights", "fail", f"{folder} cannot be read: {error.strerror}; ask its owner for the right to")
        return
    if closed := [path for path in inside if not os.access(path, os.R_OK | os.W_OK | os.X_OK)]:
        words = ", ".join(map(str, closed[:5])) + (f" and {len(closed) - 5} more" if closed[5:] else "")
        level = (
            "warn" if all(os.access(path, os.R_OK) for path in closed) else "fail"
        )  # without `r` it cannot be judged
        yield Finding("rights", level, f"you may not read and write in {words}: {OPENED.format(folder='them')}")
    mask = os.umask(0o077)
    os.umask(mask)
    if folder.stat().st_mode & stat.S_IWGRP and mask & stat.S_IWGRP:
        words = (
            f"{folder} is shared with its group, and your umask is {mask:03o}: colleagues may read what your runs "
            "leave, but not continue them; `umask 002` in your shell before you start runs (jobs inherit it)"
        )
        yield Finding("rights", "warn", words)
    if damaged := [path for path in snapshot.kept() if not snapshot.whole(path)]:
        words = ", ".join(path.name for path in damaged)
        yield Finding(
            "code of runs",
            "fail",
            f"{snapshot.snapshots_folder()}: files of {words} are missing or changed (is this folder purged?): delete "
            "these folders; queued jobs that would run from them must be cancelled and submitted again",
        )


def _file_system(path: Path) -> str:
    """The type of the file system that a path is on; "" if it cannot be found out."""
    try:
        return external.answer(["stat", "--file-system", "--format=%T", str(path)]).text.strip()
    except Unreachable:
        return ""


def _checkout() -> Iterator[Finding]:
    """Check whether records will name their commit."""
    if refused := snapshot.git_refuses():
        yield Finding("git", "warn", f"{refused}; until then records have no commit")


def _environment(resources: Profile) -> Iterator[Finding]:
    """Say which variables of this shell jobs do not inherit."""
    from studies.launch.submit import kept_variables

    kept = [name for name in kept_variables(resources) if name in os.environ]
    if left := [name for name in external.left_out(os.environ) if name not in kept]:
        job = os.environ.get("SLURM_JOB_ID")
        inside = f"this shell is inside job {job}; " if job else ""
        yield Finding("environment", "warn", f"{inside}jobs and sbatch do not inherit {', '.join(left)}")
    if kept:
        yield Finding("environment", "ok", f"sbatch gets {', '.join(f'{name}={os.environ[name]}' for name in kept)}")
    if resources.options.get("export") == "NONE":
        words = 'export = "NONE": jobs inherit nothing from this shell; runs need only what setup loads'
        yield Finding("environment", "ok", words)


def _cluster(resources: Profile, todo: Sequence[PlannedRun]) -> Iterator[Finding]:
    cluster = resources.cluster
    try:
        version = scheduler.call("sinfo", "--version").strip()
        configuration = scheduler.call("scontrol", "show", "config", cluster=cluster)
        size = scheduler.max_array_size(cluster)
    except (Unreachable, Refused) as error:
        yield Finding("scheduler", "fail", f"no answer: {error}" if isinstance(error, Unreachable) else str(error))
        return
    where = f"cluster {cluster} of several: its jobs are asked for there; " if cluster else ""
    yield Finding("scheduler", "ok", f"{where}{version}; MaxArraySize {size}: arrays of up to {size} runs")
    yield _accounting(cluster)
    for stage in ("train", *(stage for stage in STAGES if getattr(resources, stage))):
        yield from _accepted(resources.at(stage), stage)
    yield from _limits(resources, len(todo))
    yield from settings(configuration)


def _accounting(cluster: str) -> Finding:
    words = ("--noheader", "--allocations", "--format=JobID", "--name=segnext-doctor")
    try:
        scheduler.call("sacct", *words, cluster=cluster)
    except (Unreachable, Refused) as error:
        known = "the cause will be `lost`" if scheduler.keeps_no_accounts(error) else "nothing is known until it does"
        left = "of jobs that left the queue without a word,"
        return Finding("accounting", "warn", f"sacct does not answer ({error}): {left} {known}")
    return Finding("accounting", "ok", "sacct answers")


def _accepted(resources: Profile, stage: str) -> Iterator[Finding]:
    """Ask sbatch whether it would accept a job with these resources; nothing is queued."""
    from studies.launch.submit import kept_variables, sbatch_options

    yield from _partition(resources)
    words = sbatch_options(resources)
    what = f"{resources.name}, {stage}"
    try:
        done = external.answer(
            ["sbatch", "--test-only", *words, "--wrap=true"], external.chosen(os.environ, kept_variables(resources))
        )
    except Unreachable as error:
        yield Finding(what, "fail", str(error))
        return
    said = external.spoken(done.error)
    if done.code:
        yield Finding(what, "fail", f"{said or 'sbatch refuses'}: sbatch {' '.join(words)}")
        return
    begins = re.search(r"to start at (\S+)", said)
    yield Finding(
        what, "ok", f"sbatch takes {' '.join(words)}" + (f"; it would start at {begins[1]}" if begins else "")
    )
    yield from _gpus_of_partition(resources)


def _partition(resources: Profile) -> Iterator[Finding]:
    """Check that the partition and its nodes are up: SLURM accepts jobs even if not, and they wait for a repair."""
    words = [f"--partition={resources.partition}"] if resources.partition else []
    try:
        told = scheduler.call("sinfo", "--noheader", "--format=%P|%a|%T|%D", *words, cluster=resources.cluster)
        nodes = scheduler.call("scontrol", "--oneliner", "show", "nodes", cluster=resources.cluster)
    except (Unreachable, Refused) as error:
        yield Finding("partition", "warn", str(error))
        return
    rows = [row for line in told.splitlines() if len(row := line.strip().split("|")) == 4]
    rows = rows if words else [row for row in rows if row[0].endswith("*")]  # the default partition, which sbatch uses
    names = {row[0].rstrip("*") for row in rows}
    where = f"partition {', '.join(sorted(names))}"
    if rows and all(row[1] != "up" for row in rows):
        states = ", ".join(sorted({row[1] for row in rows}))
        yield Finding("partition", "fail", f"{where} is {states}: jobs are taken, and wait until that is changed")
    elif rows and not any(_usable(row[2]) for row in rows):
        states = ", ".join(f"{row[3]} {row[2]}" for row in rows)
        yield Finding("partition", "fail", f"no node of {where} can start a job ({states}): jobs are taken, and wait")
    yield from _architecture(resources, nodes, names)


def _usable(state: str) -> bool:
    """Whether a node in a state printed by sinfo starts jobs, now or later: `idle`, `allocated~`, but not `down*`."""
    bad = ("down", "drain", "fail", "error", "inval", "unk", "future", "perfctrs")
    return not state.startswith(bad) and not state.endswith("*")  # `*`: the node does not respond


def _architecture(resources: Profile, nodes: str, names: set[str]) -> Iterator[Finding]:
    """Check the nodes' architecture: this machine's Python cannot start on another one."""
    if resources.python:  # the profile has its own command, whose architecture is unknown here
        return
    others: set[str] = set()
    for line in nodes.splitlines():
        found = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if found.get("Arch") and names & set(found.get("Partitions", "").split(",")):
            others.add(found["Arch"])
    if others and platform.machine() not in others:
        yield Finding(
            "architecture",
            "fail",
            f"nodes are {', '.join(sorted(others))}, this machine's Python is {platform.machine()}: the setting python",
        )
    elif len(others) > 1:
        words = (
            f"nodes are {', '.join(sorted(others))}, and {sys.executable} runs on {platform.machine()}: a constraint"
        )
        yield Finding("architecture", "warn", words)


def _limits(resources: Profile, runs: int) -> Iterator[Finding]:
    """Check how many more jobs may be submitted: each run of an array counts, and a larger array is refused."""
    from studies.launch.submit import user

    words = ("assoc_mgr", f"users={user()}", f"qos={resources.qos or 'normal'}", "flags=assoc,qos")
    try:
        said = scheduler.call("scontrol", "show", *words, cluster=resources.cluster)
    except (Unreachable, Refused):  # no accounting means no limits; on other clusters users may not read them
        return
    left = {name: most - used for name, most, used in limits(said, user(), resources.account)}
    name = min(left, key=left.__getitem__, default="")
    if name and left[name] < max(runs, 1):
        yield Finding(
            "limits",
            "fail",
            f"{name}: {max(left[name], 0)} more jobs may be submitted, and {max(runs, 1)} would be, each run as one: "
            "choose fewer (a row, --seeds), and the rest when these are over",
        )


def limits(said: str, name: str, account: str) -> Iterator[tuple[str, int, int]]:
    """Yield the user's submission limits from `scontrol show assoc_mgr`: name, limit, present number of jobs.

    These are the limits of the account (empty: the default one), of the user in it, and of the QOS, not those of other
    users.
    """
    records = re.split(r"^(?=ClusterName=|QOS=)", said, flags=re.MULTILINE)
    chosen = account
    for record in records:
        own = re.search(r"Account=(\S*) UserName=([^\s(]+)(?:\((\d+)\))? .*DefAssoc=Yes", record, re.DOTALL)
        if own and not account and name in own.groups()[1:]:
            chosen = own[1]
    for record in records:
        whose = re.match(r"ClusterName=\S* Account=(\S*) UserName=([^\s(]*)(?:\((\d+)\))?", record)
        if whose and (whose[1] != chosen or (whose[2] and name not in whose.groups()[1:])):
            continue
        section, of = "", ""
        for line in record.splitlines():
            if line.endswith(("Account Limits", "User Limits")):
                section = line.strip().split()[0]
            elif section and "=" not in line:
                of = line.strip()
            ours = {"": "", "Account": chosen, "User": _uid(name)}[section]
            if section and of != ours and not of.startswith(f"{name}("):
                continue
            for limit, most, used in re.findall(r"(\w*Submit\w*)=(\d+)\((\d+)\)", line):
                yield limit, int(most), int(used)


def _uid(name: str) -> str:
    try:
        return str(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return name


def _gpus_of_partition(resources: Profile) -> Iterator[Finding]:
    """Check that some node has enough GPUs: unless configured otherwise, SLURM accepts jobs that no node can run."""
    if not resources.gpus:
        return
    words = [f"--partition={resources.partition}"] if resources.partition else []
    try:
        lines = scheduler.call("sinfo", "--noheader", "--format=%G", *words, cluster=resources.cluster).splitlines()
    except (Unreachable, Refused):
        return
    most = max((int(n) for line in lines for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", line)), default=0)
    where = f"partition {resources.partition}" if resources.partition else "this cluster"
    level = "ok" if most >= resources.gpus else "fail"
    yield Finding(
        "GPUs of a node", level, f"{where} has nodes with up to {most}, the profile asks for {resources.gpus}"
    )


def settings(said: str) -> Iterator[Finding]:
    """Yield warnings about the cluster's settings, from the output of `scontrol show config`."""
    mode = re.search(r"^PreemptMode\s*=\s*(\S+)", said, re.MULTILINE)
    if mode and mode[1] != "OFF" and "preempt_send_user_signal" not in said:
        yield Finding(
            "preemption",
            "warn",
            f"jobs may be preempted ({mode[1]}) and are not sent their --signal first (SlurmctldParameters has no "
            "preempt_send_user_signal): such a run continues from its last checkpoint",
        )
    if re.search(r"^PrivateData\s*=.*\bjobs\b", said, re.MULTILINE):
        yield Finding(
            "others' jobs",
            "warn",
            "squeue shows only your own jobs (PrivateData=jobs): a run that another user queued looks `lost` until it "
            "starts; if you submit it again, it is still trained only once, and the second job exits at once",
        )


def _gpus(cluster: str, resources: Profile) -> Iterator[Finding]:
    """Check which GPUs of this machine PyTorch sees."""
    program = (
        "import torch; n = torch.cuda.device_count(); "
        "print(torch.__version__, n, torch.cuda.get_device_name(0) if n else '', sep='|')"
    )
    try:
        done = external.answer([sys.executable, "-c", program], cwd=REPOSITORY, seconds=300)
        version, count, name = done.text.strip().split("|")
    except (Unreachable, ValueError):
        yield Finding("PyTorch", "fail", "it cannot be imported: make .venv/installed")
        return
    needed = resources.where.startswith("cuda")
    if int(count):
        yield Finding("PyTorch", "ok", f"{version} sees {count} GPUs here ({name})")
    elif needed and cluster == "local":
        yield Finding("PyTorch", "fail", f"{version} sees no GPU here; --device cpu")
    else:
        on = "; a login node has none: srun --gpus=1 nvidia-smi shows a node's" if needed else ""
        yield Finding("PyTorch", "ok", f"{version}, no GPU here{on}")


if __name__ == "__main__":
    sys.exit(main())
