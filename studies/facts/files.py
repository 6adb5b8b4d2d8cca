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
from studies.facts.gather import Evidence, common, gather
from studies.records import attempts
from studies.records.digests import Signature
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


def derived(store: Store, gathered: Mapping[str, Evidence] | None = None) -> list[File]:
    """Every file that follows from the records, the digests last; writes nothing. Of a damaged record none tells.

    `gathered`: by study, what the caller has of this store already.
    """
    known = dict(gathered or {})
    if others := [study for study in studies().values() if study.slug not in known]:
        shared = common(store, shown=False)
        known |= {study.slug: gather(study, store, shared=shared) for study in others}
    everything = [known[slug] for slug in studies()]
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


def write(store: Store, gathered: Mapping[str, Evidence] | None = None) -> list[Path]:
    """Bring every file up to date; returns their paths. One that is what it should be is not touched.

    Others may finish and write meanwhile. Whoever has written looks again: whatever there was before the last look of
    the last writer is in what stays.
    """
    while True:
        if not store.current:  # it was read before the first look
            store, gathered = Store(store.folder), None
        seen = dict(_facts(store))
        files = derived(store, gathered)
        for file in files:
            if not file.current():
                _replace(file)
        if dict(_facts(store)) == seen:
            return [file.path for file in files]
        store, gathered = Store(store.folder), None


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
    digests = own | {name: _of(store, name, signature) for name, signature in _facts(store)}
    store.digests.keep()
    yield "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _of(store: Store, name: str, signature: Signature) -> str:
    """The digest of a file; of a record that was read, as it was read."""
    folder, _, file = name.partition("/")
    known = folder == "records" and file.endswith(".json") and file[:-5] in store.records
    return store.read_digest(file[:-5]) if known else store.digests.of(name, signature)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _facts(store: Store) -> Iterator[tuple[str, Signature]]:
    """Every file that was written once, by its path in the folder."""
    for name in FACTS:
        yield from ((f"{name}/{file}", signature) for file, signature in store.digests.listed(name).items())
