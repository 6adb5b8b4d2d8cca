"""runs/<run id>/finished: the small files of a finished run in one, for quotas count files.

Its first line is JSON, the text of each file by name; what follows is log.txt (`tail -n +2 finished | zcat`). A file
that lies in the folder counts, and not its copy in here: so packing and unpacking may be killed at any moment. Whoever
does either owns the run.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from segnext.files import temporary_beside, write_atomically
from studies.records.typed import Damaged, content_of, value_of

NAME = "finished"
LOG = "log.txt"
REMEDY = "restore it from a backup, or delete the run's folder: its record stays"


def texts(folder: str | Path) -> Mapping[str, str]:
    """The texts of the files that are packed, by name; none without. Raises `Damaged`."""
    head, _ = _parts(folder)
    return value_of(head, dict[str, str], f"{folder}/{NAME}", REMEDY) if head else {}


def log(folder: str | Path) -> bytes | None:
    """What the worker printed; None where no log is packed. Raises `Damaged`."""
    _, body = _parts(folder)
    try:
        return gzip.decompress(body) if body else None
    except (OSError, EOFError, zlib.error) as error:
        raise Damaged(f"{folder}/{NAME}", f"its log cannot be read ({error})", REMEDY) from None


def _parts(folder: str | Path) -> tuple[bytes, bytes]:
    head, _, body = (content_of(f"{folder}/{NAME}", REMEDY) or b"").partition(b"\n")
    return head, body


def loose(folder: Path) -> list[str]:
    """The files in a run's folder that can be packed, by name."""
    names = [name for name in ("spec.json", "submission.json", LOG) if (folder / name).is_file()]
    return [*names, *(f"attempts/{path.name}" for path in sorted((folder / "attempts").glob("[!.]*.json")))]


def whole(folder: Path) -> bool:
    """Whether nothing is left to pack, nor a claim of one who was killed while packing."""
    return not (loose(folder) or (folder / "attempts").exists() or (folder / "claim.json").exists())


def pack(folder: Path) -> None:
    """Pack what lies loose. Raises `Damaged` and `OSError`; whatever happens, each file is there or in here."""
    contents = {name: content for name in loose(folder) if (content := content_of(folder / name, REMEDY)) is not None}
    printed = contents[LOG] if LOG in contents else log(folder)
    small = {name: _text(folder / name, content) for name, content in contents.items() if name != LOG}
    head = json.dumps({**texts(folder), **small}, sort_keys=True, ensure_ascii=False)
    body = b"" if printed is None else gzip.compress(printed, mtime=0)
    write_atomically(folder / NAME, head.encode() + b"\n" + body)
    for name, content in contents.items():
        _drop(folder / name, content)
    if not any(name.startswith("attempts/") for name in loose(folder)):
        shutil.rmtree(folder / "attempts", ignore_errors=True)  # it may hold what a killed one left


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode().rstrip(" ")
    except UnicodeDecodeError as error:
        raise Damaged(path, f"it is no text ({error.reason} at byte {error.start})", REMEDY) from None


def _drop(path: Path, content: bytes) -> None:
    """Delete a file that still has this content: a command that starts the run again may just have written another."""
    aside = temporary_beside(path)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_bytes() != content:
        with suppress(FileExistsError):  # and yet another
            os.link(aside, path)
    aside.unlink()


def unpack(folder: Path) -> None:
    """Put the files back where they lay, those left out that lie there again. Raises `Damaged` and `OSError`."""
    if not (folder / NAME).exists():
        return
    contents = {name: text.encode() for name, text in texts(folder).items()}
    if (printed := log(folder)) is not None:
        contents[LOG] = printed
    for name, content in contents.items():
        if not (folder / name).exists():
            write_atomically(folder / name, content)
    (folder / NAME).unlink()
