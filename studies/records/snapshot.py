"""Snapshots of the code for submitted runs, so that later edits do not reach runs that wait in the queue.

runs/snapshots/<digest>/{segnext,studies}/   the sources
                        version.json         their commit, and the difference from it

A copy of the repository without git gets its commit from a version.json, too. `python -m studies.records.snapshot`
writes that file beforehand in a clean checkout, with a digest of the sources; it is valid while the sources match.
Exit codes of that command: 0 written, 2 this is no clean checkout.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from segnext.door import Parser, command, say
from segnext.files import write_atomically
from studies.records import external
from studies.records.external import PATCH, Unreachable
from studies.records.store import REPOSITORY, runs_folder
from studies.records.typed import to_json

PACKAGES = ("segnext", "studies")
VERSION = "version.json"
UNTRACKED_BYTES = 200_000  # of untracked files whose text a record keeps; of larger ones it keeps the digest


def snapshots_folder() -> Path:
    """The folder of all snapshots."""
    return runs_folder() / "snapshots"


_taken: dict[Path, dict[Path, bytes]] = {}
"""The files that this process has put into each folder, because sources may be edited while its runs start."""


def take() -> Path:
    """Keep the code and its version; returns the folder. The same code at the same commit is kept once.

    If a colleague's folder of the same code is closed to us, or damaged and not ours to repair, we keep our own. Raises
    `OSError`.
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
    """Before another start, restore files of a folder from `take` that were deleted, as a scratch disk's purge does."""
    _keep(folder, _taken[folder])


def _keep(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Make the folder contain these files and look recent. Raises `PermissionError` if it must but cannot write."""
    if folder.exists():
        for name, content in files.items():
            if not _holds(folder / name, content):
                write_atomically(folder / name, content)
        with contextlib.suppress(PermissionError):  # a colleague's folder: our submission's reference protects it
            os.utime(folder)  # `studies.gc` does not delete recent folders
        return
    _make_snapshots_folder()
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    for name, content in files.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(content)
    try:
        os.rename(temporary, folder)
    except OSError:  # another process with the same code was quicker
        shutil.rmtree(temporary)
        if not folder.exists():
            raise


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make_snapshots_folder() -> None:
    """Create the folder with the permissions of runs/, so that all its users can write, whatever our umask."""
    runs_folder().mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        snapshots_folder().mkdir()
        snapshots_folder().chmod(runs_folder().stat().st_mode & 0o7777)


def kept() -> list[Path]:
    """The folders of all snapshots."""
    return sorted(path for path in snapshots_folder().glob("[!.]*") if path.is_dir())


def whole(folder: Path) -> bool:
    """Whether a snapshot's files match its name; a purge of a scratch disk deletes single files."""
    try:
        paths = sorted(path for package in PACKAGES for path in (folder / package).rglob("*.py"))
        sources = {path.relative_to(folder): path.read_bytes() for path in paths}
        return _digest(sources, (folder / VERSION).read_text(encoding="utf-8"))[:12] == folder.name
    except (OSError, ValueError):
        return False


@cache
def code_version() -> dict[str, Any]:
    """The commit of the running code, and its difference from it (None if there is none). Both are None outside git.

    If the sources do not match the commit in a version.json, or if git refuses the checkout, the commit is None and the
    difference says why.
    """
    kept = REPOSITORY / VERSION
    version: dict[str, Any] = json.loads(kept.read_bytes()) if kept.exists() else {}
    if "diff" in version:  # a snapshot
        return version
    commit = _git("rev-parse", "HEAD")
    if commit is None or not _git("ls-files", "--", *PACKAGES):  # a copy, perhaps inside another repository
        if not version:
            return {"commit": None, "diff": f"{refused}\n" if (refused := git_refuses()) else None}
        if version["files"] == _digest(_contents()):
            return {"commit": version["commit"], "diff": None}
        return {"commit": None, "diff": f"not the sources of {version['commit']}, which {VERSION} names\n"}
    changes = (_git("diff", *PATCH, "HEAD", "--", *PACKAGES) or "") + _untracked()
    return {"commit": commit.strip(), "diff": changes or None}


def git_refuses() -> str:
    """Why git refuses this checkout; "" if it does not, or if there is no checkout."""
    try:
        done = external.git("rev-parse", "--git-dir", root=REPOSITORY)
    except external.Absent:
        return ""
    except Unreachable as error:
        return str(error)
    if not done.code or "not a git repository" in done.error:
        return ""
    said = " ".join(done.error.replace("fatal: ", "").split())
    return f"git refuses {REPOSITORY}: {said}"


def _untracked() -> str:
    """Untracked files below our packages as patches; of large ones only name, size and digest."""
    try:
        listed = external.git("ls-files", "-z", "--others", "--exclude-standard", "--", *PACKAGES, root=REPOSITORY)
    except Unreachable:
        return ""
    changes: list[str] = []
    left = UNTRACKED_BYTES
    for name in sorted(filter(None, listed.printed.split(b"\0"))):
        if os.path.basename(name).startswith(b"."):  # an editor's lock file, which contains a host name
            continue
        path = REPOSITORY / os.fsdecode(name)
        try:
            size = path.lstat().st_size
            if size > left:
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                changes.append(f"untracked: {name.decode(errors='replace')}, {size} bytes, sha256 {digest}\n")
                continue
        except OSError:  # an editor's temporary file, already deleted
            continue
        left -= size
        changes.append(_git("diff", *PATCH, "--no-index", "--", os.devnull, os.fsdecode(name), differs=True) or "")
    return "".join(changes)


@command("python -m studies.records.snapshot")
def main(arguments: Sequence[str] | None = None) -> int:
    """Write version.json for a copy of this checkout that will have no git; returns the exit code."""
    Parser(prog="python -m studies.records.snapshot", description=main.__doc__).parse_args(arguments)
    if refused := git_refuses():
        raise ValueError(f"{VERSION} is not written: {refused}")
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None or not _git("ls-files", "--", *PACKAGES):
        raise ValueError(f"{REPOSITORY} is no git checkout: {VERSION} is written where the commit is known")
    if changed or code_version()["diff"]:
        what = changed.splitlines() or ["files of segnext/ or studies/ that git does not know"]
        raise ValueError("\n  ".join([f"{VERSION} is not written: commit or undo first:", *what]))
    version = {"commit": commit.strip(), "files": _digest(_contents())}
    write_atomically(REPOSITORY / VERSION, to_json(version))
    say(f"{VERSION}: {version['commit']}, sources {version['files'][:12]}")
    return 0


def _contents() -> dict[Path, bytes]:
    found = {}
    for path in _sources():
        try:
            found[path.relative_to(REPOSITORY)] = path.read_bytes()
        except FileNotFoundError:  # an editor's temporary file, already deleted
            continue
    return found


def _digest(sources: Mapping[Path, bytes], version: str = "") -> str:
    digest = hashlib.sha256(version.encode())
    for name, content in sources.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources() -> list[Path]:
    """The importable files, without an editor's lock files (`.#worker.py`, a dangling link) and copies."""
    found = (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _git(*words: str, differs: bool = False) -> str | None:
    try:
        done = external.git(*words, root=REPOSITORY)
    except Unreachable:
        return None
    return done.text if done.code == 0 or (differs and done.code == 1) else None


if __name__ == "__main__":
    sys.exit(main())
