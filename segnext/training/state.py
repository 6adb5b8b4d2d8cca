"""Training states on disk, from which a stopped run continues.

A state is written to a new file, flushed and renamed before the oldest is deleted; the last two are kept. A file's name
has the digest of its content, so that one rename publishes state and checksum together, and a damaged state is skipped.
The iteration in a file's name only decides which file is tried first; the state itself has its iteration.
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
    """Write the state after `iteration` steps. Raises `OSError`, for example if the disk is full; old states remain."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    path = folder / f"{iteration:08d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    write_atomically(path, content)
    for old in _saved(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    for left_over in (*folder.glob(".*.tmp"), *folder.glob(f"*{DAMAGED}")):  # of killed attempts, and of a bad disk
        left_over.unlink(missing_ok=True)
    return path


def load_state(folder: Path, *, put_aside: bool = False) -> dict[str, Any] | None:
    """The newest undamaged state, or None if there is none; the log names every damaged one.

    Without a state a run starts again from its beginning, which costs time but does not change the result. `put_aside`
    renames damaged states to NAME.damaged until the next state is written: otherwise a damaged state with a higher
    iteration in its name would count as newer and evict the next one. Only the process that owns the folder may use it.
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
    """The state of a file; None if it is damaged, or the process that owns it has just put it aside."""
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
    """The files of states, newest first."""
    return sorted((path for path in folder.glob("*.pt") if _NAME.match(path.name) and path.is_file()), reverse=True)
