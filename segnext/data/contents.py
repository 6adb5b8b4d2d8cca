"""The content fingerprint of a split: a digest of every byte, which `check` computes in minutes and a run looks up.

`check` reads every byte anyway. It keeps the digest in a small file beside the data (`.segnext-contents/`) or, if that
cannot be written, in the user's cache folder. The file states what the digest covers: paths, sizes and times of last
change. A source reports the digest while all of these are unchanged; after any change, and for a copy of the data, the
fingerprint is unknown until the next `check`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from segnext.files import write_atomically

_FOLDER = ".segnext-contents"  # hidden, so that readers do not take it for a folder of a class or a city
_DIGITS = 12
_BYTES = 32  # of SHA-256
_LOOKERS = 16  # threads: a shared disk answers many requests in the time of one

Files: TypeAlias = Sequence[tuple[Path, str]]
"""A split's files in its order: the dataset's folder, and the path below it."""


def digest_of(folder: Path, path: str) -> bytes:
    """The digest of a file's bytes, followed by the digest of its state (size, times) before they were read."""
    state = _state(folder, path)
    with open(f"{folder}/{path}", "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() + state


def keep_contents(
    base: Path, dataset: str, split: str, files: Files, digests: Mapping[str, bytes]
) -> tuple[str, Path | None]:
    """Write a split's content fingerprint to disk. Returns it and the file, which is None if no place is writable.

    `digests` maps FOLDER/PATH of every file to its `digest_of`. The same bytes under the same names give the same
    fingerprint everywhere.
    """
    contents, states = hashlib.sha256(), hashlib.sha256()
    for folder, path in files:
        digest = digests[f"{folder}/{path}"]
        contents.update(os.fsencode(path) + b"\0" + digest[:_BYTES])
        states.update(digest[_BYTES:])
    told = {
        "contents": contents.hexdigest()[:_DIGITS],
        "covers": f"every byte of {len(files)} files, while their names, sizes and times are those of `state`",
        "state": states.hexdigest(),
    }
    for place in _places(base, dataset, split):
        try:
            write_atomically(place, json.dumps(told, indent=1) + "\n")
        except OSError:
            continue
        return told["contents"], place
    return told["contents"], None


def known_contents(base: Path, dataset: str, split: str, files: Files) -> str | None:
    """The content fingerprint that `check` kept; None if a file's name, size or times have changed since."""
    kept = [told for place in _places(base, dataset, split) if (told := _read(place))]
    if not kept:
        return None
    try:
        state = _states(files)
    except OSError:
        return None
    return next((contents for contents, seen in kept if seen == state), None)


def _states(files: Files) -> str:
    """The digest of the states of all files, in the order given."""
    cuts = [*range(0, len(files), 4096), len(files)]
    with ThreadPoolExecutor(_LOOKERS) as threads:
        parts = threads.map(lambda cut: b"".join(_state(*file) for file in files[cut[0] : cut[1]]), pairwise(cuts))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _state(folder: Path, path: str) -> bytes:
    """A digest that changes with the file, without reading it; ctime detects even a copy that kept the old mtime."""
    found = os.stat(f"{folder}/{path}")
    state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    return hashlib.sha256(os.fsencode(path) + b"\0" + state.encode()).digest()


def _places(base: Path, dataset: str, split: str) -> Iterable[Path]:
    name = f"{dataset}-{split}.json"
    yield base / _FOLDER / name
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(cache):  # false for a user without a home
        place = hashlib.sha256(os.fsencode(os.path.realpath(base))).hexdigest()[:16]
        yield Path(cache) / "segnext" / "contents" / place / name


def _read(place: Path) -> tuple[str, str] | None:
    """(contents, state) as written; None if the file is missing or damaged, because `check` can write it again."""
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        contents, state = told["contents"], told["state"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return (contents, state) if isinstance(contents, str) and isinstance(state, str) else None
