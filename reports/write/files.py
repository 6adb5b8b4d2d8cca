"""Where a file of the report is written."""

from __future__ import annotations

from pathlib import Path

from segnext.files import write_atomically


def put(path: Path, content: str | bytes) -> None:
    """Write a file that does not hold this yet: as a whole or not at all where there is one, not waiting for the disk.

    A new one is written in its place, a seventh of the time: half of it, after a crash, is replaced by the next report.
    """
    data = content.encode() if isinstance(content, str) else content
    if holds(path, data):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        write_atomically(path, data, durable=False)
    else:
        path.write_bytes(data)


def holds(path: Path, content: str | bytes) -> bool:
    """Whether a file holds this."""
    return path.is_file() and path.read_bytes() == (content.encode() if isinstance(content, str) else content)
