"""The files of results/ that follow from records and declarations: CSVs, and the digests of all that lies there.

The same records give the same bytes, whoever writes them: `studies.run` and `reports.build` call `write` alike.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from segnext.door import uncollected
from segnext.files import write_atomically
from studies.facts import claimed, finished, foretold, missing, rows
from studies.facts.columns import written
from studies.facts.gather import Evidence, common, gather
from studies.records import attempts
from studies.records.parallel import beside
from studies.records.store import Store
from studies.tables import studies

SUMS = "SHA256SUMS"
FACTS = ("records", "curves", "cam", "logs", "looks")
"""The folders whose files are written once."""

MANY = 2_000  # records, from which on two processes are faster than one

COLUMNS: Mapping[str, type[Struct]] = {
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
    """A file as it is to be."""

    path: Path
    content: bytes

    def current(self) -> bool:
        """Whether it lies there so."""
        return self.path.is_file() and self.path.read_bytes() == self.content

    @property
    def sha256(self) -> str:
        """The digest of its content."""
        return hashlib.sha256(self.content).hexdigest()


def derived(store: Store) -> list[File]:
    """Every file that follows from the records, the digests last; writes nothing. Of a damaged record none tells."""
    return Ready.of(store).files(store)


def _tables(store: Store, gathered: Mapping[str, Evidence] | None, apart: Apart | None) -> tuple[list[File], Apart]:
    """Every file but the digests, and what was made apart.

    `gathered`: by study, what the caller has of this store already; `apart`: the same.
    """
    many = apart is None and len(store.records) >= MANY
    with beside(lambda: apart or Apart.of(store), worth=many) as begun:
        known = dict(gathered or {})
        if others := [study for study in studies().values() if study.slug not in known]:
            shared = common(store, shown=False)
            known |= {study.slug: gather(study, store, shared=shared) for study in others}
        everything = [known[slug] for slug in studies()]
        told = [(evidence, foretold.subtasks(evidence, store)) for evidence in everything]
        made: dict[str, Sequence[Struct]] = {
            **{f"{evidence.study.slug}.csv": list(rows.row_lines(evidence, store)) for evidence in everything},
            "claims.csv": list(claimed.claim_lines(everything)),
            "predictions.csv": list(foretold.prediction_lines(told, store)),
            "accuracy-by-distance.csv": list(foretold.distance_lines(told)),
            "missing.csv": list(missing.missing_lines(everything, store)),
        }
        shown: dict[str, list[str]] = {}
        for line in (line for lines in made.values() for line in lines if isinstance(line, rows.RowLine)):
            shown.setdefault(line.run_id, []).append(f"{line.table}/{line.row}")
        files = [File(store.folder / name, written(COLUMNS[name], lines).encode()) for name, lines in made.items()]
        found = begun()
    if many:
        store.forget_digests()
    files.append(File(store.folder / "runs.csv", found.with_rows(store, shown).encode()))
    return files, found


@dataclass(frozen=True)
class Apart:
    """What needs nothing of the studies, so that another process can make it."""

    runs: str  # runs.csv, with `mark` where the rows are to be
    mark: str
    digests: Mapping[str, str]  # of what was written once

    @classmethod
    def of(cls, store: Store) -> Apart:
        """All of it; the digests of files are remembered."""
        mark = secrets.token_hex(16)
        lines = (structs.replace(line, rows=mark) for line in finished.run_lines(store))
        runs = written(finished.RunLine, lines)
        digests = {f"{name}/{file}": sha256 for name in FACTS for file, sha256 in _digests(store, name)}
        store.digests.keep()
        return cls(runs, mark, digests)

    def with_rows(self, store: Store, shown: Mapping[str, Sequence[str]]) -> str:
        """The text of runs.csv; `shown`: by record, the rows of tables that it is shown at."""
        first, *others = self.runs.split(self.mark)
        rows = (" ".join(dict.fromkeys(shown.get(identifier, ()))) for identifier in sorted(store.records))
        return first + "".join([row + other for row, other in zip(rows, others, strict=True)])


@dataclass(frozen=True)
class Ready:
    """The tables as they are to be."""

    tables: Sequence[File]
    digests: Mapping[str, str]

    @classmethod
    def of(cls, store: Store, gathered: Mapping[str, Evidence] | None = None, apart: Apart | None = None) -> Ready:
        """Make them, but for what the caller has of this store already; write nothing."""
        tables, apart = _tables(store, gathered, apart)
        return cls(tables, apart.digests)

    def files(self, store: Store) -> list[File]:
        """The tables, and the digests of all that will lie there."""
        return [*self.tables, File(store.folder / SUMS, _sums(store, self.tables, self.digests).encode())]


@dataclass(frozen=True)
class Made:
    """What a caller has that is about to write."""

    seen: Mapping[str, int]  # what lay there before anything was read
    ready: Callable[[], Ready]  # gives the tables of what the caller has read


@uncollected()
def write(store: Store, made: Made | None = None) -> list[Path]:
    """Bring every file up to date; returns their paths. One that is what it should be is not touched.

    `made`: of what the caller has read of this store already. Others may finish and write meanwhile. Whoever has
    written looks again: whatever there was before the last look of the last writer is in what stays. So the first look
    comes before anything is read, and the records must be those that were read, at the last.
    """
    while True:
        if not store.current:
            store, made = Store(store.folder), None
        made = made or Made(lying(store), partial(Ready.of, store))
        files = made.ready().files(store)
        for file in files:
            if not file.current():
                write_atomically(file.path, file.content)
        if store.current and lying(store) == made.seen:
            return [file.path for file in files]
        store, made = Store(store.folder), None


def _sums(store: Store, files: Sequence[File], digests: Mapping[str, str]) -> str:
    """As `sha256sum` writes them, by path: what was written once, and the tables as they are to be."""
    own = {file.path.name: file.sha256 for file in files}
    own |= {path.name: _sha256(path) for path in store.folder.glob("*.csv") if path.name not in own and path.is_file()}
    own |= digests
    return "".join([f"{own[name]}  {name}\n" for name in sorted(own)])


def _digests(store: Store, folder: str) -> Iterator[tuple[str, str]]:
    """The files of a folder and their digests; of a record that was read, as it was read."""
    read = {f"{key}.json": store.read_digest(key) for key in store.records} if folder == "records" else {}
    for file, signature in store.digests.listed(folder).items():
        yield file, read.get(file) or store.digests.of(f"{folder}/{file}", signature)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lying(store: Store) -> dict[str, int]:
    """Every file that was written once, and its inode: one that takes its place has another."""
    found: dict[str, int] = {}
    for name in FACTS:
        with suppress(OSError), os.scandir(store.folder / name) as entries:
            found |= {f"{name}/{entry.name}": entry.inode() for entry in entries if entry.name[0] != "."}
    return found
