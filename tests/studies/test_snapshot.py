"""The code that is kept for runs stays whole, whoever took it, and whatever a purge deletes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.records import snapshot
from studies.records.snapshot import VERSION, snapshots_folder


def damage(folder: Path) -> None:
    (folder / "studies" / "worker.py").unlink()
    (folder / VERSION).unlink()
    for path in (folder / "segnext" / "fast").iterdir():
        path.unlink()
    (folder / "segnext" / "fast").rmdir()
    (folder / "segnext" / "mscan.py").write_text("")


def whole(folder: Path) -> bool:
    """Whether a worker can start from it, and it is the code that runs here."""
    ask = [
        sys.executable,
        "-c",
        "import studies.worker, segnext.fast; from studies.records.snapshot import *; print(take())",
    ]
    environment = {**os.environ, "SEGNEXT_RUNS": str(folder.parent.parent)}
    told = subprocess.run(ask, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    return Path(told.strip()) == folder


def test_a_snapshot_of_which_files_were_deleted_or_cut_is_whole_again_when_it_is_taken_again():
    folder = snapshot.take()
    damage(folder)
    assert snapshot.take() == folder
    assert whole(folder)


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_deleted_between_two_starts_comes_back_before_the_second_as_it_was_taken(
    everything: bool, monkeypatch: pytest.MonkeyPatch
):
    folder = snapshot.take()
    monkeypatch.setattr(snapshot, "_contents", dict)  # whatever was edited in the meantime
    if everything:
        folder.rename(folder.with_name("purged"))
    else:
        damage(folder)
    snapshot.renew(folder)
    assert whole(folder)


def test_an_intact_snapshot_is_not_written_again():
    folder = snapshot.take()
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    snapshot.take()
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before
    assert list(snapshots_folder().iterdir()) == [folder]
