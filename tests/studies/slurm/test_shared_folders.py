"""Several unix users share runs/ and results/: each sees what the others did, and what they may not read is named."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import REPOSITORY

from slurm import NoSlurm, People

CELL = "table7/c@0"
STARTED = (CELL, "--protocol", "quick", "--limit-iterations", "1")
PRINT_SNAPSHOT = ("-c", "from studies.records import snapshot; print(snapshot.take())")


class Lab(People):
    """Ada and Bob, who share `runs` and `results` by their group."""

    def python(self, name: str, *words: str, umask: str = "022", codes: tuple[int, ...] = ()) -> str:
        folders = {"SEGNEXT_RUNS": self.folder / "runs", "SEGNEXT_RESULTS": self.folder / "results"}
        where = ("env", "-C", REPOSITORY, f"{sys.prefix}/bin/python")
        return self.does(name, *where, *words, umask=umask, codes=codes, OMP_NUM_THREADS=1, **folders)

    def snapshot(self, name: str, umask: str = "022") -> Path:
        return Path(self.python(name, *PRINT_SNAPSHOT, umask=umask, codes=(0,)).strip())


def not_of_costs(_: str, names: list[str]) -> list[str]:
    """No test is about measuring costs, but one, which deletes them."""
    return [name for name in names if not name.startswith("cost-")]


@contextmanager
def laboratory() -> Iterator[Lab]:
    try:
        lab = Lab.of("ada", "bob")
    except NoSlurm as error:
        pytest.skip(str(error))
    for name in ("runs", "results"):
        (lab.folder / name).mkdir()
    shutil.copytree(REPOSITORY / "results" / "records", lab.folder / "results" / "records", ignore=not_of_costs)
    for name in ("runs", "results", "results/records"):
        shutil.chown(lab.folder / name, group=59900)
        (lab.folder / name).chmod(0o2775)
    try:
        yield lab
    finally:
        shutil.rmtree(lab.folder)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with laboratory() as lab:
        yield lab


def did(lab: Lab, *words: str, umask: str = "022") -> Path:
    """The folder of a run that Ada did."""
    lab.python("ada", "-m", "studies.run", *STARTED, *words, umask=umask, codes=(0,))
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


@pytest.mark.long
def test_a_run_that_a_colleague_did_is_seen_and_not_done_again(lab: Lab):
    did(lab)
    told = lab.python("bob", "-m", "studies.status", "--json", codes=(0,))
    assert [line["state"] for line in json.loads(told)] == ["done"]
    assert "done already" in lab.python("bob", "-m", "studies.run", *STARTED, codes=(0,))


@pytest.mark.long
def test_a_colleague_continues_a_run_of_a_folder_whose_files_the_group_may_write(lab: Lab):
    folder = did(lab, "--only", "train", umask="002")
    lab.python("bob", "-m", "studies.run", *STARTED, umask="002", codes=(0,))
    owners = [path.stat().st_uid for path in sorted((folder / "attempts").iterdir())]
    assert owners == [59901, 59902]
    assert (lab.folder / "results" / "records" / f"{folder.name}.json").stat().st_uid == 59902


@pytest.fixture(scope="module")
def closed() -> Iterator[tuple[Lab, Path]]:
    """A lab with a trained run that only Ada may read."""
    with laboratory() as lab:
        yield lab, did(lab, "--only", "train", umask="077")


VERBS = ("status", "run", "show", "logs", "cancel", "gc", "doctor")


@pytest.mark.parametrize("what", ["a run", "all runs"])
@pytest.mark.parametrize("verb", VERBS)
def test_what_a_colleague_closed_is_named_by_every_verb(closed: tuple[Lab, Path], verb: str, what: str):
    lab, run = closed
    folder = run if what == "a run" else run.parent
    run.parent.chmod(0o2775 if what == "a run" else 0o2700)
    by_verb: dict[str, tuple[str, ...]] = {
        "run": STARTED,
        "doctor": (*STARTED, "--cluster", "local"),
        "show": STARTED,
        "logs": (CELL,),
        "cancel": ("all",),
    }
    told = lab.python("bob", "-m", f"studies.{verb}", *by_verb.get(verb, ()), codes=(1, 2, 3))
    assert "Traceback" not in told
    assert str(folder) in told


def test_a_folder_that_a_colleague_lets_us_only_read_is_named_before_a_run_starts(lab: Lab):
    did(lab, "--only", "train")
    records = lab.folder / "results" / "records"
    records.chmod(0o2755)
    for path in records.glob("cost-*.json"):
        path.unlink()  # it is measured before the first run, and belongs there
    told = lab.python("bob", "-m", "studies.run", *STARTED)
    assert "Traceback" not in told
    assert str(records) in told or str(lab.folder / "runs") in told


@pytest.mark.long
def test_a_run_that_colleagues_may_only_read_is_named_with_its_remedy(lab: Lab):
    """The usual umask in a shared folder: everybody may read what a run left, and only its owner continue it."""
    folder = did(lab, "--only", "train")
    refused = lab.python("bob", "-m", "studies.run", *STARTED, codes=(3,))
    assert f"nothing was started: you may not write in {folder}: chmod -R g+rwX {folder}, by its owner" in refused
    assert f"{folder}: chmod -R g+rwX" in lab.python("bob", "-m", "studies.doctor", "--cluster", "local")
    assert "umask is 022" in lab.python("ada", "-m", "studies.doctor", "--cluster", "local")
    assert "umask is" not in lab.python("ada", "-m", "studies.doctor", "--cluster", "local", umask="002")
    lab.does("ada", "chmod", "-R", "g+rwX", folder)
    lab.python("bob", "-m", "studies.run", *STARTED, umask="002", codes=(0,))
