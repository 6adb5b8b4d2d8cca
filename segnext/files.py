"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

LEFT_AFTER = 3600.0  # seconds: nobody writes that long, so that an older temporary file is one that a kill left
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # what `temporary_beside` calls a file


def write_atomically(path: Path, content: str | bytes | memoryview, *, durable: bool = True) -> None:
    """Replace `path` as a whole: unique temporary name, fsync, `os.replace`. What kills have left there is swept.

    Without `durable`, for what can be made again, it does not wait for the disk and sweeps nothing: after a crash of
    the machine the file may be empty. Raises `OSError` (a full disk, say) and then leaves what was there.
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
            written = os.fstat(file.fileno()).st_mtime  # by the clock of the file server
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sweep(path.parent, written - LEFT_AFTER)


def temporary_beside(path: Path) -> Path:
    """A name that nobody else has, and that is swept where a kill leaves it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _sweep(folder: Path, before: float) -> None:
    """Delete temporary files that nobody has written to since."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                try:
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
                except OSError:  # somebody else's, or just gone
                    continue
