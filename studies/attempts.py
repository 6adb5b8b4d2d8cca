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

from segnext.files import write_atomically
from studies.causes import CAUSES
from studies.store import Store, runs_folder
from studies.workspace import Workspace


@dataclass(frozen=True, order=True)
class Attempt:
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


def lost(store: Store) -> list[Attempt]:
    """The attempts of runs that have no record, by run and start. `ValueError` names a damaged file."""
    known = {(attempt.run_id, attempt.started): attempt for attempt in (*_written(_path(store)), *_left())}
    return sorted(attempt for attempt in known.values() if attempt.run_id not in store.records)


def derived(store: Store) -> dict[Path, str]:
    """The file as it is to be, by its path; nothing while no attempt was ever lost."""
    attempts = lost(store)
    if not attempts and not _path(store).exists():
        return {}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Attempt)], lineterminator="\n")
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


def _written(path: Path) -> Iterator[Attempt]:
    if not path.exists():
        return
    try:
        for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines(), strict=True):
            numbers = (float(line["started"]), float(line["seconds"]), int(line["processes"]), int(line["gpus"]))
            yield Attempt(line["run_id"], *numbers, line["cause"])
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable list of attempts ({error}); restore it from git") from None


def _left() -> Iterator[Attempt]:
    """The attempts under runs/ that are over; of one that was killed, from when its run's folder was taken over."""
    for folder in sorted(runs_folder().glob("*/attempts")):
        for entry in Workspace(folder.parent.name).attempts():
            if "finished" in entry:
                if not str(entry["cause"]).isidentifier():  # a spreadsheet would compute `=...`
                    raise ValueError(f"{folder}: {entry['cause']!r} is no cause of an end; mend that file or delete it")
                took = round(entry["finished"] - entry["started"], 3)
                of = (entry.get("processes", 1), entry.get("gpus", 0))
                yield Attempt(folder.parent.name, round(entry["started"], 3), took, *of, entry["cause"])
