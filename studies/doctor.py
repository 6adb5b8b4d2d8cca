"""Whether a study would run here, before a job is queued: `python -m studies.doctor [STUDY ...] [--profile FILE]`.

The cluster's answers, limits, data, folders and GPUs, each with what to do about it.
Exit codes: 0 fine, 1 something would fail, 2 usage.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.door import Parser, command, console, typed_path
from studies import scheduler
from studies.options import SELECTOR, add_data_root, add_selection
from studies.plan import Cell, plan, select
from studies.preflight import FREE_OF_RESULTS, FREE_OF_RUNS, PreflightError, check, room
from studies.profile import STAGES, Profile, profile
from studies.protocols import protocol
from studies.scheduler import Refused, Unreachable
from studies.store import REPOSITORY, Store, results_folder, runs_folder

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
    """What a look found: `ok`, `warn` (may go wrong) or `fail` (will)."""

    what: str
    level: str
    words: str


@command("python -m studies.doctor")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parse = Parser(
        prog="python -m studies.doctor", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1]
    )
    parse.add_argument("selectors", nargs="*", metavar=SELECTOR, help="whose data and beginnings to look at, too")
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
    cells = plan(selections, chosen, options.limit_iterations, Store())
    out = console()
    worst = 0
    for finding in _findings(options.cluster, resources, cells, options.data_root, options.pretrained):
        sign, style = SIGNS[finding.level]
        out.print(sign, style=style, end=" ")
        out.print(f"{finding.what}: {finding.words}")
        worst = max(worst, finding.level == "fail")
    out.print("this would fail: see ✗" if worst else "nothing stands in the way of a run")
    return worst


def _findings(
    cluster: str, resources: Profile, cells: Sequence[Cell], root: Path | None, pretrained: Path | None
) -> Iterator[Finding]:
    yield from _folders(cluster)
    if cluster == "slurm":
        yield from _cluster(resources)
    yield from _gpus(cluster, resources)
    if todo := [cell for cell in cells if cell.state != "done"]:
        try:
            check(todo, {cell.id for cell in todo}, root, pretrained, Store())
            yield Finding("data", "ok", f"what {len(todo)} runs read is there")
        except (PreflightError, ValueError) as error:
            yield Finding("data", "fail", str(error))


def _folders(cluster: str) -> Iterator[Finding]:
    """Places to write: room, rights, and whether other machines see them."""
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


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on; empty where that is not to be had."""
    try:
        done = subprocess.run(
            ["stat", "--file-system", "--format=%T", str(path)], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _cluster(resources: Profile) -> Iterator[Finding]:
    try:
        version = scheduler.call("sinfo", "--version").strip()
        size = scheduler.max_array_size()
    except (Unreachable, Refused) as error:
        yield Finding("scheduler", "fail", f"no answer: {error}" if isinstance(error, Unreachable) else str(error))
        return
    yield Finding("scheduler", "ok", f"{version}; MaxArraySize {size}: arrays of up to {size} runs")
    yield _accounting()
    for stage in ("train", *(stage for stage in STAGES if getattr(resources, stage))):
        yield from _accepted(resources.at(stage), stage)
    yield from settings(scheduler.call("scontrol", "show", "config"))


def _accounting() -> Finding:
    try:
        scheduler.call("sacct", "--noheader", "--allocations", "--format=JobID", "--name=segnext-doctor")
    except (Unreachable, Refused) as error:
        return Finding(
            "accounting",
            "warn",
            f"sacct does not answer ({error}): of jobs that left the queue without a word, the cause will be `lost`",
        )
    return Finding("accounting", "ok", "sacct answers")


def _accepted(resources: Profile, stage: str) -> Iterator[Finding]:
    """Whether sbatch would take a job with these resources: asked of the cluster itself, and nothing is queued."""
    from studies.submit import sbatch_options

    words = sbatch_options(resources)
    what = f"{resources.name}, {stage}"
    try:
        done = subprocess.run(
            ["sbatch", "--test-only", *words, "--wrap=true"],
            capture_output=True,
            text=True,
            check=False,
            timeout=scheduler.TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(what, "fail", str(error))
        return
    said = scheduler.spoken(done.stderr)
    if done.returncode:
        yield Finding(what, "fail", f"{said or 'sbatch refuses'}: sbatch {' '.join(words)}")
        return
    begins = re.search(r"to start at (\S+)", said)
    yield Finding(
        what, "ok", f"sbatch takes {' '.join(words)}" + (f"; it would start at {begins[1]}" if begins else "")
    )
    yield from _gpus_of_partition(resources)


def _gpus_of_partition(resources: Profile) -> Iterator[Finding]:
    """SLURM accepts jobs that no node can ever run, unless it is set up to refuse them."""
    if not resources.gpus:
        return
    words = [f"--partition={resources.partition}"] if resources.partition else []
    try:
        lines = scheduler.call("sinfo", "--noheader", "--format=%G", *words).splitlines()
    except (Unreachable, Refused):
        return
    most = max((int(n) for line in lines for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", line)), default=0)
    where = f"partition {resources.partition}" if resources.partition else "this cluster"
    level = "ok" if most >= resources.gpus else "fail"
    yield Finding(
        "GPUs of a node", level, f"{where} has nodes with up to {most}, the profile asks for {resources.gpus}"
    )


def settings(said: str) -> Iterator[Finding]:
    """What of a cluster's own settings, as `scontrol show config` prints them, makes work harder here."""
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
            "squeue shows your own jobs alone (PrivateData=jobs): a run that somebody else queued looks `lost` until "
            "it starts; submitted again, it still is trained once, and the other job leaves at once",
        )


def _gpus(cluster: str, resources: Profile) -> Iterator[Finding]:
    """What PyTorch sees of this machine's GPUs."""
    probe: Callable[[], str] = lambda: subprocess.run(  # noqa: E731
        [
            sys.executable,
            "-c",
            "import torch; n = torch.cuda.device_count(); "
            "print(torch.__version__, n, torch.cuda.get_device_name(0) if n else '', sep='|')",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    try:
        version, count, name = probe().split("|")
    except (subprocess.CalledProcessError, ValueError):
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
