"""A data set is copied to a node's own disk once, whole, and whatever goes wrong a run reads it where it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import layouts
import pytest
from conftest import REPOSITORY

from segnext.config import Execution
from segnext.data import open_split
from studies.declare.protocols import protocol
from studies.launch.stage import packed_under, packs, stage
from studies.plan.jobspec import specification
from studies.plan.preflight import PreflightError, check
from studies.plan.runs import PlannedRun, plan, select
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.slurm.profile import Profile, changed

FILES = sum(2 * len(layouts.NAMES["ade20k"][split]) + 1 for split in ("train", "val"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with an ADE20K of a few frames."""
    for split in ("train", "val"):
        layouts.write(tmp_path / "data", "ade20k", split)
    return tmp_path / "data"


@pytest.fixture
def run(root: Path) -> Workspace:
    """A run that is to read it."""
    return told(training(), root)


def training(name: str = "paper") -> PlannedRun:
    chosen = protocol(name)
    return plan(select(["table7/c@0"], chosen, None, None), chosen, 1, Store())[-1]


def told(planned: PlannedRun, root: Path) -> Workspace:
    workspace = Workspace(planned.id)
    workspace.folder.mkdir(parents=True)
    workspace.write_spec(specification(planned, 1, root, None, Execution(), "a test"))
    return workspace


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGNEXT_STAGE", '["ade20k", "camvid"]')
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setenv("SEGNEXT_SCRATCH", f"{tmp_path}/$WHERE")
    monkeypatch.setenv("WHERE", "node")
    return folder


def pack(root: Path, base: str, *names: str) -> None:
    """A data set as so many shards, in the place of its folder."""
    files = sorted(path for path in (root / base).rglob("*") if path.is_file())
    for number, name in enumerate(names):
        with tarfile.open(root / name, "w") as shard:
            for path in files[number :: len(names)]:
                shard.add(path, path.relative_to(root))
    shutil.rmtree(root / base)


def fingerprint(root: Path) -> str:
    return open_split(training().run.data, "train", root).fingerprint()


@pytest.mark.parametrize("shards", [(), ("ade20k.tar",), ("ade20k-0.tar", "ade20k-1.tar")])
def test_what_is_staged_is_the_same_data_and_is_copied_once(
    shards: tuple[str, ...], root: Path, run: Workspace, scratch: Path, capsys: pytest.CaptureFixture[str]
):
    before = fingerprint(root)
    if shards:
        pack(root, "ade", *shards)
    there = stage(run, lambda: False)
    assert there is not None
    assert there.is_relative_to(scratch)
    assert fingerprint(there) == before
    assert f"{FILES} files" in capsys.readouterr().out
    assert stage(run, lambda: False) == there
    assert "is on this node already" in capsys.readouterr().out
    (there / "lost").touch()  # a node's disk is cleaned, or filled, by others
    assert stage(run, lambda: False) == there
    assert not (there / "lost").exists()
    assert fingerprint(there) == before


def test_without_room_or_with_a_damaged_pack_the_data_are_read_where_they_are(
    root: Path, run: Workspace, scratch: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (root / "ade20k.tar").write_bytes(b"\0" * 700 + b"no archive")
    assert stage(run, lambda: False) is None
    assert f"stage: ade20k is read from {root}: " in capsys.readouterr().out
    with open(root / "ade20k.tar", "wb") as large:
        large.truncate(1 << 42)
    assert stage(run, lambda: False) is None
    assert "GB are needed" in capsys.readouterr().out
    monkeypatch.delenv("SEGNEXT_SCRATCH")
    for name in ("SLURM_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert stage(run, lambda: False) is None
    assert "the profile names no scratch" in capsys.readouterr().out
    assert not [path for path in scratch.glob("*/*") if path.is_dir()], "a part of a copy was left"


def test_who_is_asked_to_leave_leaves_no_part_of_a_copy(root: Path, run: Workspace, scratch: Path):
    asked = iter([False] * 3)
    assert stage(run, lambda: next(asked, True)) is None
    assert not [path for path in scratch.glob("*/*") if path.is_dir()]


def test_of_the_runs_of_a_node_one_copies_and_the_others_wait(root: Path, run: Workspace, scratch: Path):
    program = (
        "import sys; from studies.launch.stage import stage; from studies.records.workspace import Workspace; "
        "print(stage(Workspace(sys.argv[1]), lambda: False))"
    )
    words = [sys.executable, "-c", program, run.run_id]
    several = [subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=300)[0] for process in several]
    assert sum(f"{FILES} files" in text for text in told) == 1, told
    assert sum("already" in text for text in told) == 2
    assert len({text.splitlines()[-1] for text in told}) == 1


def test_a_data_set_that_is_only_packed_is_no_obstacle_where_jobs_unpack_it(root: Path):
    pack(root, "ade", "ade20k-0.tar", "ade20k-1.tar")
    (root / "ade20k-like.txt").touch()
    (root / "ade20kextra.tar").touch()
    assert [path.name for path in packs("ade20k", root)] == ["ade20k-0.tar", "ade20k-1.tar"]
    runs = [training()]
    coming = {runs[0].run.init.id}
    with pytest.raises(PreflightError, match="not found under"):
        check(runs, coming, root, None, Store())
    resources = changed(Profile(), {"stage": ["ade20k"]})
    check(runs, coming, root, None, Store(), packed_under(root, resources))


@pytest.mark.long
def test_a_worker_trains_and_tests_on_the_copy(root: Path, scratch: Path):
    for split in ("train", "val", "test"):
        layouts.write(root, "camvid", split)
    pack(root, "CamVid", "camvid.tar")  # where the planned data root is there is nothing else
    workspace = told(training("camvid-half"), root)
    words = [sys.executable, "-m", "studies.worker", workspace.run_id]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stage: camvid: " in done.stdout
    assert Store().records[workspace.run_id]["provenance"]["data"]["test_images"] == 1
