"""Memories of what was found out, a file each, so that it need not be found out again: never the truth.

One that is missing or damaged counts as none. It is written in one step, without waiting for the disk.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from segnext.files import write_atomically
from studies.records.typed import Damaged, content_of

Kept = TypeVar("Kept")

DIGEST = hashlib.sha256().digest_size  # bytes that a memory begins with: the digest of all others
FEW = 16  # of these that are new or gone are no reason to write a memory anew, nor is one in
PART = 64


def pays(changed: int, kept: int) -> bool:
    """Whether a memory of so many should be written anew where so many of them are new or gone."""
    return changed > FEW + kept // PART


def recall(path: Path, kind: type[Kept]) -> Kept | None:
    """What is kept at `path`; None where it is missing, damaged, or of another kind."""
    with suppress(Damaged, msgspec.DecodeError, UnicodeDecodeError):
        content = content_of(path, "") or b""
        body = memoryview(content)[DIGEST:]
        if hashlib.sha256(body).digest() == content[:DIGEST]:
            return msgspec.msgpack.decode(body, type=kind)
    return None


def remember(path: Path, value: Any) -> None:
    """Keep a value. Raises `OSError`."""
    content = bytearray()
    msgspec.msgpack.Encoder(order="sorted").encode_into(value, content, DIGEST)
    content[:DIGEST] = hashlib.sha256(memoryview(content)[DIGEST:]).digest()
    write_atomically(path, memoryview(content), durable=False)
