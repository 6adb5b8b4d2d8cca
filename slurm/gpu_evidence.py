"""CamVid on one card for a few minutes: `make gpu-evidence MINUTES=8` (README.md beside this file).

Does the tables' runs seed by seed (every row of the first table at seed 0, then of the second, then seed 1 of both) by
the ordinary `python -m studies.run`, several at a time on the card, in folders of their own. When the minutes are over
it stops them, and the next start on the same machine continues them. What is finished is packed into one small file:
records, curves, Grad-CAM's shares, and no weights or images. `tar -xzf evidence.tar.gz -C results` unpacks it at home.
Needs no package itself. Exit codes: 0 every run is done, 5 stopped and to be continued, else those of studies.run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
COMMITTED = REPOSITORY / "results"
LEAVING = 25.0  # seconds before the end at which runs are asked to stop: they save, the file is packed
GRACE = 20.0  # seconds that they may take for it
FIGURES = 2  # processes that look at finished runs beside the training
PACKED = (("records", ".json"), ("curves", ".csv"), ("cam", ".json"), ("logs", ".txt.gz"))


@dataclass(frozen=True)
class Planned:
    """A run of the plan."""

    id: str
    selector: str  # table7/c
    seed: int


def parser() -> argparse.ArgumentParser:
    """The command line; `make gpu-evidence` gives it."""
    purpose, what, _ = (__doc__ or "").split("\n\n")[0], (__doc__ or "").split("\n\n")[1], ""
    parse = argparse.ArgumentParser(description=f"{purpose}\n{what}")
    parse.add_argument("--minutes", type=float, default=8.0, help="the whole of it, packing included (default: 8)")
    parse.add_argument("--device", default="cuda", help="cpu rehearses (default: cuda)")
    parse.add_argument("--protocol", default="camvid", help="(default: camvid)")
    parse.add_argument(
        "--data", type=Path, default=None, help="CamVid's folder (default: .camvid, ../shared/data/camvid)"
    )
    parse.add_argument("--studies", default="table7,table6", help="STUDY[/ROW],..., in order (default: table7,table6)")
    parse.add_argument("--seeds", default="0,1,2", help="(default: 0,1,2)")
    parse.add_argument("--parallel", default="4", help="runs at a time (default: 4)")
    parse.add_argument("--workers", default="3", help="loader processes of a run: 4 x (3 + 1) cores (default: 3)")
    parse.add_argument("--precision", default="bfloat16")
    parse.add_argument("--compile", default="graphs")
    parse.add_argument("--limit-iterations", default=None, help="cut every run there: a rehearsal")
    parse.add_argument("--cam-class", default="pole", help="whose Grad-CAM is measured; empty: the most frequent")
    parse.add_argument("--folder", type=Path, default=REPOSITORY / ".evidence", help="results/ and runs/ (.evidence)")
    parse.add_argument("--out", type=Path, default=None, help="where the packed file goes (default: $OUT, else FOLDER)")
    return parse


class Evidence:
    """One start of the programme."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._results: Path = options.folder.expanduser().resolve() / "results"
        self._runs: Path = options.folder.expanduser().resolve() / "runs"
        self._out: Path = (options.out or Path(os.environ.get("OUT") or options.folder)).expanduser()
        site = REPOSITORY / ".gpu-site"  # wheels that this machine lacks, unpacked by make
        paths = [str(site)] * site.is_dir() + [os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "SEGNEXT_RESULTS": str(self._results),
            "SEGNEXT_RUNS": str(self._runs),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
        }
        self._figures: dict[str, subprocess.Popen[bytes]] = {}
        self._looked_at: set[str] = set()
        self._packed: tuple[int, int] | None = None

    def begin(self) -> list[Planned]:
        """Take over what is committed, so that nothing of it is done again; the plan. Exits with studies.run's code."""
        (self._results / "records").mkdir(parents=True, exist_ok=True)
        self._out.mkdir(parents=True, exist_ok=True)
        for path in sorted((COMMITTED / "records").glob("*.json")):
            record = json.loads(path.read_text())
            if record["kind"] == "cost" or record["config"].get("protocol") == self._options.protocol:
                shutil.copy2(path, self._results / "records" / path.name)
        words = [*self._command(), "--dry-run", "--json"]
        done = subprocess.run(words, cwd=REPOSITORY, env=self._environment, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        planned = [Planned(c["run"], f"{c['study']}/{c['row']}", c["seed"]) for c in json.loads(done.stdout)]
        self._say(f"{len(planned)} runs: {' '.join(f'{one.selector}@{one.seed}' for one in planned)}")
        return planned

    def work(self, planned: list[Planned], end: float, stopping: list[int]) -> int:
        """Run until `end` (of time.monotonic), or until a signal is in `stopping`; the exit code of studies.run."""
        process = self._start(self._command(), start_new_session=True)  # Ctrl-C reaches it through us alone
        asked: float | None = None
        while process.poll() is None:
            now = time.monotonic()
            if asked is None and (stopping or now >= end - LEAVING):
                self._say("the minutes are over: every run saves" if not stopping else "stopped: every run saves")
                process.send_signal(signal.SIGTERM)
                asked = now
            elif asked is not None and now - asked > GRACE:
                process.send_signal(signal.SIGKILL)
                self._say("studies.run did not leave: what it had saved before is what continues")
                break
            self.look(planned, start=asked is None)
            time.sleep(0.5)
        code = process.wait()
        while asked is None and not stopping and time.monotonic() < end - 5 and self.look(planned, start=True):
            time.sleep(0.5)  # pictures of the last runs
        return code

    def look(self, planned: list[Planned], start: bool) -> bool:
        """Start looking at what has finished, pack what is new; whether something is still looked at."""
        finished = [one for one in planned if (self._results / "records" / f"{one.id}.json").exists()]
        for identifier, process in list(self._figures.items()):
            if process.poll() is not None:
                del self._figures[identifier]
        for one in finished if start else ():
            weights = self._runs / one.id / "weights.pt"
            there = (self._results / "cam" / f"{one.id}.json").exists() or not weights.exists()
            if len(self._figures) < FIGURES and one.id not in self._looked_at and not there:
                self._looked_at.add(one.id)
                self._figures[one.id] = self._picture(one)
        cams = sum((self._results / "cam" / f"{one.id}.json").exists() for one in finished)
        if (len(finished), cams) != self._packed:
            self._packed = (len(finished), cams)
            self.pack(finished)
        return bool(self._figures)

    def pack(self, finished: list[Planned]) -> Path:
        """What was finished here and is not committed, in one file that exists as a whole."""
        path, buffer = self._out / "evidence.tar.gz", io.BytesIO()
        new = [one.id for one in finished if not (COMMITTED / "records" / f"{one.id}.json").exists()]
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for folder, ending in PACKED:
                for name in (f"{folder}/{identifier}{ending}" for identifier in new):
                    if (self._results / name).exists():
                        tar.add(self._results / name, arcname=name)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
        return path

    def end(self, planned: list[Planned], code: int, stopped: bool) -> int:
        """Leave nothing running, pack, say what there is; the exit code."""
        for process in self._figures.values():
            process.terminate()
            process.wait()
        finished = [one for one in planned if (self._results / "records" / f"{one.id}.json").exists()]
        path = self.pack(finished)
        self._say(f"{len(finished)} of {len(planned)} runs are finished; {path}: {path.stat().st_size / 1e3:.0f} kB")
        for one in planned:
            if one not in finished and (told := self._standing(one)):
                self._say(told)
        if len(finished) == len(planned):
            return 0
        return 5 if stopped else code or 1

    def _standing(self, one: Planned) -> str:
        """Where an unfinished run stands, with the end of its log where it failed; empty where it was not begun."""
        folder = self._runs / one.id
        attempts = sorted((folder / "attempts").glob("*.json"))
        if not attempts:
            return ""
        last: dict[str, Any] = json.loads(attempts[-1].read_text())
        states = sorted(path.name for path in (folder / "states").glob("*.pt"))
        told = f"{one.selector}@{one.seed}: {last.get('cause', 'killed')}, saved: {', '.join(states) or 'nothing'}"
        if last.get("cause") in ("stopped", None):
            return told
        log = (folder / "log.txt").read_text(errors="replace").splitlines()[-15:]
        return "\n    ".join([told, *log])

    def _command(self) -> list[str]:
        options = self._options
        selectors = [f"{study}@{seed}" for seed in options.seeds.split(",") for study in options.studies.split(",")]
        words = [sys.executable, "-m", "studies.run", *selectors, *self._shared(), "--device", options.device]
        words += ["--max-parallel", options.parallel, "--threads", "1", "--workers", options.workers]
        words += ["--precision", options.precision, "--evaluate-every", "0"]
        return words + (["--compile", options.compile] if options.compile else [])

    def _shared(self) -> list[str]:
        options = self._options
        words = ["--protocol", options.protocol]
        words += ["--data-root", str(options.data.expanduser().resolve())] if options.data else []
        return words + (["--limit-iterations", options.limit_iterations] if options.limit_iterations else [])

    def _picture(self, one: Planned) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "studies.figures", "--rows", one.selector, "--seeds", str(one.seed)]
        words += [*self._shared(), "--images", "1"]
        words += ["--class", self._options.cam_class] if self._options.cam_class else []
        return self._start(["nice", "-n", "10", *words])

    def _start(self, words: list[str], start_new_session: bool = False) -> subprocess.Popen[bytes]:
        with open(self._out / "evidence.log", "ab") as log:
            return subprocess.Popen(
                words,
                cwd=REPOSITORY,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=start_new_session,
            )

    def _say(self, words: str) -> None:
        print(words, flush=True)
        with open(self._out / "evidence.log", "a") as log:
            print(words, file=log)


def main() -> int:
    """The programme; returns the exit code."""
    options, began = parser().parse_args(), time.monotonic()
    if options.data is None and options.protocol.startswith("camvid"):
        places = (REPOSITORY / ".camvid", REPOSITORY.parent / "shared" / "data" / "camvid")
        options.data = next((place for place in places if place.is_dir()), None)
        if options.data is None:
            print(
                "CamVid is neither in .camvid nor in ../shared/data/camvid: make gpu-data, or DATA=DIR", file=sys.stderr
            )
            return 3
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, frame: stopping.append(got))
    evidence = Evidence(options)
    planned = evidence.begin()
    end = began + 60 * options.minutes
    code = evidence.work(planned, end, stopping)
    return evidence.end(planned, code, stopped=bool(stopping) or time.monotonic() >= end - LEAVING)


if __name__ == "__main__":
    sys.exit(main())
