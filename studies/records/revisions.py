"""Results by the name that a user types: a folder, or a git revision of our results/, read without a checkout."""

from __future__ import annotations

import argparse
import contextlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segnext.door import typed_path
from studies.records.external import Unreachable, git
from studies.records.store import REPOSITORY, Store

RECORDS = "results/records"


@dataclass(frozen=True)
class Results:
    """Records under the name that a user gave them. `commit` is that of a revision; None for a folder."""

    name: str
    store: Store
    commit: str | None = None

    @property
    def identity(self) -> str:
        """A text that is equal for two names of the same records."""
        return self.commit or str(self.store.folder)

    @property
    def words(self) -> str:
        """The name, with the commit if it is a revision."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name[:7] if self.commit else self.name
        return f"{self.name} ({self.commit[:7]})"

    @property
    def damage(self) -> list[str]:
        """A line for each damaged record; for a revision it has git's name of the file."""
        self.store.records  # noqa: B018  (reading finds the damage)
        if self.commit is None:
            return [str(damaged) for damaged in self.store.damage]
        places = [(f"{self.commit[:7]}:{RECORDS}/{damaged.path.name}", damaged.why) for damaged in self.store.damage]
        return [f"damaged: {place}: {why}; all other records are compared" for place, why in places]


@contextlib.contextmanager
def results_of(text: str) -> Iterator[Results]:
    """The results in this folder or of this git revision. Raises `ValueError` if there are no records."""
    try:
        path = typed_path(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from None
    if path.exists():
        yield _whole(Results(text, _folder(text, path)))
        return
    commit = _commit(text)
    with tempfile.TemporaryDirectory(prefix="segnext-results-") as folder:
        _unpack(commit, text, Path(folder))
        yield _whole(Results(text, Store(Path(folder)), commit))


def _whole(results: Results) -> Results:
    """The results if at least one record can be read; otherwise raises `ValueError`."""
    if not results.store.records:
        found = results.damage
        why = "none of its records can be read" if found else "there are no records in it"
        raise ValueError("\n".join([f"{results.words}: {why}: nothing can be compared", *found]))
    return results


def _folder(text: str, path: Path) -> Store:
    if not path.is_dir():
        raise ValueError(f"{text} is no folder; name a results folder or a git revision")
    if not (path / "records").is_dir():
        inner = path / "results"
        remedy = f"did you mean {inner}?" if (inner / "records").is_dir() else "it is no results folder"
        raise ValueError(f"{text} has no folder records/ in it: {remedy}")
    return Store(path.resolve())


def _commit(text: str) -> str:
    """The commit of a revision of this repository."""
    wrong = f"{text} is neither a folder nor a git revision of {REPOSITORY}"
    if text.startswith("-") or not text.strip() or "\0" in text:
        raise ValueError(wrong)
    try:
        done = git("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}", root=REPOSITORY)
    except Unreachable as error:
        raise ValueError(f"{wrong}, as far as can be told: {error}") from None
    if done.code:
        said = " ".join(done.error.replace("fatal: ", "").split())
        raise ValueError(f"{wrong}{f' ({said})' if said else ''}; `git log --oneline results` lists them")
    return done.text.strip()


def _unpack(commit: str, text: str, folder: Path) -> None:
    """Write the records of a commit into a folder."""
    try:
        done = git("archive", "--format=tar", commit, "--", RECORDS, root=REPOSITORY)
    except Unreachable as error:
        raise ValueError(f"{text}: {error}") from None
    if done.code:
        raise ValueError(f"{text} ({commit[:7]}) has no {RECORDS}/: nothing can be compared")
    (folder / "records").mkdir()
    with tarfile.open(fileobj=io.BytesIO(done.printed)) as archive:
        for member in archive:
            if file := archive.extractfile(member) if member.isfile() else None:
                (folder / "records" / PurePosixPath(member.name).name).write_bytes(file.read())
