"""results/.index: what commands need of the records, in one file, so that twenty thousand are not opened each time.

It is made from the records, is never the truth, and may be deleted at any time. An entry counts while the file of its
record has the size and the times that it had when it was read. The index of other code, a damaged one and one that
cannot be read count as none. Whoever finds many records without an entry writes a new index in one step: of several
that do so at a time the last stays, and nothing is lost, for what it lacks is read from the records again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from segnext.files import temporary_beside
from studies.records import memory
from studies.records.schema import KINDS, Matrices, Plain, Record, ScoredRecord

NAME = ".index"

# A file that is written twice within the clock's grain may have the same size and times: what is so young has no entry.
YOUNG = 2_000_000_000  # nanoseconds

Signature = tuple[int, int, int]
"""A file's size, modification time and change time."""


class Entry(Struct, frozen=True, array_like=True):
    """What is known of a record without opening it. `head` is the record as JSON, without what only some ask for."""

    signature: Signature
    kind: str
    digest: str  # of the file
    configured: str  # of its configuration, whole
    head: bytes
    code: str | None  # that made it
    main: float | None  # its main metric, of a test
    precision: str | None

    @classmethod
    def of(cls, signature: Signature, record: Record, digest: str) -> Entry:
        """Of a record that was read and is whole."""
        head = {key: value for key, value in record.plain.items() if key not in Matrices.__struct_fields__}
        main, made = record.metrics.main if isinstance(record, ScoredRecord) else None, record.provenance
        known = record.kind, digest, record.configured, msgspec.json.encode(head)
        return cls(signature, *known, made.code, main, made.precision)

    def record(self, plain: Callable[[], Plain]) -> Record:
        """The record again; `plain` reads the whole of it."""
        record = msgspec.json.decode(self.head, type=KINDS[self.kind])
        vars(record).update(again=plain, configured=self.configured)
        return record


class _Contents(Struct, frozen=True, array_like=True):
    code: str
    entries: dict[str, Entry]  # by the record's id


def listed(folder: Path) -> dict[str, Signature]:
    """The records of a folder, by id, in order. `OSError` where it cannot be read; none where it is not there."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and entry.name[0] != ".":
                    found[entry.name[:-5]] = _signature(entry)
    except FileNotFoundError:
        return {}
    return dict(sorted(found.items()))


def _signature(entry: os.DirEntry[str]) -> Signature:
    try:
        facts = entry.stat()
    except OSError:  # a link to nowhere, or just gone: whoever opens it finds out
        return (-1, 0, 0)
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def load(path: Path) -> Mapping[str, Entry]:
    """The entries of an index; none where it is missing, damaged, or of other code."""
    contents = memory.recall(path, _Contents)
    return contents.entries if contents and contents.code == code() else {}


def renew(path: Path, entries: Mapping[str, Entry], changed: int, begun: float) -> None:
    """Write these entries where so many are new or gone that it pays. `begun`: by the monotonic clock, the first look.

    Whoever may not write there does without.
    """
    if not memory.pays(changed, len(entries)):
        return
    with suppress(OSError):
        before = settled(path, begun)
        old = {key: entry for key, entry in entries.items() if max(entry.signature[1:]) < before}
        memory.remember(path, _Contents(code(), old))


def settled(path: Path, begun: float) -> int:
    """When a file must have changed last so that it is not one that may have changed unseen since the first look."""
    return _now(path) - int((time.monotonic() - begun) * 1e9) - YOUNG


def _now(path: Path) -> int:
    """The time, in nanoseconds, by the clock that stamps the files: a file server's may be another than ours."""
    probe = temporary_beside(path)
    try:
        probe.touch()
        return probe.stat().st_mtime_ns
    finally:
        probe.unlink(missing_ok=True)


@cache
def code() -> str:
    """A digest of the code that decides what an entry holds and whether a record is whole."""
    from segnext.config import identity
    from studies.records import schema, typed

    files = (__file__, schema.__file__, typed.__file__, identity.__file__)
    return hashlib.sha256(b"".join(Path(name).read_bytes() for name in files)).hexdigest()
