"""How long the report takes on 10,000 records, made up for it: every row of every study, with ever more seeds.

`python tests/benchmarks/report.py [RECORDS]` prints seconds of whole commands, and whether torch was imported.
"""

from __future__ import annotations

import json
import os
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
from studies.protocols import PROTOCOLS  # noqa: E402
from studies.store import Store, to_json  # noqa: E402
from studies.study import studies  # noqa: E402


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
            "import sys; from reports import build; code = build.main(sys.argv[1:]);"
            "print('torch imported:', 'torch' in sys.modules); sys.exit(code)"
        )
        for words in ([], [], ["--check"]):
            command = [sys.executable, "-c", program, "--out", str(folder / "out"), *words]
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - start
            usage = json.dumps(done.stdout.strip().splitlines()[-1])
            files = sum(path.is_file() for path in (folder / "out").rglob("*"))
            print(f"reports.build {' '.join(words)}: {seconds:.1f} s, {files} files; {usage}")


if __name__ == "__main__":
    main()
