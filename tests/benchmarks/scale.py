"""How long the commands take on many runs, in a lab that is made up for it: so many records, so many run folders.

`python tests/benchmarks/scale.py [RUNS ...] [--keep FILE]` prints, for each size (default: 100 1000 10000 20000), each
command's seconds of computing (user and system, all processes), seconds by the clock, memory, how often it asked the
scheduler, and how many files and folders runs/ and results/ have after it. `first` is without an index, or without
anything written yet; an increment has one record more; `packed` is after `studies.gc --delete`. Half of the run folders
are recorded and half queued; as many records again are of runs whose folders are gone. A record has its curve and its
log beside it. SLURM's commands are stand-ins that answer at once for every job: what is timed is ours. `--keep FILE`
writes the figures as a CSV and beside it a drawing of how they grow.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from segnext.config import canonical  # noqa: E402
from studies.declare.protocols import protocol  # noqa: E402
from studies.launch.submit import execution  # noqa: E402
from studies.plan.jobspec import specification  # noqa: E402
from studies.plan.runs import PlannedRun, plan, select  # noqa: E402
from studies.records.index import NAME  # noqa: E402
from studies.records.schema import Plain  # noqa: E402
from studies.records.store import Store  # noqa: E402
from studies.records.typed import to_json  # noqa: E402
from studies.records.working_state import Process, Submission  # noqa: E402
from studies.records.workspace import Workspace  # noqa: E402
from studies.slurm.profile import Profile  # noqa: E402

CSVS = """
from segnext.door import command
from studies.facts import files
from studies.records.store import Store

command("CSVs")(lambda: files.write(Store()) and 0)()
"""
SIZES = (100, 1_000, 10_000, 20_000)
TABLES = ("table6", "table7", "table8")
GOAL, MEMORY = 3.0, 500.0  # seconds, MB
SQUEUE = """#!/bin/sh
echo squeue >> "$LAB/asked"
cat "$LAB/queue"
"""
SACCT = """#!/bin/sh
echo sacct >> "$LAB/asked"
"""


@dataclass(frozen=True)
class Figure:
    """What a command took."""

    runs: int
    command: str
    seconds: float  # of computing
    clock: float
    megabytes: float
    queries: int
    files: int  # and folders, of runs/ and results/, after it


def lab(folder: Path, runs: int) -> tuple[dict[str, str], str]:
    """So many run folders, and as many records; what a command needs in its environment, and the seeds of the runs."""
    environment = {"SEGNEXT_RESULTS": str(folder / "results"), "SEGNEXT_RUNS": str(folder / "runs"), "LAB": str(folder)}
    os.environ.update(environment)
    records = folder / "results" / "records"
    records.mkdir(parents=True)
    costs_of(records)
    pattern = example()
    curve = (REPOSITORY / "results" / "curves" / f"{pattern['id']}.csv").read_bytes()
    printed = gzip.compress(b"a line of what a worker prints, as long as such a line is\n" * 8, mtime=0)
    seeds, planned_runs, others = 0, list[PlannedRun](), list[PlannedRun]()
    while len(planned_runs) < runs:
        seeds = -(-runs // (len(planned_runs) // seeds if planned_runs else runs))
        planned_runs, others = _planned_runs(seeds, None), _planned_runs(seeds, 100)
    queue = []
    for number, planned in enumerate(planned_runs[:runs]):
        queue += _started(number, planned)
        if number % 2 == 0:
            record(records, pattern, planned)
    for planned in others[: runs - (runs + 1) // 2]:
        record(records, pattern, planned)
    for kept, ending, content in (("curves", "csv", curve), ("logs", "txt.gz", printed)):
        (folder / "results" / kept).mkdir()
        for path in records.glob(f"{'[0-9a-f]' * 12}.json"):
            (folder / "results" / kept / f"{path.stem}.{ending}").write_bytes(content)
    (folder / "queue").write_text("".join(queue))
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (("squeue", SQUEUE), ("sacct", SACCT)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {**environment, "PATH": f"{programs}:{os.environ['PATH']}"}, f"0-{seeds - 1}"


def _planned_runs(seeds: int, limit: int | None) -> list[PlannedRun]:
    quick = protocol("quick")
    return plan(select(TABLES, quick, None, range(seeds)), quick, limit, Store())


def _started(number: int, planned: PlannedRun) -> list[str]:
    """Write a run's folder as a submission leaves it, or a finished run; returns squeue's line about its job."""
    folder, token = Workspace(planned.id).folder, f"segnext-{number // 1000:010d}"
    folder.mkdir(parents=True)
    settings = execution(Profile(), 8000)
    spec = specification(
        planned, None, None, None, settings, "python -m studies.run table7", options=["--cluster=slurm"]
    )
    job = f"{number // 1000 + 1}_{number % 1000}"
    submission = Submission(token, number % 1000, time.time() - 60, "lab", Process("login", 100, "1"), "x", job)
    (folder / "spec.json").write_text(to_json(spec))
    (folder / "submission.json").write_text(to_json(submission))
    if number % 2:
        return [f"{token}|{job}|PENDING||Priority\n"]
    attempt = {
        "host": "n1",
        "pid": 100,
        "started": 1e9,
        "finished": 1e9 + 60,
        "cause": "done",
        "job": job,
        "node": "n1",
    }
    (folder / "attempts").mkdir()
    (folder / "attempts" / "001.json").write_text(to_json(attempt).ljust(4096))
    for name in ("curve.jsonl", "log.txt", "progress.json", "weights.pt"):
        (folder / name).write_text("")
    return []


def costs_of(records: Path) -> None:
    """The repository's records of costs, so that no command measures any."""
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        shutil.copy(path, records)


def example() -> Plain:
    """The record of a quick run."""
    return next(one for one in Store(REPOSITORY / "results").runs() if one.config.protocol == "quick").plain


def record(records: Path, pattern: Plain, planned: PlannedRun) -> None:
    """A record like the pattern, of this run."""
    made = {**pattern, "id": planned.id, "config": canonical(planned.run)}
    (records / f"{planned.id}.json").write_text(to_json(made))


def measured(runs: int) -> Iterator[Figure]:
    """The figures of a lab of this size, as they come."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # a command starts with the memory of this process
            own, seeds = apart.submit(lab, folder, runs).result()
        environment = {**os.environ, **own}
        index, records = folder / "results" / NAME, sorted((folder / "results" / "records").glob("*.json"))
        time.sleep(3)  # what is younger has no entry in an index
        run = json.loads(next(path for path in records if len(path.stem) == 12).read_text())["id"]
        commands = {
            "list": ["studies.list"],
            "status, first": ["studies.status"],
            "status": ["studies.status"],
            "dry run": ["studies.run", *TABLES, "--protocol", "quick", "--seeds", seeds, "--dry-run"],
            "show": ["studies.show", run],
            "CSVs": ["-c", CSVS],
            "report, first": ["reports.build", "--out", str(folder / "report")],
            "report's increment": ["reports.build", "--out", str(folder / "report")],
            "gc": ["studies.gc", "--delete"],
            "status, packed": ["studies.status"],
            "dry run, packed": ["studies.run", *TABLES, "--protocol", "quick", "--seeds", seeds, "--dry-run"],
        }
        lost = records[-1].read_bytes(), records[-1]
        for what, words in commands.items():
            if what == "status, first":
                index.unlink(missing_ok=True)
            if what == "report, first":
                lost[1].unlink()
            if what == "report's increment":
                lost[1].write_bytes(lost[0])
            (folder / "asked").write_text("")
            yield _timed(runs, what, words, environment, folder)


def _timed(runs: int, what: str, words: Sequence[str], environment: dict[str, str], folder: Path) -> Figure:
    """Run a command once."""
    command = [sys.executable, *([] if words[0] == "-c" else ["-m"]), *words]
    started = time.perf_counter()
    with open(folder / "said", "wb") as said:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
    clock, process.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "said").read_text()[-2000:]
    queries = len((folder / "asked").read_text().split())
    left = sum(len(names) + len(files) for of in ("runs", "results") for _, names, files in os.walk(folder / of))
    return Figure(runs, what, used.ru_utime + used.ru_stime, clock, used.ru_maxrss / 1000, queries, left)


def draw(figures: Sequence[Figure], path: Path) -> None:
    """The seconds that each command takes, over the number of runs."""
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=(7.6, 4), layout="constrained")
    axes = sheet.add_subplot()
    for command in dict.fromkeys(figure.command for figure in figures if "first" not in figure.command):
        own = [figure for figure in figures if figure.command == command]
        axes.plot([one.runs for one in own], [one.clock for one in own], marker="o", label=command)
    axes.axhline(GOAL, color="0.6", linestyle=":", label=f"{GOAL:g} s")
    axes.set(
        xscale="log", yscale="log", xlabel="records and run folders, each", ylabel="seconds by the clock, on two cores"
    )
    sheet.legend(loc="outside right upper", fontsize="small")
    sheet.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print a line per command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("runs", nargs="*", type=int, default=SIZES, metavar="RUNS")
    parse.add_argument("--keep", type=Path, metavar="FILE", help="a CSV; the drawing has its name and .svg")
    options = parse.parse_args()
    print(json.dumps({"cores": os.cpu_count(), "python": sys.version.split()[0]}))
    figures = []
    for runs in options.runs:
        for found in measured(runs):
            figures.append(found)
            words = f"{found.seconds:7.2f} s, {found.clock:7.2f} by the clock, {found.megabytes:5.0f} MB"
            told = f"{words}, {found.queries} queries, {found.files:7,} files"
            print(f"{runs:6,} {found.command:20} {told}", flush=True)
    if options.keep:
        with open(options.keep, "w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(figures[0])), lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(f).items()} for f in figures
            )
        draw(figures, options.keep.with_suffix(".svg"))


if __name__ == "__main__":
    main()
