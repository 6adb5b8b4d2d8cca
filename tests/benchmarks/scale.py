"""How long the commands take on 2,000 runs, in a lab of that size that is made up for it: half recorded, half queued.

`python tests/benchmarks/scale.py [RUNS]` prints seconds, and how often the scheduler was asked. SLURM's commands are
stand-ins that answer at once for every job: what is timed is ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from segnext.config import canonical  # noqa: E402
from studies.declare.protocols import protocol  # noqa: E402
from studies.launch.submit import execution  # noqa: E402
from studies.plan.jobspec import specification  # noqa: E402
from studies.plan.runs import plan, select  # noqa: E402
from studies.records.store import Store  # noqa: E402
from studies.records.typed import to_json  # noqa: E402
from studies.records.working_state import Process, Submission  # noqa: E402
from studies.records.workspace import Workspace  # noqa: E402
from studies.slurm.profile import Profile  # noqa: E402

CSVS = "from studies.facts import files; from studies.records.store import Store; files.write(Store())"
SQUEUE = """#!/bin/sh
echo squeue >> "$LAB/asked"
cat "$LAB/queue"
"""
SACCT = """#!/bin/sh
echo sacct >> "$LAB/asked"
"""


def lab(folder: Path, runs: int) -> dict[str, str]:
    """A results and a runs folder with so many runs of Table 7; what a command needs in its environment."""
    environment = {"SEGNEXT_RESULTS": str(folder / "results"), "SEGNEXT_RUNS": str(folder / "runs"), "LAB": str(folder)}
    os.environ.update(environment)
    records = folder / "results" / "records"
    records.mkdir(parents=True)
    committed = Store(REPOSITORY / "results")
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        shutil.copy(path, records)
    example = next(record for record in committed.kind("run") if record["config"]["protocol"] == "quick")
    chosen = protocol("quick")
    cells = plan(select(["table7"], chosen, None, range(runs // 4)), chosen, None, Store())
    settings = execution(Profile(), 8000)
    queue = []
    for number, cell in enumerate(cells):
        workspace = Workspace(cell.id)
        workspace.folder.mkdir(parents=True)
        workspace.write_spec(specification(cell, None, None, None, settings, "python -m studies.run table7"))
        token = f"segnext-{number // 1000:010d}"
        job = f"{number // 1000 + 1}_{number % 1000}"
        process = Process("login", 100, "1")
        workspace.submission.create(Submission(token, number % 1000, time.time(), "lab", process, "x", job))
        if number % 2:
            record = {**example, "id": cell.id, "config": canonical(cell.run)}
            (records / f"{cell.id}.json").write_text(to_json(record))
        else:
            queue.append(f"{token}|{job}|PENDING||Priority\n")
    (folder / "queue").write_text("".join(queue))
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (("squeue", SQUEUE), ("sacct", SACCT)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {**environment, "PATH": f"{programs}:{os.environ['PATH']}"}


def main() -> None:
    """Print a line per command."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, **lab(folder, runs)}
        seeds = f"0-{runs // 4 - 1}"
        commands = {
            "dry run": ["studies.run", "table7", "--protocol", "quick", "--seeds", seeds, "--dry-run"],
            "status": ["studies.status", "table7"],
            "CSV rebuild": [
                "-c",
                "from studies.facts import files; from studies.records.store import Store; files.write(Store())",
            ],
            "list": ["studies.list"],
            "help": ["studies.run", "--help"],
        }
        print(json.dumps({"runs": runs, "cores": os.cpu_count(), "python": sys.version.split()[0]}))
        for what, words in commands.items():
            (folder / "asked").write_text("")
            command = [sys.executable, *([] if words[0] == "-c" else ["-m"]), *words]
            times = []
            for _ in range(3):
                started = time.perf_counter()
                done = subprocess.run(
                    command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
                )
                times.append(time.perf_counter() - started)
                assert done.returncode == 0, done.stderr
            asked = len((folder / "asked").read_text().split()) / 3
            print(f"{what:12} {sorted(times)[1]:6.2f} s (median of 3)   {asked:.0f} scheduler queries")


if __name__ == "__main__":
    main()
