"""Writing a file completely or not at all."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

LEFT_AFTER = 3600.0  # seconds: no write takes longer, so an older temporary file was left by a killed process
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # names that `temporary_beside` gives


def write_atomically(path: Path, content: str | bytes | memoryview, *, durable: bool = True) -> None:
    """Replace the file `path` atomically: write under a unique temporary name, fsync, `os.replace`.

    Temporary files that killed processes left in the folder are deleted. With `durable=False`, for files that can be
    made again, it neither waits for the disk nor deletes leftovers; after a crash of the machine the file may be empty.
    Raises `OSError`, for example if the disk is full, and then leaves the old file in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            written = os.fstat(file.fileno()).st_mtime  # the file server's clock, which may differ from ours
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sweep(path.parent, written - LEFT_AFTER)


def temporary_beside(path: Path) -> Path:
    """A unique temporary name beside `path`; if a kill leaves the file, a later write deletes it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _sweep(folder: Path, before: float) -> None:
    """Delete temporary files that were last written before this time."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                try:
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
                except OSError:  # another user's file, or already deleted
                    continue
