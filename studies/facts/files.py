"""The files of results/ that follow from records and declarations: CSVs, and the digests of all that lies there.

The same records give the same bytes, whoever writes them: `studies.run` and `reports.build` call `write` alike.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segnext.files import temporary_beside
from studies.facts import claimed, finished, foretold, missing, rows
from studies.facts.columns import written
from studies.facts.gather import common, gather
from studies.records import attempts
from studies.records.store import Store
from studies.tables import studies

SUMS = "SHA256SUMS"
FACTS = ("records", "curves", "cam", "logs", "looks")
"""The folders whose files are written once."""

COLUMNS: Mapping[str, type] = {
    **{f"{slug}.csv": rows.RowLine for slug in studies()},
    "runs.csv": finished.RunLine,
    "claims.csv": claimed.ClaimLine,
    "predictions.csv": foretold.PredictionLine,
    "accuracy-by-distance.csv": foretold.DistanceLine,
    "missing.csv": missing.MissingLine,
    "attempts.csv": attempts.LostAttempt,  # from runs/, by studies.records.attempts
}
"""By file, what its lines are."""


@dataclass(frozen=True)
class File:
    """A file as it is to be: its text comes in pieces, so that nobody holds a long one."""

    path: Path
    text: Callable[[], Iterator[str]]

    @property
    def whole(self) -> str:
        """The text in one."""
        return "".join(self.text())

    def current(self) -> bool:
        """Whether it lies there so."""
        return self.path.is_file() and _sha256(self.path) == self.sha256

    @cached_property
    def sha256(self) -> str:
        """The digest of its bytes."""
        digest = hashlib.sha256()
        for piece in self.text():
            digest.update(piece.encode())
        return digest.hexdigest()


def derived(store: Store) -> list[File]:
    """Every file that follows from the records, the digests last; writes nothing. Of a damaged record none tells."""
    shared = common(store, shown=False)
    everything = [gather(study, store, shared=shared) for study in studies().values()]
    tables = {evidence.study.slug: list(rows.row_lines(evidence, store)) for evidence in everything}
    told = [(evidence, foretold.subtasks(evidence, store)) for evidence in everything]
    shown: dict[str, list[str]] = {}
    for lines in tables.values():
        for line in lines:
            shown.setdefault(line.run_id, []).append(f"{line.table}/{line.row}")
    made: dict[str, Callable[[], Iterator[object]]] = {
        **{f"{slug}.csv": _again(lines) for slug, lines in tables.items()},
        "runs.csv": lambda: finished.run_lines(store, shown),
        "claims.csv": lambda: claimed.claim_lines(everything),
        "predictions.csv": _again(list(foretold.prediction_lines(told, store))),
        "accuracy-by-distance.csv": _again(list(foretold.distance_lines(told))),
        "missing.csv": lambda: missing.missing_lines(everything, store),
    }
    files = [File(store.folder / name, _text(COLUMNS[name], lines)) for name, lines in made.items()]
    return [*files, File(store.folder / SUMS, lambda: _sums(store, files))]


def write(store: Store) -> list[Path]:
    """Bring every file up to date; returns their paths. One that is what it should be is not touched.

    Others may finish and write meanwhile. Whoever has written looks again: whatever there was before the last look of
    the last writer is in what stays.
    """
    while True:
        seen = _listed(store.folder)
        files = derived(store)
        for file in files:
            if not file.current():
                _replace(file)
        if _listed(store.folder) == seen:
            return [file.path for file in files]
        store = Store(store.folder)


def _again(lines: Sequence[object]) -> Callable[[], Iterator[object]]:
    return lambda: iter(lines)


def _text(kind: type, lines: Callable[[], Iterator[object]]) -> Callable[[], Iterator[str]]:
    return lambda: written(kind, lines())


def _replace(file: File) -> None:
    """Write it piece by piece beside its place, and put it there as a whole."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(file.path)
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(file.text())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file.path)
    finally:
        temporary.unlink(missing_ok=True)


def _sums(store: Store, files: list[File]) -> Iterator[str]:
    """As `sha256sum` writes them, by path: what was written once, and the tables as they are to be."""
    own = {file.path.name: file.sha256 for file in files}
    own |= {path.name: _sha256(path) for path in store.folder.glob("*.csv") if path.name not in own and path.is_file()}
    digests = {**own, **{name: _of(store, path) for name, path in _facts(store.folder)}}
    yield "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _of(store: Store, path: Path) -> str:
    """The digest of a file; of a record that was read, as it was read."""
    known = path.parent.name == "records" and path.stem in store.records
    return store.read_digest(path.stem) if known else _sha256(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _facts(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file that was written once, by its path in the folder."""
    for name in FACTS:
        entries = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        yield from ((f"{name}/{path.name}", path) for path in entries if path.is_file() and path.name[0] != ".")


def _listed(folder: Path) -> set[tuple[str, int, int]]:
    """The facts that there are, told from what they were a moment ago."""
    files = ((name, path.stat()) for name, path in _facts(folder))
    return {(name, facts.st_mtime_ns, facts.st_ino) for name, facts in files}
