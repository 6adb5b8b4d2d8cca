"""The working folder of one run under runs/: its specification, its owner, its progress, and its attempts.

runs/<run id>/spec.json        what to do; written before a worker starts
              submission.json  the scheduler's job for it; created exclusively, before it is submitted
              claim.json       the owner's process; created exclusively, touched as a heartbeat
              progress.json    phase and step, replaced about twice a second
              curve.jsonl      the training curve so far      log.txt   what the worker printed
              states/          the last two training states   attempts/001.json ...   how each attempt ended
              weights.pt       what the training ended with, under the released names; kept
              finished         of a finished run the small files in one (`studies.gc`, `studies.records.packed`)
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from segnext.files import temporary_beside, write_atomically
from studies.records import packed
from studies.records.specifications import REMEDY, Pattern
from studies.records.store import REPOSITORY, runs_folder
from studies.records.typed import Damaged, content_of, read, to_json, value_of, write
from studies.records.working_state import Attempt, Claim, JobSpec, Process, Progress, Submission, job, restarts

T = TypeVar("T")

BEAT_SECONDS = 10.0  # between two heartbeats of an owner
SILENT_AFTER = 120.0  # seconds without one after which an owner that cannot be looked at counts as dead
TORN_AFTER = 10.0  # seconds after which a file that cannot be read is not one that is being written this moment
PATIENCE = 30.0  # seconds for one who packs the run to be ready
IDLE = "delete it once nothing works on the run"
ROOM = 4096  # bytes of an attempt's file: it can be closed in place on a full disk


class Claimed(Exception):
    """Another live process is working on the run."""


class ExclusiveJsonFile(Generic[T]):
    """A small JSON file that appears complete or not at all, and that only one of several processes creates."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path, self._kind = path, kind

    def read(self) -> T | None:
        """Its content; None if there is no file. Raises `Damaged`."""
        return read(self.path, self._kind, IDLE)

    def create(self, content: T) -> bool:
        """Create the file; False if it exists. It uses a hard link, which fails then even on network file systems."""
        temporary = temporary_beside(self.path)
        temporary.write_text(to_json(content))
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here: others may see the file while it is still empty
            return self._create_exclusively(to_json(content))
        finally:
            temporary.unlink()
        return True

    def _create_exclusively(self, text: str) -> bool:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with open(file, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(file)
        return True

    def replace(self, content: T) -> None:
        """Replace the content of a file that the caller owns."""
        write(self.path, content)

    def remove(self, content: T | None) -> bool:
        """Remove the file if its content (None: unreadable) is still this; only one of several callers succeeds."""
        aside = temporary_beside(self.path)
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return False
        try:
            found = read(aside, self._kind, "")
        except Damaged:
            found = None
        if found != content:  # another process replaced it before our rename: give it back
            try:
                os.link(aside, self.path)
            except FileExistsError:
                pass
            except OSError:  # no hard links here
                self._create_exclusively(aside.read_text())
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink()
        return found == content


class Workspace:
    """One run's folder."""

    pattern: Pattern | None = None  # what its specification shares with those of other seeds, once it was read

    def __init__(self, run_id: str, runs: Path | str = "") -> None:
        self.run_id = run_id
        self._at = f"{runs or runs_folder()}/{run_id}"
        self._reported = 0.0
        self.lost = False  # whether another process took the claim over, because this one was silent for too long

    def exists(self) -> bool:
        """Whether the run was ever started here."""
        return os.path.exists(self._at)

    def has(self, name: str) -> bool:
        """Whether it holds a file or folder of this name. True also where that cannot be seen: its reader says why."""
        try:
            os.lstat(f"{self._at}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # the folder is a colleague's, who closed it
            return True
        return True

    def look_again(self) -> None:
        """Forget which files were in it: somebody may have worked on the run since."""

    def attempted(self) -> bool:
        """Whether an attempt at it was ever begun."""
        return self.has("attempts") or self.has(packed.NAME)

    # Its files, each named when it is asked for: a command looks at two or three in each of thousands of folders

    @cached_property
    def folder(self) -> Path:
        """All of it."""
        return Path(self._at)

    @cached_property
    def states(self) -> Path:
        """The folder of the last training states."""
        return self.folder / "states"

    @cached_property
    def curve(self) -> Path:
        """The training curve so far."""
        return self.folder / "curve.jsonl"

    @cached_property
    def log(self) -> Path:
        """What the worker printed."""
        return self.folder / "log.txt"

    @cached_property
    def weights(self) -> Path:
        """What the training ended with."""
        return self.folder / "weights.pt"

    @cached_property
    def submission(self) -> ExclusiveJsonFile[Submission]:
        """The job of a scheduler that is to do the run."""
        return ExclusiveJsonFile(self.folder / "submission.json", Submission)

    @property
    def _spec(self) -> str:
        return f"{self._at}/spec.json"

    @cached_property
    def _claim(self) -> ExclusiveJsonFile[Claim]:
        return ExclusiveJsonFile(self.folder / "claim.json", Claim)

    @property
    def _progress(self) -> Path:
        return self.folder / "progress.json"

    # What to do

    def write_spec(self, spec: JobSpec) -> None:
        """Write the specification for the run's worker."""
        with suppress(Claimed):  # by whoever starts it before us
            self.unpack()
        write(Path(self._spec), spec)

    def spec(self) -> JobSpec | None:
        """The specification; None if the run was never started. Raises `Damaged`."""
        content = self._content("spec.json")
        return None if content is None else value_of(content, JobSpec, self._spec, REMEDY)

    def told(self) -> JobSpec:
        """The specification for a worker, which must have one. Raises `Damaged`, also if there is none."""
        if (spec := self.spec()) is None:
            raise Damaged(self._spec, "there is none", "the command that started the run writes it")
        return spec

    def submitted(self) -> Submission | None:
        """The job of a scheduler that is to do the run. Raises `Damaged`."""
        content = self._content("submission.json")
        return None if content is None else value_of(content, Submission, f"{self._at}/submission.json", IDLE)

    def printed(self) -> bytes | None:
        """What the worker printed; None where it printed nothing. Raises `Damaged`."""
        content = content_of(self.log, "delete it")
        return packed.log(self._at) if content is None else content

    def _content(self, name: str) -> bytes | None:
        """A small file, wherever it is; None where there is none. Raises `Damaged`."""
        if (content := self._loose(name)) is not None:
            return content
        text = self._packed().get(name)
        return None if text is None else text.encode()

    def _loose(self, name: str) -> bytes | None:
        """A small file that lies in the folder. Raises `Damaged`."""
        return content_of(f"{self._at}/{name}", REMEDY)

    def _packed(self) -> Mapping[str, str]:
        """The small files of a run that was packed. Raises `Damaged`."""
        return packed.texts(self._at)

    def pack(self) -> None:
        """Put the small files of a run that is over into one. Raises `Claimed`, `Damaged` and `OSError`."""
        with self.claim():
            if all(attempt.finished is not None for attempt in self.attempts()):
                packed.pack(self.folder)

    def unpack(self) -> None:
        """Put them back, before the run is started again. Raises `Claimed`, `Damaged` and `OSError`."""
        if (self.folder / packed.NAME).exists():
            with self.claim(PATIENCE):
                packed.unpack(self.folder)

    def damage(self) -> list[Damaged]:
        """The run's files that cannot be read."""
        found = [*self._attempts()[1]]
        for look in (self.spec, self.submitted):
            try:
                look()
            except Damaged as damaged:
                found.append(damaged)
        return found

    # Who is doing it

    @contextmanager
    def claim(self, patience: float = 0.0) -> Iterator[None]:
        """Own the run for the duration of a `with` block. Raises `Claimed` if another live process owns it.

        `patience` is how many seconds to wait for an owner that may turn out to be dead.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = Claim(
            Process.this(),
            token=uuid.uuid4().hex,
            job=job(),
            restart=restarts(),
            node=os.environ.get("SLURMD_NODENAME", ""),
            code=REPOSITORY.name,  # for a worker, the snapshot from which it runs
        )
        until = time.monotonic() + patience
        while not self._claim.create(mine):
            owner, state = self._look()
            if state == "alive" and owner is not None and _started_again(owner, mine):
                state = "dead"
            if state == "dead":
                self._bury(self.seen())
                self._claim.remove(owner)
            elif state == "torn" and time.monotonic() > until + 2 * TORN_AFTER:
                raise Claimed(f"run {self.run_id} may be being worked on: {self._claim.path} cannot be read")
            elif state == "torn":
                time.sleep(0.2)
            elif state == "alive" and time.monotonic() > until:
                assert owner is not None
                raise Claimed(
                    f"run {self.run_id} is being worked on by process {owner.process.pid} on {owner.process.host}"
                )
            elif state == "alive":
                time.sleep(1)
        left = threading.Event()
        threading.Thread(target=self._beat, args=(mine, left), daemon=True).start()
        try:
            yield
        finally:
            left.set()
            with suppress(Damaged):
                if self._claim.read() == mine:
                    self._claim.path.unlink(missing_ok=True)

    def owner(self) -> Claim | None:
        """The live owner's claim, or None."""
        if not self.has("claim.json"):
            return None
        owner, state = self._look()
        return owner if state == "alive" else None

    def _look(self) -> tuple[Claim | None, str]:
        """The claim and its state: `none`, `alive`, `dead`, or `torn` if unreadable, perhaps being written."""
        try:
            claim = self._claim.read()
        except Damaged:  # torn by a crash of the machine, or being written
            return None, "torn" if self._now() - _modified(self._claim.path) < TORN_AFTER else "dead"
        if claim is None:
            return None, "none"
        if claim.process.here:
            return claim, "alive" if claim.process.alive else "dead"
        return claim, "alive" if self._now() - self.seen() < SILENT_AFTER else "dead"

    def _now(self) -> float:
        """The time by the file server's clock, which stamps heartbeats; a node's clock may be minutes off."""
        probe = temporary_beside(self.folder / "now")
        try:
            probe.touch()
            return _modified(probe)
        except OSError:  # another user's folder
            return time.time()
        finally:
            probe.unlink(missing_ok=True)

    def seen(self) -> float:
        """When the owner was last seen alive."""
        return max(_modified(path) for path in (self._claim.path, self._progress))

    def began_since_submission(self) -> bool:
        """Whether a worker has begun the run since it was submitted, by the times that the disk gave its files."""
        wrote = max(map(_modified, (self._progress, self.curve, self.weights, *self.states.glob("*.pt"))))
        return wrote > _modified(self.submission.path)

    def _bury(self, seen: float = 0.0) -> None:
        """Close the attempts of dead owners with the time at which they were last alive: `seen`, or when they wrote.

        Only the owner of the run, or a process about to own it, may call this.
        """
        for path, entry in self._attempts()[0]:
            if entry.finished is None:
                wrote = map(_modified, (Path(path), self.curve, *self.states.glob("*.pt")))
                entry.finished = max(entry.started, seen, *wrote)
                entry.ends_after = self.last_state()
                self._close(Path(path), entry)

    def _beat(self, mine: Claim, left: threading.Event) -> None:
        """Touch the claim as a heartbeat, even while the owner computes for minutes without a report."""
        while not left.wait(BEAT_SECONDS):
            try:
                self.lost = (self._claim.read() or mine) != mine
                if self.lost:
                    return
                os.utime(self._claim.path)
            except (OSError, Damaged):  # the file system has problems; the next beat may succeed
                continue

    def forget_training(self) -> None:
        """Delete the states and the curve of the last training, so that the run starts anew; its weights stay."""
        for path in (self.states, self.curve):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    # How far it is

    def report(self, progress: Progress, *, force: bool = False) -> None:
        """Write the progress report; at most about twice a second unless forced."""
        now = time.monotonic()
        if not force and now - self._reported < 0.5:
            return
        self._reported = now
        write_atomically(self._progress, to_json(progress), durable=False)

    def forget_progress(self) -> None:
        """Delete the report of an earlier attempt, before a new one starts."""
        self._progress.unlink(missing_ok=True)

    def progress(self) -> Progress | None:
        """The latest report; None if there is none or it is unreadable, because the next one replaces it."""
        try:
            return read(self._progress, Progress, "")
        except Damaged:
            return None

    def last_state(self) -> int:
        """The iterations of the newest saved state, by its file name; 0 if there is none."""
        try:
            names = os.listdir(f"{self._at}/states")
        except OSError:
            return 0
        return max((int(name[:8]) for name in names if name.endswith(".pt") and name[:8].isdigit()), default=0)

    # How attempts ended

    @contextmanager
    def attempt(self, *, code: str = "", processes: int = 1, gpus: int = 0, sharing: int = 1) -> Iterator[Attempt]:
        """Record one attempt. Its cause is `killed` from the start, in case of a kill; the body sets a better one.

        Only the run's owner may call this, because it closes earlier attempts that are open.
        """
        packed.unpack(self.folder)
        self._bury()
        folder = self.folder / "attempts"
        entry = Attempt(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=time.time(),
            job=job(),
            restart=restarts(),
            node=os.environ.get("SLURMD_NODENAME", ""),
            nodes=os.environ.get("SLURM_JOB_NODELIST", ""),
            begins_after=self.last_state(),
            code=code,
            processes=processes,
            gpus=gpus,
            sharing=sharing,
        )
        numbers = [int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()]
        path = folder / f"{max(numbers, default=0) + 1:03d}.json"
        write_atomically(path, to_json(entry).ljust(ROOM))
        try:
            yield entry
        finally:
            entry.finished, entry.ends_after = time.time(), self.last_state()
            self._close(path, entry)

    def _close(self, path: Path, entry: Attempt) -> None:
        """Rewrite an attempt; if the disk has no room for a new file, in place within the old one."""
        text = to_json(entry).ljust(ROOM)
        try:
            write_atomically(path, text)
        except OSError:
            with open(path, "r+b") as file:
                room = os.fstat(file.fileno()).st_size
                if len(text.encode()) > room:
                    entry.message = entry.message[:200]
                file.write(to_json(entry).encode().ljust(room))
                file.flush()
                os.fsync(file.fileno())

    def amend_attempt(self, cause: str, message: str) -> None:
        """Correct how the last attempt ended, after its process has ended."""
        if attempts := self._attempts()[0]:
            path, entry = attempts[-1]
            entry.cause, entry.message = cause, message
            entry.finished = entry.finished or time.time()
            entry.ends_after = self.last_state()
            self._close(Path(path), entry)

    def last_attempt(self) -> Attempt | None:
        """The newest attempt, or None."""
        attempts = self.attempts()
        return attempts[-1] if attempts else None

    def attempts(self) -> list[Attempt]:
        """All readable attempts, oldest first; `damage` names the others."""
        return [entry for _, entry in self._attempts()[0]]

    def _attempts(self) -> tuple[list[tuple[str, Attempt]], list[Damaged]]:
        """The readable ones, each with its file, and what is wrong with the others."""
        found, damaged = [], []
        try:
            names = {name for name in self._packed() if name.startswith("attempts/")}
        except Damaged as error:
            names, damaged = set(), [error]
        if self.has("attempts"):
            with suppress(OSError):
                names |= {f"attempts/{name}" for name in os.listdir(f"{self._at}/attempts") if name.endswith(".json")}
        for name in sorted(names):
            path = f"{self._at}/{name}"
            try:
                if (content := self._content(name)) is not None:
                    remedy = "delete it: one attempt is not accounted for then"
                    found.append((path, value_of(content, Attempt, path, remedy)))
            except Damaged as error:
                damaged.append(error)
        return found, damaged


def _started_again(owner: Claim, mine: Claim) -> bool:
    """Whether this process is the owner's job after a restart, which SLURM does only after the owner has ended."""
    return bool(mine.job) and owner.job == mine.job and owner.restart != mine.restart


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
