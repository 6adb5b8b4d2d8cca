"""results/attempts.csv: how the attempts of runs without a record ended, and what they cost.

A failure is not a result, but that it happened and what it cost are facts. (The attempts of a recorded run are in its
record.) Attempts are read from runs/ and added to the file, so that its lines survive when runs/ is deleted or another
one. It names no host and no node.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from segnext.files import write_atomically
from studies.records.causes import CAUSES
from studies.records.glance import Glance
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged, content_of


class LostAttempt(Struct, frozen=True, order=True):
    """One finished attempt: its seconds, and on how many processes and GPUs."""

    run_id: str
    started: float  # seconds since 1970, UTC
    seconds: float
    processes: int
    gpus: int
    cause: str

    @property
    def words(self) -> str:
        """How it ended: `failed: out of memory`, or `stopped: ...` if the same command continues the run."""
        if (cause := CAUSES.get(self.cause)) is None:  # `trained`: only the test is missing
            return self.cause
        return f"{'stopped' if cause.again else 'failed'}: {self.cause.replace('_', ' ')}"


def lost(store: Store, found: Iterable[LostAttempt] | None = None) -> list[LostAttempt]:
    """The attempts of runs without a record, by run and start. `store.damage` names damaged files.

    From the file and from runs/, which is read once in a command: then `found` is what it gave.
    """
    try:
        written = list(_written(_path(store)))
    except Damaged as damaged:
        store.damage.append(damaged)
        written = []
    known = {
        (attempt.run_id, attempt.started): attempt
        for attempt in (*written, *(_left(store) if found is None else found))
    }
    return sorted(attempt for attempt in known.values() if attempt.run_id not in store.records)


def derived(store: Store, found: Iterable[LostAttempt] | None = None) -> dict[Path, str]:
    """The new content of the file, by its path; empty if no attempt was ever lost, or if the file is damaged.

    `found`: what the caller has from `lost` already; what others have written since then is kept.
    """
    attempts = lost(store, found)
    damaged = any(found.path == _path(store) for found in store.damage)
    if damaged or (not attempts and not _path(store).exists()):
        return {}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, LostAttempt.__struct_fields__, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(structs.asdict, attempts))
    return {_path(store): buffer.getvalue()}


def write(store: Store, found: Iterable[LostAttempt] | None = None) -> list[Path]:
    """Bring the file up to date; returns its path, if there is one. `found`: as of `derived`."""
    files = derived(store, found)
    for path, content in files.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
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
    """Yield finished attempts under runs/; a killed one counts from when another process takes its run over."""
    try:
        names = sorted(os.listdir(runs_folder()))
    except OSError:
        return
    for run in names:
        workspace = Glance(run)
        if run in store.records or not workspace.attempted():  # the attempts of a recorded run are in its record
            continue
        store.damage += workspace.damage()
        for entry in workspace.attempts():
            if entry.finished is not None:
                of = (entry.processes, entry.gpus)
                yield LostAttempt(run, round(entry.started, 3), round(entry.seconds, 3), *of, entry.cause)
