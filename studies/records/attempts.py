"""results/attempts.csv: how the attempts of runs without a record ended, and what they cost. A record has its own.

A failure is no result; that it happened, and its cost, are facts. Read from runs/ and added to what the file says
already, so that it stays the same where runs/ is another one or gone. No host, no node.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import msgspec

from segnext.files import write_atomically
from studies.records.causes import CAUSES
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged, content_of
from studies.records.workspace import Workspace


@dataclass(frozen=True, order=True)
class LostAttempt:
    """One attempt that is over: seconds, and how many processes and GPUs they were of."""

    run_id: str
    started: float  # seconds since 1970, UTC
    seconds: float
    processes: int
    gpus: int
    cause: str

    @property
    def words(self) -> str:
        """`failed: out of memory`; `stopped: ...` where the same command continues the run."""
        if (cause := CAUSES.get(self.cause)) is None:  # `trained`: only its test is missing
            return self.cause
        return f"{'stopped' if cause.again else 'failed'}: {self.cause.replace('_', ' ')}"


def lost(store: Store) -> list[LostAttempt]:
    """The attempts of runs that have no record, by run and start. What is damaged is named in `store.damage`."""
    try:
        written = list(_written(_path(store)))
    except Damaged as damaged:
        store.damage.append(damaged)
        written = []
    known = {(attempt.run_id, attempt.started): attempt for attempt in (*written, *_left(store))}
    return sorted(attempt for attempt in known.values() if attempt.run_id not in store.records)


def derived(store: Store) -> dict[Path, str]:
    """The file as it is to be, by its path; nothing while no attempt was ever lost, or the file is damaged."""
    attempts = lost(store)
    damaged = any(found.path == _path(store) for found in store.damage)
    if damaged or (not attempts and not _path(store).exists()):
        return {}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(LostAttempt)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, attempts))
    return {_path(store): buffer.getvalue()}


def write(store: Store) -> list[Path]:
    """Bring the file up to date; its path, if there is one."""
    files = derived(store)
    for path, content in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_atomically(path, content)
    return list(files)


def _path(store: Store) -> Path:
    return store.folder / "attempts.csv"


def _written(path: Path) -> Iterator[LostAttempt]:
    remedy = "restore it from git"
    if (content := content_of(path, remedy)) is None:
        return
    try:
        for line in csv.DictReader(content.decode().splitlines(), strict=True):
            yield msgspec.convert(line, LostAttempt, strict=False)
    except (ValueError, csv.Error) as error:  # msgspec.ValidationError is a ValueError
        raise Damaged(path, f"not a readable list of attempts ({error})", remedy) from None


def _left(store: Store) -> Iterator[LostAttempt]:
    """The attempts under runs/ that are over; of one that was killed, from when its run's folder was taken over."""
    for folder in sorted(runs_folder().glob("*/attempts")):
        workspace = Workspace(folder.parent.name)
        store.damage += workspace.damage()
        for entry in workspace.attempts():
            if entry.finished is not None:
                of = (entry.processes, entry.gpus)
                yield LostAttempt(
                    folder.parent.name, round(entry.started, 3), round(entry.seconds, 3), *of, entry.cause
                )
