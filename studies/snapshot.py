"""The code as it is now, kept for the runs that are submitted now: what is edited while they wait is not theirs.

runs/snapshots/<digest>/{segnext,studies}/   the sources
                        version.json         their commit, and what differed from it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from segnext.files import write_atomically
from studies.store import REPOSITORY, runs_folder, to_json

PACKAGES = ("segnext", "studies")
VERSION = "version.json"


def snapshots_folder() -> Path:
    """Where snapshots are kept."""
    return runs_folder() / "snapshots"


def take() -> Path:
    """Keep the code and its version; returns the folder. The same code at the same commit is kept once."""
    sources = {path.relative_to(REPOSITORY): path.read_bytes() for path in _sources()}
    version = to_json(code_version())
    digest = hashlib.sha256(version.encode())
    for name, content in sources.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = snapshots_folder() / digest.hexdigest()[:12]
    if folder.exists():
        os.utime(folder)  # `studies.gc` leaves what is young
        return folder
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    for name, content in sources.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(content)
    write_atomically(temporary / VERSION, version)
    try:
        os.rename(temporary, folder)
    except OSError:  # someone else's of the same code was quicker
        shutil.rmtree(temporary)
        if not folder.exists():
            raise
    return folder


@cache
def code_version() -> dict[str, Any]:
    """The commit of the code that runs here, and its difference from it (null: none). Both null outside of git."""
    kept = REPOSITORY / VERSION
    if kept.exists():
        version: dict[str, Any] = json.loads(kept.read_text())
        return version
    commit = _git("rev-parse", "HEAD")
    if commit is None or not _git("ls-files", "--", *PACKAGES):  # a copy of the sources inside somebody's repository
        return {"commit": None, "diff": None}
    changes = [_git("diff", "HEAD", "--", *PACKAGES) or ""]
    for name in (_git("ls-files", "--others", "--exclude-standard", "--", *PACKAGES) or "").splitlines():
        changes.append(_git("diff", "--no-index", "--", os.devnull, name, differs=True) or "")
    return {"commit": commit.strip(), "diff": "".join(changes) or None}


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))


def _git(*words: str, differs: bool = False) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 or (differs and done.returncode == 1) else None
