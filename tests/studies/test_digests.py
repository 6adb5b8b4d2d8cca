"""The remembered digests of files are those of the files, whatever became of the files or of the memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from studies.records import digests, index
from studies.records.digests import Digests

FILES = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that count as old."""
    monkeypatch.setattr(index, "YOUNG", -3_600_000_000_000)
    (tmp_path / "logs").mkdir()
    for number in range(FILES):
        (tmp_path / "logs" / f"{number}.txt").write_text(f"{number:04d}")
    return tmp_path


def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files had to be read; whatever was read or not, every digest must be right."""
    count = 0
    real = hashlib.sha256

    def counted(content: bytes = b"") -> object:
        nonlocal count
        count += len(content) == 4
        return real(content)

    with monkeypatch.context() as patched:
        patched.setattr(digests.hashlib, "sha256", counted)
        store = Digests(folder)
        found = {name: store.of(f"logs/{name}", signature) for name, signature in store.listed("logs").items()}
        store.keep()
    assert found == {path.name: real(path.read_bytes()).hexdigest() for path in (folder / "logs").iterdir()}
    return count


def test_each_file_is_read_once_and_again_when_it_changed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert read(folder, monkeypatch) == FILES
    assert read(folder, monkeypatch) == 0
    changed, replaced, gone = (folder / "logs" / f"{number}.txt" for number in range(3))
    changed.write_text("abcd")
    before = replaced.stat()
    other = folder / "other"
    other.write_text("efgh")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, replaced)
    gone.unlink()
    assert read(folder, monkeypatch) == 2


@pytest.mark.parametrize("content", [b"", b"torn", b"\x00" * 200, None])
def test_a_damaged_memory_counts_as_none(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None):
    read(folder, monkeypatch)
    path = folder / digests.NAME
    path.write_bytes(path.read_bytes()[:-3] if content is None else content)
    assert read(folder, monkeypatch) == FILES


def test_what_changed_a_moment_ago_is_not_remembered_but_what_was_just_written_here_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index, "YOUNG", 2_000_000_000)
    assert read(folder, monkeypatch) == FILES
    assert read(folder, monkeypatch) == FILES
    store = Digests(folder)
    for name in store.listed("logs"):
        store.wrote(f"logs/{name}", hashlib.sha256((folder / "logs" / name).read_bytes()).hexdigest())
    store.keep()
    assert read(folder, monkeypatch) == 0
