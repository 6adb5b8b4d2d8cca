"""Several unix users share runs/ and results/: each sees what the others did, and what they may not read is named."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

from slurm import Done, NoSlurm, People

CELL = "table7/c@0"
STARTED = (CELL, "--protocol", "quick", "--limit-iterations", "1")
PRINT_SNAPSHOT = ("-c", "from studies import snapshot; print(snapshot.take())")


class Lab(People):
    """Ada and Bob, who share `runs` and `results` by their group."""

    def python(self, name: str, *words: str, umask: str = "022") -> Done:
        folders = {"SEGNEXT_RUNS": self.folder / "runs", "SEGNEXT_RESULTS": self.folder / "results"}
        python = (f"{sys.prefix}/bin/python", *words)
        return self.does(name, "env", "-C", REPOSITORY, *python, umask=umask, OMP_NUM_THREADS=1, **folders)

    def snapshot(self, name: str, umask: str = "022") -> Path:
        done = self.python(name, *PRINT_SNAPSHOT, umask=umask)
        assert done.returncode == 0, done.stdout
        return Path(done.stdout.strip())


@pytest.fixture
def lab() -> Iterator[Lab]:
    try:
        lab = Lab.of("ada", "bob")
    except NoSlurm as error:
        pytest.skip(str(error))
    for name in ("runs", "results"):
        (lab.folder / name).mkdir()
        shutil.chown(lab.folder / name, group=59900)
        (lab.folder / name).chmod(0o2775)
    yield lab
    shutil.rmtree(lab.folder)


@pytest.fixture
def started(lab: Lab) -> Path:
    """The folder of a run that Ada did."""
    done = lab.python("ada", "-m", "studies.run", *STARTED, "--cluster", "local")
    assert done.returncode == 0, done.stdout
    (spec,) = (lab.folder / "runs").glob("*/spec.json")
    return spec.parent


def test_the_code_that_one_user_keeps_is_kept_for_the_others_who_may_only_read_it(lab: Lab):
    folder = lab.snapshot("ada")
    assert folder.stat().st_mode & 0o777 == 0o755
    assert lab.snapshot("bob") == folder
    assert len(list(folder.parent.iterdir())) == 1


@pytest.mark.parametrize("trouble", ["closed", "damaged"])
def test_a_colleagues_snapshot_that_is_closed_or_damaged_stops_nobody(lab: Lab, trouble: str):
    theirs = lab.snapshot("ada", umask="077" if trouble == "closed" else "022")
    if trouble == "damaged":
        (theirs / "studies" / "worker.py").unlink()
    own = lab.snapshot("bob")
    assert own.parent == theirs.parent
    assert own != theirs
    assert (own / "studies" / "worker.py").read_bytes() == (REPOSITORY / "studies" / "worker.py").read_bytes()
    assert lab.snapshot("bob") == own


def test_a_run_that_a_colleague_did_is_seen_and_not_done_again(lab: Lab, started: Path):
    done = lab.python("bob", "-m", "studies.status", "--json")
    assert done.returncode == 0, done.stdout
    assert [line["state"] for line in json.loads(done.stdout)] == ["done"]
    again = lab.python("bob", "-m", "studies.run", *STARTED, "--cluster", "local")
    assert again.returncode == 0, again.stdout
