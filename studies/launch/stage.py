"""A data set on the node's own disk: copied once for all runs of a node, because a shared file system suffers first.

ImageNet's 1.3 million reads an epoch are what breaks it. Where the data root has the set as one file or as shards
(`imagenet1k.tar`, `imagenet1k-0000.tar`, ...), these are read from end to end and unpacked; else its folder is copied.
What is there counts when it has as many files and bytes as it should. Whatever goes wrong, a run reads the data where
they are, and its log says why.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segnext.config import ClassificationData, Data
from segnext.data import open_split
from segnext.data.folders import FolderSource
from segnext.data.imagenet import ClassFolderSource
from segnext.files import write_atomically
from studies.plan.jobspec import specified_run
from studies.records.typed import read, to_json
from studies.records.working_state import Progress
from studies.records.workspace import Workspace
from studies.slurm.profile import STAGES, Profile

MARKER = ".segnext-staged.json"
ROOM = 1.05  # of the data's bytes: a file takes whole blocks
COPIERS = 16  # threads: a shared disk answers many questions at once as fast as one
TAIL = 1 << 20  # bytes that an archive may be filled up with
LOCK_SECONDS = 1.0


@dataclass(frozen=True)
class Tally:
    """What a data set is known by: how many files, and how many bytes they have."""

    files: int
    bytes: int


class Left(Exception):
    """A signal asked to leave before the copy was whole."""


def stage(workspace: Workspace, asked_to_stop: Callable[[], bool]) -> Path | None:
    """The folder from which the run is to read its data; None: from its data root, as ever."""
    spec, names = workspace.told(), json.loads(os.environ.get("SEGNEXT_STAGE") or "[]")
    if not names or not spec.data_root or spec.evaluation:
        return None
    data, root = specified_run(spec).data, Path(spec.data_root)
    if data.dataset not in names:
        return None
    places = (os.environ.get(name) for name in ("SEGNEXT_SCRATCH", "SLURM_TMPDIR", "TMPDIR"))
    scratch = next((os.path.expandvars(place) for place in places if place), "")
    try:
        if not scratch:
            raise OSError("the profile names no scratch, and $SLURM_TMPDIR and $TMPDIR are empty")
        return _Copy(data, root, Path(scratch), workspace, asked_to_stop).folder()
    except Left:
        return None
    except (OSError, ValueError, tarfile.TarError) as error:  # a DataError is a ValueError
        print(f"stage: {data.dataset} is read from {root}: {error}", flush=True)
        return None


def packs(dataset: str, root: Path) -> list[Path]:
    """The files that hold the whole of a data set, in order: one, or its shards."""
    return sorted(path for path in root.glob(f"{dataset}*.tar") if path.stem.removeprefix(dataset)[:1] in ("", "-"))


def packed_under(root: Path | None, resources: Profile) -> list[str]:
    """The data sets that jobs with these resources unpack from files under the data root."""
    names = {name for stage in ("train", *STAGES) for name in resources.at(stage).stage} if root else ()
    return sorted(name for name in names if root and packs(name, root))


def tally(folder: Path) -> Tally:
    """What is there, links followed, but for our own marker."""
    sizes = [os.stat(path).st_size for path in _files(folder)]
    return Tally(len(sizes), sum(sizes))


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (f"{place}/{name}" for name in names if name != MARKER)


def folder_of(data: Data | ClassificationData, root: Path) -> Path:
    """The data set's own folder below a data root. Raises `DataError`."""
    source = open_split(data, data.train_split, root)
    assert isinstance(source, FolderSource | ClassFolderSource), data.dataset
    return source.base


class _Copy:
    """One data set's copy on one node."""

    def __init__(
        self,
        data: Data | ClassificationData,
        root: Path,
        scratch: Path,
        workspace: Workspace,
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._data, self._dataset = data, data.dataset
        self._workspace, self._asked_to_stop = workspace, asked_to_stop
        self._packs = packs(data.dataset, root)
        self._base = root if self._packs else folder_of(data, root)
        facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._packs]
        key = hashlib.sha256(repr((os.path.realpath(self._base), facts)).encode()).hexdigest()[:12]
        self._own = scratch / f"segnext-{os.getuid()}"
        self._target = self._own / f"{data.dataset}-{key}"

    def folder(self) -> Path:
        """Where the copy is, made if it is not there. Raises `OSError` where there is no room, and `Left`."""
        self._own.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self._whole():
                self._make()
        return self._target

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One run of a node copies, the others wait."""
        with open(f"{self._target}.lock", "w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._leave_if_asked()
                    time.sleep(LOCK_SECONDS)
            yield

    def _whole(self) -> bool:
        """Whether there is a copy with as many files and bytes as were copied: a node's disk is cleaned by and by."""
        known = read(self._target / MARKER, Tally, "delete its folder")
        if known is None or tally(self._target) != known:
            return False
        print(f"stage: {self._dataset} is on this node already: {self._target}", flush=True)
        return True

    def _make(self) -> None:
        shutil.rmtree(self._target, ignore_errors=True)
        for left in self._own.glob(f"{self._target.name}.part*"):  # of one that was killed: the lock is ours
            shutil.rmtree(left)
        needed = Tally(0, sum(path.stat().st_size for path in self._packs)) if self._packs else tally(self._base)
        free = shutil.disk_usage(self._own).free
        if free < ROOM * needed.bytes:
            raise OSError(f"{self._own} has {free / 1e9:.1f} GB free, {ROOM * needed.bytes / 1e9:.1f} GB are needed")
        begun, part = time.monotonic(), self._target.with_name(f"{self._target.name}.part")
        try:
            expected = self._unpack(part) if self._packs else self._copy(part, needed)
            if (found := tally(part)) != expected:
                raise OSError(f"{part} has {found}, not {expected}: the copy is not whole")
            for split in (self._data.train_split, self._data.test_split):
                open_split(self._data, split, part)  # raises where it is not the data set, or not all of it
            write_atomically(part / MARKER, to_json(found))
            part.rename(self._target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        seconds = time.monotonic() - begun
        size = f"{found.files:,} files, {found.bytes / 1e9:.1f} GB"
        print(f"stage: {self._dataset}: {size} to {self._target} in {seconds:.0f} s", flush=True)

    def _unpack(self, part: Path) -> Tally:
        """All packs, one after the other; how many files they hold, and their bytes."""
        files = size = 0
        for number, path in enumerate(self._packs):
            with tarfile.open(path) as pack:
                for member in pack:
                    self._leave_if_asked()
                    if not (member.isreg() or member.isdir()):
                        raise OSError(
                            f"{path}: {member.name} is a link: pack files, tar --dereference --hard-dereference"
                        )
                    pack.extract(member, part, filter="data")
                    files, size = files + member.isreg(), size + member.size
                rest = path.stat().st_size - pack.offset
            if rest > TAIL:
                raise OSError(f"{path}: {rest:,} bytes after what reads as its end: it is damaged")
            self._workspace.report(Progress("stage", number + 1, len(self._packs)))
        return Tally(files, size)

    def _copy(self, part: Path, needed: Tally) -> Tally:
        """The folder, many files at a time."""
        paths = [Path(path).relative_to(self._base) for path in _files(self._base)]
        for folder in {part / path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)

        def one(path: Path) -> None:
            self._leave_if_asked()
            shutil.copy2(self._base / path, part / path)

        with ThreadPoolExecutor(COPIERS) as threads:
            for done, _ in enumerate(threads.map(one, paths), start=1):
                self._workspace.report(Progress("stage", done, len(paths)))
        return needed

    def _leave_if_asked(self) -> None:
        if self._asked_to_stop():
            raise Left
