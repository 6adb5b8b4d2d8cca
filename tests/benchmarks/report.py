"""How long the report takes on 10,000 records, made up for it: every row of every study, with ever more seeds.

`python tests/benchmarks/report.py [RECORDS]` prints seconds of whole commands, and whether torch was imported.
Figures take most of a first report, half a second each, however many records: they are drawn in processes, one a core.
Afterwards only those figures are drawn, and only those pages made, whose data changed.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from segnext.config import canonical  # noqa: E402
from studies.declare.protocols import PROTOCOLS  # noqa: E402
from studies.records.store import Store  # noqa: E402
from studies.records.typed import to_json  # noqa: E402
from studies.tables import studies  # noqa: E402


def lab(folder: Path, wanted: int) -> int:
    """A results folder with so many records; how many runs are among them."""
    records = folder / "records"
    records.mkdir(parents=True)
    for path in (REPOSITORY / "results" / "records").glob("*-*.json"):
        shutil.copy(path, records)
    committed = Store(REPOSITORY / "results")
    example = next(record for record in committed.kind("run") if record["config"]["protocol"] == "quick")
    there = len(list(records.iterdir()))
    written: set[str] = set()
    for seed in count():
        for study in studies().values():
            for chosen in (PROTOCOLS[name] for name in ("paper", "camvid", "quick")):
                for panel in chosen.panels(study):
                    for row in filter(panel.trains, study.trained):
                        run = chosen.run(panel, row, seed)
                        if run.id in written:
                            continue
                        if there + len(written) == wanted:
                            return len(written)
                        written.add(run.id)
                        score = 40 + int(run.id, 16) % 1000 / 500
                        metrics = {**example["metrics"], "miou_ss": score, "miou_ms": score + 1, "top1": score + 30}
                        record = {**example, "id": run.id, "config": canonical(run), "metrics": metrics}
                        (records / f"{run.id}.json").write_text(to_json(record))
    raise AssertionError


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = lab(folder / "results", wanted)
        print(f"{wanted} records, {runs} of them runs")
        environment = {**os.environ, "SEGNEXT_RESULTS": str(folder / "results")}
        program = (
            "import gc, sys; gc.disable(); from reports import build; code = build.main(sys.argv[1:]);"
            "print('torch imported:', 'torch' in sys.modules); sys.exit(code)"
        )
        newest = max((folder / "results" / "records").glob("[0-9a-f]*.json"))
        content = newest.read_text()
        newest.unlink()
        steps = ("everything is new", "every table and page is new", "one record more", "nothing new")
        for what in steps:
            words = ["--check"] if what == "nothing new" else []
            if what == "every table and page is new":
                shutil.rmtree(folder / "out" / "runs")
                for path in (folder / "out").iterdir():
                    if path.is_file() and path.suffix not in (".svg", ".png", ".pdf") and path.name != "figures.json":
                        path.unlink()
            if what == "one record more":
                newest.write_text(content)
            command = [sys.executable, "-c", program, "--out", str(folder / "out"), *words]
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True)
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            files = sum(path.is_file() for path in (folder / "out").rglob("*"))
            told = done.stdout.strip().splitlines()[-1]
            print(f"{what}: {computed:.1f} s computing, {seconds:.1f} s in all, {files} files; {told}", flush=True)


if __name__ == "__main__":
    main()
