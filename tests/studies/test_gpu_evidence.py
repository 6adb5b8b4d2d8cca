"""Promises of `make gpu-evidence`: the wanted order, a clean stop and its continuation, one small file; a version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

from studies.declare.protocols import protocol
from studies.plan.runs import plan, select
from studies.records.store import Store

SCRIPT = REPOSITORY / "slurm" / "gpu_evidence.py"
QUICK = ["--device", "cpu", "--protocol", "quick", "--cam-class", "", "--workers", "0", "--precision", "float32"]


def evidence(folder: Path, *words: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *QUICK, "--folder", str(folder), *words]


def packed(folder: Path) -> set[str]:
    with tarfile.open(folder / "evidence.tar.gz") as tar:
        return {name.rpartition("/")[0] + Path(name).suffix for name in tar.getnames()}


def test_every_row_of_a_table_comes_before_the_next_table_and_every_table_before_the_next_seed():
    chosen = protocol("camvid")
    selections = select(["table7@0", "table6@0", "table7@1", "table6@1"], chosen, None, None)
    runs = plan(selections, chosen, None, Store(REPOSITORY / "results"))
    order = [(planned.run.seed, planned.study.slug) for planned in runs]
    assert order == [(s, t) for s in (0, 1) for t, rows in (("table7", 4), ("table6", 5)) for _ in range(rows)]


@pytest.mark.long
def test_a_stopped_start_leaves_cleanly_and_the_next_one_continues_it(tmp_path: Path):
    """Training of one run is under way when the signal comes; the second start ends it, and packs it."""
    environment = {**os.environ, "OUT": str(tmp_path / "out")}
    words = evidence(tmp_path, "--studies", "table7/b", "--seeds", "0", "--limit-iterations", "40", "--parallel", "1")
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as first:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and _done(tmp_path) < 3:
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        told, _ = first.communicate(timeout=60)
    assert first.returncode == 5, told
    assert "0 of 1 runs are finished" in told
    assert "table7/b@0: stopped, saved: " in told
    assert packed(tmp_path / "out") == set()

    second = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    (record,) = [r for r in Store(tmp_path / "results").kind("run") if r["config"]["train"]["iterations"] == 40]
    assert record["provenance"]["attempts"] == 2
    assert packed(tmp_path / "out") == {"records.json", "curves.csv", "cam.json", "logs.gz"}
    assert (tmp_path / "out" / "evidence.tar.gz").stat().st_size < 100_000


def _done(folder: Path) -> int:
    for path in (folder / "runs").glob("*/progress.json"):
        progress = json.loads(path.read_text())
        return progress["done"] if progress["phase"] == "train" else 0
    return 0


def test_the_minutes_end_it_and_what_is_committed_is_not_done_again(tmp_path: Path):
    words = evidence(tmp_path, "--studies", "table7/c", "--seeds", "0", "--minutes", "0")  # which results/ has
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 runs are finished" in done.stdout
    words = evidence(tmp_path, "--studies", "table7/c", "--seeds", "90", "--minutes", "0.05")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "the minutes are over" in done.stdout
    assert packed(tmp_path) == set()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with this one's code."""
    root = tmp_path / "checkout"
    for package in ("segnext", "studies"):
        shutil.copytree(REPOSITORY / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "Makefile").write_text("all:\n")
    (root / ".gitignore").write_text("__pycache__/\n")
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "all")
    return root


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def _written(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "studies.records.snapshot"], cwd=root, capture_output=True, text=True, check=False
    )


def _version(root: Path) -> dict[str, object]:
    """What a record that is made there would say of its code; from a snapshot, as a worker would."""
    program = (
        "import json, subprocess, sys; from studies.records import snapshot; own = snapshot.code_version()\n"
        'ask = \'import json; from studies.records.provenance import provenance; p = provenance("run");'
        'print(json.dumps([p["commit"], p["dirty"]]))\'\n'
        "worker = json.loads(subprocess.check_output([sys.executable, '-c', ask], cwd=snapshot.take()))\n"
        "print(json.dumps({**own, 'worker': worker}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_a_copy_without_git_has_its_commit_from_version_json(checkout: Path, tmp_path: Path):
    commit = _git(checkout, "rev-parse", "HEAD")
    assert _written(checkout).returncode == 0
    copy = shutil.copytree(checkout, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    assert _version(copy) == {"commit": commit, "diff": None, "worker": [commit, False]}

    with open(copy / "segnext" / "config" / "architecture.py", "a") as file:
        file.write("# another\n")
    version = _version(copy)
    assert version["commit"] is None
    assert commit in str(version["diff"])
    assert version["worker"] == [None, True]

    (copy / "version.json").unlink()
    assert _version(copy) == {"commit": None, "diff": None, "worker": [None, False]}


def test_in_a_checkout_git_itself_is_asked(checkout: Path):
    assert _written(checkout).returncode == 0
    with open(checkout / "Makefile", "a") as file:
        file.write("# a later commit\n")
    _git(checkout, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "later")
    assert _version(checkout)["commit"] == _git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["studies/new.py", "segnext/config/architecture.py", "Makefile"])
def test_no_version_is_written_of_what_was_changed(checkout: Path, name: str):
    with open(checkout / name, "a") as file:
        file.write("# changed\n")
    done = _written(checkout)
    assert done.returncode == 2
    assert "commit or undo first" in done.stderr
    assert not (checkout / "version.json").exists()


def test_no_version_is_written_outside_of_git(checkout: Path):
    shutil.rmtree(checkout / ".git")
    done = _written(checkout)
    assert done.returncode == 2
    assert "no git checkout" in done.stderr
