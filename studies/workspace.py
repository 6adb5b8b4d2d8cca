"""The working folder of one run under runs/: what to do, who is doing it, how far it is, and the attempts so far.

runs/<run id>/spec.json       what to do; written before a worker starts
              claim.json      who is doing it: created exclusively, with the owner's process
              progress.json   phase and step, replaced about twice a second: also the owner's heartbeat
              curve.jsonl     the training curve so far      log.txt   what the worker printed
              states/         the last two training states   attempts/001.json ...   how each attempt ended
              weights.pt      what the training ended with, under the released names; kept
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segnext.files import write_atomically
from studies.store import runs_folder, to_json

SILENT_AFTER = 120.0  # seconds without a heartbeat after which an owner on another machine counts as dead


class Claimed(Exception):
    """Another live process is working on the run."""


class Workspace:
    """One run's folder."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.folder = runs_folder() / run_id
        self.states = self.folder / "states"
        self.curve = self.folder / "curve.jsonl"
        self.log = self.folder / "log.txt"
        self.weights = self.folder / "weights.pt"
        self._claim = self.folder / "claim.json"
        self._progress = self.folder / "progress.json"
        self._reported = 0.0

    # What to do

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Record what the run's worker is to do."""
        write_atomically(self.folder / "spec.json", to_json(spec))

    def read_spec(self) -> dict[str, Any]:
        """What `write_spec` recorded."""
        spec: dict[str, Any] = json.loads((self.folder / "spec.json").read_text())
        return spec

    # Who is doing it

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Own the run for the duration. Raises `Claimed` while another live process owns it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "token": uuid.uuid4().hex}
        while not self._create_claim(mine):
            owner = self.owner()
            if owner is not None:
                raise Claimed(f"run {self.run_id} is being worked on by process {owner['pid']} on {owner['host']}")
            self._remove_dead_claim()
        try:
            yield
        finally:
            if _read(self._claim) == mine:
                self._claim.unlink(missing_ok=True)

    def owner(self) -> dict[str, Any] | None:
        """The live owner's claim, or None."""
        claim = _read(self._claim)
        if claim is None:
            return None
        if claim["host"] == socket.gethostname():
            return claim if _born(claim["pid"]) == claim["born"] else None
        newest = max((_modified(path) for path in (self._claim, self._progress)), default=0.0)
        return claim if time.time() - newest < SILENT_AFTER else None

    def _create_claim(self, mine: dict[str, Any]) -> bool:
        """Make the claim appear with its content, or not at all: a hard link fails where one exists."""
        temporary = self._claim.with_suffix(f".{mine['token']}.tmp")
        temporary.write_text(json.dumps(mine))
        try:
            os.link(temporary, self._claim)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _remove_dead_claim(self) -> None:
        """Move it aside under a name of our own: of several that find it dead, one succeeds."""
        aside = self._claim.with_suffix(f".dead.{uuid.uuid4().hex}")
        try:
            os.rename(self._claim, aside)
        except FileNotFoundError:
            return
        moved = _read(aside)
        if moved is not None and moved["host"] == socket.gethostname() and _born(moved["pid"]) == moved["born"]:
            os.link(aside, self._claim)  # between our look and our move it became someone's: give it back
        aside.unlink()

    # How far it is

    def report(self, phase: str, done: int, total: int, *, force: bool = False, **more: float) -> None:
        """Tell whoever watches; at most about twice a second unless forced."""
        now = time.monotonic()
        if not force and now - self._reported < 0.5:
            return
        self._reported = now
        temporary = self._progress.with_suffix(".tmp")
        temporary.write_text(json.dumps({"phase": phase, "done": done, "total": total, **more}))
        os.replace(temporary, self._progress)

    def forget_progress(self) -> None:
        """Drop the report of an earlier attempt, before a new one starts."""
        self._progress.unlink(missing_ok=True)

    def progress(self) -> dict[str, Any] | None:
        """The latest report, or None."""
        return _read(self._progress)

    def last_state(self) -> int:
        """After how many iterations the newest saved state was taken; 0 without one. Does not look inside."""
        names = [path.name[:8] for path in self.states.glob("*.pt") if path.name[:8].isdigit()]
        return max(map(int, names), default=0)

    # How attempts ended

    @contextmanager
    def attempt(self) -> Iterator[dict[str, Any]]:
        """Record one attempt: as `killed` from its start on, so that a kill leaves the truth; the body says better."""
        folder = self.folder / "attempts"
        number = len(list(folder.glob("*.json"))) + 1
        entry: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "cause": "killed",
            "message": "",
        }
        path = folder / f"{number:03d}.json"
        write_atomically(path, to_json(entry))
        try:
            yield entry
        finally:
            entry["finished"] = time.time()
            write_atomically(path, to_json(entry))

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "attempts").glob("*.json"))]


def _born(pid: int) -> str | None:
    """When a process of this machine started, to tell it from a later one with its number; None when it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if state == "Z" else fields[18]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # no /proc (macOS): whether it is there is all that can be told
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
