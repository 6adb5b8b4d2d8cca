"""Small JSON files that a crash, a disk or a person can damage: one typed reader, one writer.

A reader gives the value, None where there is no file, or raises `Damaged`, which says the path, what is wrong and what
mends it. What damages one file says nothing about another: whoever reads many goes on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from segnext.door import say
from segnext.files import write_atomically

T = TypeVar("T")

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
LARGEST = 1 << 28  # bytes: no file of ours comes near, and what claims to be one is not read into memory


class Damaged(ValueError):
    """A file cannot be what it should be."""

    def __init__(self, path: Path | str, why: str, remedy: str) -> None:
        super().__init__(f"damaged: {path}: {why}; {remedy}")
        self.path, self.why, self.remedy = Path(path), why, remedy


def content_of(path: Path | str, remedy: str) -> bytes | None:
    """The bytes of a regular file; None where there is none. Raises `Damaged` for anything else, and never waits."""
    try:
        # Without O_NONBLOCK a named pipe would wait for its writer for ever.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Damaged(path, f"it cannot be read: {error.strerror}", _rights(error, remedy)) from None
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise Damaged(path, "it is no regular file", remedy)
        if facts.st_size > LARGEST:
            raise Damaged(path, f"it has {facts.st_size:,} bytes", remedy)
        return _all_of(file)
    except OSError as error:
        raise Damaged(path, f"it cannot be read: {error.strerror}", _rights(error, remedy)) from None
    finally:
        os.close(file)


def _all_of(file: int) -> bytes:
    """What is left of an open file; a stream around it would take as long as the small files themselves."""
    parts = []
    while part := os.read(file, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _rights(error: OSError, remedy: str) -> str:
    return "ask its owner for the right to read it" if isinstance(error, PermissionError) else remedy


def value_of(content: bytes, kind: type[T], path: Path | str, remedy: str) -> T:
    """What these bytes of a file hold. Raises `Damaged`, with the place in the file, where that is no `kind`."""
    try:
        return msgspec.json.decode(content, type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        why = "it is empty" if not content.strip() else " ".join(str(error).split())[:200]
        raise Damaged(path, why, remedy) from None


def read(path: Path | str, kind: type[T], remedy: str) -> T | None:
    """The value in a file; None where there is none. Raises `Damaged`."""
    content = content_of(path, remedy)
    return None if content is None else value_of(content, kind, path, remedy)


def write(path: Path, value: Any) -> None:
    """Replace the file as a whole. Raises `OSError` and then leaves what was there."""
    write_atomically(path, to_json(value))


def to_json(value: Any) -> str:
    """Stable JSON of a value or of plain data: sorted keys; NaN is refused."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def tell(damage: Iterable[Damaged]) -> int:
    """Name what is damaged, each once; returns 1 if anything is, else 0: what a command exits with at least."""
    lines = dict.fromkeys(map(str, damage))
    for line in lines:
        say(line, error=True)
    return int(bool(lines))
