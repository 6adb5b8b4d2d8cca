"""The code as it is now, kept for the runs that are submitted now: what is edited while they wait is not theirs.

runs/snapshots/<digest>/{segnext,studies}/   the sources
                        version.json         their commit, and what differed from it

A copy of the repository without git has its commit from a version.json, too, that `python -m studies.snapshot` writes
beforehand, in a clean checkout, with a digest of the sources: it counts as long as they are those.
Exit codes of that command: 0 written, 2 this is no clean checkout.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
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


_taken: dict[Path, dict[Path, bytes]] = {}
"""What this process keeps in which folder: the sources may be edited while its runs start."""


def take() -> Path:
    """Keep the code and its version; returns the folder. The same code at the same commit is kept once.

    Where a colleague's folder of the same code is damaged or closed to us, we keep one of our own. Raises `OSError`.
    """
    sources = _contents()
    version = to_json(code_version())
    name = _digest(sources, version)[:12]
    files = {**sources, Path(VERSION): version.encode()}
    folder = snapshots_folder() / name
    try:
        _keep(folder, files)
    except PermissionError:
        folder = snapshots_folder() / f"{name}-{os.getuid()}"
        _keep(folder, files)
    _taken[folder] = files
    return folder


def renew(folder: Path) -> None:
    """Before another start from what `take` returned: files that were deleted since (a scratch is purged) come back."""
    _keep(folder, _taken[folder])


def _keep(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Let the folder hold these files, and look young. `PermissionError` where it does not and we may not write it."""
    if folder.exists():
        for name, content in files.items():
            if not _holds(folder / name, content):
                write_atomically(folder / name, content)
        with contextlib.suppress(PermissionError):  # a colleague's: `studies.gc` sees our submission name it
            os.utime(folder)  # `studies.gc` leaves what is young
        return
    _make_snapshots_folder()
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    for name, content in files.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(content)
    try:
        os.rename(temporary, folder)
    except OSError:  # someone else's of the same code was quicker
        shutil.rmtree(temporary)
        if not folder.exists():
            raise


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make_snapshots_folder() -> None:
    """Whoever may write into runs/ may keep code there, whatever the umask of the first who did."""
    runs_folder().mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        snapshots_folder().mkdir()
        snapshots_folder().chmod(runs_folder().stat().st_mode & 0o7777)


@cache
def code_version() -> dict[str, Any]:
    """The commit of the code that runs here, and its difference from it (null: none). Both null outside of git.

    Where a version.json names a commit whose sources these are not, there is no commit, and the difference says so.
    """
    kept = REPOSITORY / VERSION
    version: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if "diff" in version:  # a snapshot
        return version
    commit = _git("rev-parse", "HEAD")
    if commit is None or not _git("ls-files", "--", *PACKAGES):  # a copy of the sources, perhaps in another repository
        if not version:
            return {"commit": None, "diff": None}
        if version["files"] == _digest(_contents()):
            return {"commit": version["commit"], "diff": None}
        return {"commit": None, "diff": f"not the sources of {version['commit']}, which {VERSION} names\n"}
    changes = [_git("diff", "HEAD", "--", *PACKAGES) or ""]
    for name in (_git("ls-files", "--others", "--exclude-standard", "--", *PACKAGES) or "").splitlines():
        changes.append(_git("diff", "--no-index", "--", os.devnull, name, differs=True) or "")
    return {"commit": commit.strip(), "diff": "".join(changes) or None}


def main() -> int:
    """Write version.json for a copy of this checkout that will have no git; returns the exit code."""
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None or not _git("ls-files", "--", *PACKAGES):
        print(f"{REPOSITORY} is no git checkout: {VERSION} is written where the commit is known", file=sys.stderr)
        return 2
    if changed or code_version()["diff"]:
        what = changed.splitlines() or ["files of segnext/ or studies/ that git does not know"]
        print(f"{VERSION} is not written: commit or undo first:", *what, sep="\n  ", file=sys.stderr)
        return 2
    version = {"commit": commit.strip(), "files": _digest(_contents())}
    write_atomically(REPOSITORY / VERSION, to_json(version))
    print(f"{VERSION}: {version['commit']}, sources {version['files'][:12]}")
    return 0


def _contents() -> dict[Path, bytes]:
    return {path.relative_to(REPOSITORY): path.read_bytes() for path in _sources()}


def _digest(sources: Mapping[Path, bytes], version: str = "") -> str:
    digest = hashlib.sha256(version.encode())
    for name, content in sources.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))


def _git(*words: str, differs: bool = False) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 or (differs and done.returncode == 1) else None


if __name__ == "__main__":
    sys.exit(main())
