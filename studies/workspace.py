"""The working folder of one run under runs/: what to do, who is doing it, how far it is, and the attempts so far.

runs/<run id>/spec.json        what to do; written before a worker starts
              submission.json  the job of a scheduler that is to do it: created exclusively, before it is submitted
              claim.json       who is doing it: created exclusively, with the owner's process; touched as a heartbeat
              progress.json    phase and step, replaced about twice a second
              curve.jsonl      the training curve so far      log.txt   what the worker printed
              states/          the last two training states   attempts/001.json ...   how each attempt ended
              weights.pt       what the training ended with, under the released names; kept
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segnext.files import write_atomically
from studies.store import REPOSITORY, runs_folder, to_json

BEAT_SECONDS = 10.0  # between two heartbeats of an owner
SILENT_AFTER = 120.0  # seconds without one after which an owner on another machine counts as dead


class Claimed(Exception):
    """Another live process is working on the run."""


class Ticket:
    """A small JSON file that appears with its content or not at all, and that one of many creates."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any] | None:
        """Its content; None where there is none."""
        return _read(self.path)

    def create(self, content: dict[str, Any]) -> bool:
        """Make it appear; False where one exists. A hard link fails there, on network file systems too."""
        temporary = self.path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        temporary.write_text(json.dumps(content))
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def replace(self, content: dict[str, Any]) -> None:
        """Put this content in the place of what the caller knows to be its own."""
        write_atomically(self.path, json.dumps(content))

    def remove(self, content: dict[str, Any] | None) -> bool:
        """Take it away while its content (None: unreadable) is still this; of several who try, one succeeds."""
        aside = self.path.with_suffix(f".dead.{uuid.uuid4().hex}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return False
        same = _read(aside) == content
        if not same:
            os.link(aside, self.path)  # between our look and our move it became someone's: give it back
        aside.unlink()
        return same


class Workspace:
    """One run's folder."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.folder = runs_folder() / run_id
        self.states = self.folder / "states"
        self.curve = self.folder / "curve.jsonl"
        self.log = self.folder / "log.txt"
        self.weights = self.folder / "weights.pt"
        self.submission = Ticket(self.folder / "submission.json")
        self._spec = self.folder / "spec.json"
        self._claim = Ticket(self.folder / "claim.json")
        self._progress = self.folder / "progress.json"
        self._reported = 0.0
        self.lost = False  # whether another has taken the claim over: this process was silent for too long

    # What to do

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Record what the run's worker is to do."""
        write_atomically(self._spec, to_json(spec))

    def read_spec(self) -> dict[str, Any]:
        """What `write_spec` recorded."""
        spec: dict[str, Any] = json.loads(self._spec.read_bytes())
        return spec

    def planned(self) -> dict[str, Any] | None:
        """The specification, or None where the run was never started."""
        return _read(self._spec)

    # Who is doing it

    @contextmanager
    def claim(self, patience: float = 0.0) -> Iterator[None]:
        """Own the run for the duration. Raises `Claimed` while another live process owns it.

        `patience`: seconds to wait for an owner of whom it cannot be told yet whether it is dead.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": born(os.getpid()),
            "job": job(),
            "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
            "node": os.environ.get("SLURMD_NODENAME", ""),
            "code": REPOSITORY.name,  # of a worker: the snapshot that it runs from
            "token": uuid.uuid4().hex,
        }
        until = time.monotonic() + patience
        while not self._claim.create(mine):
            owner = self._claim.read()
            if owner is None and not self._claim.path.exists():
                continue  # its owner has left
            # None: torn by a crash of the machine.
            if owner is None or _started_again(owner, mine) or not self._alive(owner):
                self._bury()
                self._claim.remove(owner)
            elif time.monotonic() > until:
                raise Claimed(f"run {self.run_id} is being worked on by process {owner['pid']} on {owner['host']}")
            else:
                time.sleep(1)
        left = threading.Event()
        threading.Thread(target=self._beat, args=(mine, left), daemon=True).start()
        try:
            yield
        finally:
            left.set()
            if self._claim.read() == mine:
                self._claim.path.unlink(missing_ok=True)

    def owner(self) -> dict[str, Any] | None:
        """The live owner's claim, or None."""
        claim = self._claim.read()
        return claim if claim and self._alive(claim) else None

    def _alive(self, claim: dict[str, Any]) -> bool:
        if claim["host"] == socket.gethostname():
            return born(claim["pid"]) == claim["born"]
        return self._now() - self._seen() < SILENT_AFTER

    def _now(self) -> float:
        """The time by the clock that stamps the heartbeats, the file server's: that of a node may be minutes off."""
        probe = self.folder / f".now.{uuid.uuid4().hex}"
        try:
            probe.touch()
            return _modified(probe)
        except OSError:  # somebody else's folder
            return time.time()
        finally:
            probe.unlink(missing_ok=True)

    def _seen(self) -> float:
        """When the owner was last seen alive."""
        return max(_modified(path) for path in (self._claim.path, self._progress))

    def _bury(self) -> None:
        """Note in a dead owner's attempt, which could not say so itself, when it was last seen alive."""
        path = max((self.folder / "attempts").glob("*.json"), default=self.folder)
        entry = _read(path) if path != self.folder else None
        if entry is not None and "finished" not in entry:
            seen = max(entry["started"], self._seen())
            write_atomically(path, to_json({**entry, "finished": seen, "ends_after": self.last_state()}))

    def _beat(self, mine: dict[str, Any], left: threading.Event) -> None:
        """Say that the owner lives, also while it computes for minutes without a word."""
        while not left.wait(BEAT_SECONDS):
            try:
                self.lost = (self._claim.read() or mine) != mine
                if self.lost:
                    return
                os.utime(self._claim.path)
            except OSError:  # a file system in trouble: the next beat may get through
                continue

    def forget_training(self) -> None:
        """Let the run begin anew: put what the last training left aside. Its weights stay until others replace them."""
        for path in (self.states, self.curve):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

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
    def attempt(self, **facts: Any) -> Iterator[dict[str, Any]]:
        """Record one attempt: as `killed` from its start on, so that a kill leaves the truth; the body says better."""
        folder = self.folder / "attempts"
        number = len(list(folder.glob("*.json"))) + 1
        entry: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": job(),
            "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            "node": os.environ.get("SLURMD_NODENAME", ""),
            "nodes": os.environ.get("SLURM_JOB_NODELIST", ""),
            "started": time.time(),
            "begins_after": self.last_state(),
            "cause": "killed",
            "message": "",
            **facts,
        }
        path = folder / f"{number:03d}.json"
        write_atomically(path, to_json(entry))
        try:
            yield entry
        finally:
            entry.update(finished=time.time(), ends_after=self.last_state())
            write_atomically(path, to_json(entry))

    def amend_attempt(self, **facts: Any) -> None:
        """Say better how the last attempt ended."""
        path = max((self.folder / "attempts").glob("*.json"))
        write_atomically(path, to_json({**json.loads(path.read_bytes()), **facts}))

    def last_attempt(self) -> dict[str, Any] | None:
        """The newest attempt, or None."""
        path = max((self.folder / "attempts").glob("*.json"), default=None)
        return _read(path) if path else None

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts, oldest first."""
        return [json.loads(path.read_bytes()) for path in sorted((self.folder / "attempts").glob("*.json"))]


def _started_again(owner: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether this process is the owner's job, started once more: which SLURM does when the owner has ended."""
    return bool(mine["job"]) and owner.get("job") == mine["job"] and owner["restart"] != mine["restart"]


def job() -> str:
    """The SLURM job that this process is part of, as squeue writes it: `812_3`, `812`; empty outside of one."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")


def born(pid: int) -> str | None:
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
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
