"""SHA-256 of many files, each read once: a memory of what they were, beside them, that is never the truth.

What is remembered of a file counts while its size, times and inode are what they were. As the index of the records
(`studies.records.index`) the memory may be deleted at any time, and a damaged one counts as none.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from studies.records import memory
from studies.records.index import settled

NAME = ".digests"

Signature = tuple[int, int, int, int]
"""A file's size, modification time, change time and inode."""


class _Known(Struct, frozen=True, array_like=True):
    signature: Signature
    sha256: str


class Digests:
    """The digests of the files under a folder, remembered in its `.digests`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._begun = folder, time.monotonic()
        self._known, self._written = self._load(), set[tuple[str, str]]()
        self._changed = 0

    def listed(self, name: str) -> dict[str, Signature]:
        """The regular files of a folder in it, by name, in order; hidden ones left out."""
        found = {}
        with suppress(OSError), os.scandir(self.folder / name) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.is_file():
                    found[entry.name] = _signature(entry.stat())
        known = self._known.get(name, {})
        for gone in known.keys() - found.keys():
            del known[gone]
            self._changed += 1
        return dict(sorted(found.items()))

    def of(self, name: str, signature: Signature | None = None) -> str:
        """The SHA-256 of a file, `logs/x.txt.gz`; its signature where the caller has it. Raises `OSError`."""
        signature = signature or _signature(os.stat(f"{self.folder}/{name}"))
        folder, _, file = name.rpartition("/")
        known = self._known.setdefault(folder, {}).get(file)
        if known is None or known.signature != signature:
            with open(f"{self.folder}/{name}", "rb") as stream:
                known = self._known[folder][file] = _Known(signature, hashlib.sha256(stream.read()).hexdigest())
            self._changed += 1
        return known.sha256

    def wrote(self, name: str, sha256: str) -> None:
        """Remember a file that the caller has just written. Raises `OSError`."""
        folder, _, file = name.rpartition("/")
        self._known.setdefault(folder, {})[file] = _Known(_signature(os.stat(f"{self.folder}/{name}")), sha256)
        self._written.add((folder, file))
        self._changed += 1

    def keep(self) -> None:
        """Remember all of it, where much is new. What changed a moment ago may change again unseen: it is left out.

        Whoever may not write there does without.
        """
        if not memory.pays(self._changed, sum(map(len, self._known.values()))):
            return
        with suppress(OSError):
            path = self.folder / NAME
            before = settled(path, self._begun)
            sure = {
                folder: {
                    file: one
                    for file, one in files.items()
                    if max(one.signature[1:3]) < before or (folder, file) in self._written
                }
                for folder, files in self._known.items()
            }
            memory.remember(path, sure)
            self._changed = 0

    def _load(self) -> dict[str, dict[str, _Known]]:
        """By folder, then by file."""
        return memory.recall(self.folder / NAME, dict[str, dict[str, _Known]]) or {}


def _signature(facts: os.stat_result) -> Signature:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino
