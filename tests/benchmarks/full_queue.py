"""Whether `--follow` submits more runs than a SLURM has room for, all of them, and nothing twice.

`python tests/benchmarks/full_queue.py [RUNS] [--jobs N] [--array N]` starts slurm/dev-cluster in a folder of its own
with MaxJobCount and MaxArraySize in the way, types `studies.run table5 table7 --cluster slurm --follow` for RUNS runs
(default: 5000), and takes the cluster down. What a job starts in place of Python notes that it was started and leaves
the run's record: what is looked at is the submission. Prints how far it is, then one line; exit code 0 where every run
was submitted and started once, 1 otherwise, 77 where SLURM cannot be had.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from scale import costs_of, example, record  # noqa: E402

from slurm import NO_SLURM, Cluster, NoSlurm  # noqa: E402
from studies.declare.protocols import protocol  # noqa: E402
from studies.plan.runs import PlannedRun, plan, select  # noqa: E402
from studies.records.store import Store  # noqa: E402

TABLES = ["table5", "table7"]
WORKER = """#!/bin/bash
# In place of `python -u -m studies.worker ELEMENT...`: an element of the array is a run.
set -e
shift 3
runs=("$@")
run=${{runs[$SLURM_ARRAY_TASK_ID]}}
echo "$run $SLURM_JOB_ID" >> {lab}/started
cp {lab}/ready/$run.json {lab}/results/records/.$run
mv {lab}/results/records/.$run {lab}/results/records/$run.json
"""
PROFILE = 'cpus = 1\nmemory = "500M"\ntime = "00:05:00"\nwarning = 20\npython = "{lab}/worker"\n'
SUBMITTED = re.compile(r"^job (\d+) \(\S+\): (\d+) ", re.MULTILINE)


def lab(folder: Path, runs: list[PlannedRun]) -> dict[str, str]:
    """A login node's folders, and what the jobs of so many runs will leave; what a command needs in its environment."""
    results, ready = folder / "results", folder / "ready"
    (results / "records").mkdir(parents=True)
    ready.mkdir()
    costs_of(results / "records")
    pattern = example()
    for planned in runs:
        record(ready, pattern, planned)
    (folder / "worker").write_text(WORKER.format(lab=folder))
    (folder / "worker").chmod(0o755)
    (folder / "profile.toml").write_text(PROFILE.format(lab=folder))
    return {"SEGNEXT_RESULTS": str(results), "SEGNEXT_RUNS": str(folder / "runs")}


def planned_runs(runs: int) -> tuple[list[PlannedRun], str]:
    """So many or a few more of two tables, and their seeds as a command takes them."""
    quick, empty = protocol("quick"), Store(Path("/nonexistent"))
    seeds = -(-runs // len(plan(select(TABLES, quick, None, [0]), quick, None, empty)))
    return plan(select(TABLES, quick, None, range(seeds)), quick, None, empty), f"0-{seeds - 1}"


def watched(process: subprocess.Popen[bytes], folder: Path, cluster: Cluster, runs: int, began: float) -> None:
    """Say how far it is until the command has ended."""
    while True:
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            names = os.listdir(folder / "results" / "records")
            done, waiting = sum(name[0] != "." and "-" not in name for name in names), len(cluster.queue())
            far = f"{done:,} of {runs:,} recorded, {waiting:,} in the queue"
            print(f"{time.monotonic() - began:6.0f} s: {far}", flush=True)


def main() -> int:
    """Print a line at the end."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("runs", nargs="?", type=int, default=5_000, metavar="RUNS")
    parse.add_argument("--jobs", type=int, default=1_000, metavar="N", help="MaxJobCount (default: 1000)")
    parse.add_argument("--array", type=int, default=251, metavar="N", help="MaxArraySize (default: 251)")
    options = parse.parse_args()
    with tempfile.TemporaryDirectory(prefix="full-", dir="/tmp") as name:
        folder = Path(name)
        planned, seeds = planned_runs(options.runs)
        environment = {**os.environ, **lab(folder, planned)}
        try:
            cluster = Cluster.up(
                accounting=0, extra=f"MaxJobCount={options.jobs}\nMaxArraySize={options.array}\nMinJobAge=2"
            )
        except NoSlurm as error:
            print(error)
            return NO_SLURM
        try:
            words = [*TABLES, "--protocol", "quick", "--seeds", seeds, "--cluster", "slurm"]
            words += ["--profile", str(folder / "profile.toml"), "--follow"]
            began = time.monotonic()
            with open(folder / "said", "wb") as said:
                process = subprocess.Popen(
                    [sys.executable, "-m", "studies.run", *words],
                    cwd=REPOSITORY,
                    env={**environment, **cluster.environment},
                    stdout=said,
                    stderr=said,
                )
                watched(process, folder, cluster, len(planned), began)
            took = time.monotonic() - began
        finally:
            cluster.down()
        return _told(folder, len(planned), process.returncode, took)


def _told(folder: Path, runs: int, code: int, took: float) -> int:
    """What came of it, in a line."""
    text = (folder / "said").read_text(errors="replace")
    arrays = dict(SUBMITTED.findall(text))
    noted = folder / "started"
    started = Counter(line.split()[0] for line in noted.read_text().splitlines()) if noted.exists() else Counter[str]()
    doubled = sum(count > 1 for count in started.values())
    submitted, refused = sum(map(int, arrays.values())), text.count("sbatch refuses")
    words = f"{runs:,} runs: {submitted:,} submitted in {len(arrays)} arrays, {refused} refusals, "
    print(f"{words}{len(started):,} started, {doubled} doubled, exit code {code}, {took:,.0f} s")
    fine = submitted == len(started) == runs and not doubled and code == 0
    if not fine:
        print(text[-3000:])
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
