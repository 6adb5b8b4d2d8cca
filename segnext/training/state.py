"""Training states on disk, so that a stopped run goes on where it was.

Written new, flushed, renamed, and only then is the oldest deleted; the last two are kept. A file's name carries the
digest of its content: one rename makes state and check appear together, and a damaged state is passed over. How far a
state is, it says itself: a file's name says only which one to try first.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segnext.files import write_atomically

logger = logging.getLogger(__name__)

KEPT = 2
DAMAGED = ".damaged"
_NAME = re.compile(r"^(\d{8})-([0-9a-f]{16})\.pt$")


def save_state(folder: Path, iteration: int, state: Mapping[str, Any]) -> Path:
    """Write the state after `iteration` steps. `OSError` (a full disk, say) leaves the earlier ones untouched."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    path = folder / f"{iteration:08d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    write_atomically(path, content)
    for old in _saved(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    for left_over in (*folder.glob(".*.tmp"), *folder.glob(f"*{DAMAGED}")):  # of attempts that were killed, of a disk
        left_over.unlink(missing_ok=True)
    return path


def load_state(folder: Path, *, put_aside: bool = False) -> dict[str, Any] | None:
    """The newest undamaged state, or None where there is none; the log tells of every damaged one.

    With none left a run starts again from its beginning, which costs time and changes no result. `put_aside`: rename
    the damaged ones to NAME.damaged until the next state is written, so that names tell the truth from here on, and
    what calls itself newer does not push out what is written next. For the process that owns the folder.
    """
    saved = _saved(folder)
    for path in saved:
        if (state := _read(path)) is not None:
            return state
        logger.warning("%s is damaged and passed over", path)
        if put_aside:
            path.rename(path.with_name(path.name + DAMAGED))
    if saved:
        logger.warning("no state in %s is undamaged: the run starts again from its beginning", folder)
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """The state of a file, or None where it is damaged, or has just been put aside by the process that owns it."""
    matched = _NAME.match(path.name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if matched is None or not hashlib.sha256(content).hexdigest().startswith(matched[2]):
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def _saved(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.glob("*.pt") if _NAME.match(path.name) and path.is_file()), reverse=True)
