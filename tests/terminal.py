"""A terminal for tests: what a command shows on one of 80 columns, without colours."""

from __future__ import annotations

import os
import pty
import subprocess
import tempfile
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH = 80


@dataclass(frozen=True)
class Seen:
    """How a command ended, what its terminal shows, and what it said on standard error, which was none."""

    code: int
    shown: str
    errors: str


def everything(terminal: int) -> bytes:
    """What is shown on a terminal until its last writer has gone; closes it."""
    said = b""
    try:
        while block := os.read(terminal, 65536):
            said += block
    except OSError:  # its end
        os.close(terminal)
    return said


def seen(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Seen:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, WIDTH))
    own = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    own["TERM"] = "dumb"  # of 80 columns for rich, whatever is said of it, and no colours
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, cwd=folder, env=own, stdin=theirs, stdout=theirs, stderr=errors)
        os.close(theirs)
        said = everything(ours)
        code = process.wait()
        errors.seek(0)
        return Seen(code, said.decode().replace("\r\n", "\n"), errors.read().decode())
