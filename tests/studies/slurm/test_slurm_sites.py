"""Sites as they are, on a real SLURM: colleagues share runs/, accounting does not answer, a scratch is purged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import started
from slurm_user import PROFILE, QUICK, User, runs_of

from slurm import PATIENCE, Cluster, People, wait_until, with_users
from studies.records.snapshot import PACKAGES

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def site() -> Iterator[Cluster]:
    """A SLURM of one node with two unix users of its own, and accounting."""
    with started(nodes=1, **with_users("ada", "bob")) as cluster:
        yield cluster


@pytest.fixture
def folder(site: Cluster) -> Iterator[Path]:
    """A folder that the group `lab` shares."""
    folder = site.folder / "lab"
    yield folder
    for job in {name.split("_")[0] for name in site.queue()}:
        site.call("scancel", job)
    site.drained()
    shutil.rmtree(folder)


@dataclass
class Member(User):
    """A unix user of the group `lab`, who lets the group write."""

    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.folder / "runs").mkdir(exist_ok=True)
        for path in (self.folder / "runs", self.folder / "results", self.folder / "results" / "records"):
            shutil.chown(path, group=59900)
            path.chmod(0o2775)

    def start(self, *words: str, verb: str = "run") -> subprocess.Popen[str]:
        people = People(self.folder, self.cluster.settings)
        variables = {
            **self.cluster.environment,
            "SEGNEXT_RESULTS": self.folder / "results",
            "SEGNEXT_RUNS": self.folder / "runs",
        }
        where = ("env", "-C", self.repository, f"{sys.prefix}/bin/python")
        return people.starts(self.name, *where, "-m", f"studies.{verb}", *words, umask="002", **variables)


def test_a_colleague_sees_a_run_does_not_double_it_may_not_cancel_it_and_continues_it(site: Cluster, folder: Path):
    ada, bob = (Member(site, folder, name=name) for name in ("ada", "bob"))
    (planned,) = runs_of("table7/c@0")
    ada.submits("table7/c@0", *QUICK)
    ada.trains(planned, 20)
    assert bob.states()["c@0"]["state"] == "running"
    bob.submits("table7/c@0", *QUICK)
    process = bob.start("table7", verb="cancel")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, said
    assert "denied" in said
    assert len(site.queue()) == 1
    ada.does("table7", verb="cancel")
    site.drained()
    assert "1 of 1 runs submitted" in bob.submits("table7/c@0", *QUICK)
    bob.waits_for(planned)
    first, last = bob.workspace(planned).attempts()
    assert last.cause == "done"
    assert last.begins_after == first.ends_after >= 20


@pytest.mark.parametrize("trouble", ["down", "frozen"])
def test_where_accounting_does_not_answer_runs_go_on_and_what_left_the_queue_is_not_called_lost(
    trouble: str, site: Cluster, folder: Path
):
    selectors = ("table7/b@0", "table7/c@0")
    first, second = runs_of(*selectors)
    user = User(site, folder)
    user.submits(*selectors, *QUICK, "--max-parallel", "1")
    user.trains(first)
    site.stop_accounting() if trouble == "down" else site.freeze_accounting()
    try:
        site.call("scancel", user.workspace(second).submission.read().job)
        process = user.start(verb="status")
        said, _ = process.communicate(timeout=PATIENCE)
        assert "accounting does not answer" in said, said
        user.waits_for(first)
        site.drained()
        states = user.states()
        assert states["b@0"]["state"] == "done"
    finally:
        site.start_accounting()
    user.submits(*selectors, *QUICK)
    user.waits_for(second)


def test_a_job_whose_code_was_purged_from_the_scratch_is_done_when_it_is_tried_again(site: Cluster, folder: Path):
    (planned,) = runs_of("table7/c@0")
    user = User(site, folder, profile=PROFILE + "[options]\nhold = true\n")
    user.submits("table7/c@0", *QUICK)
    submission = user.workspace(planned).submission.read()
    code = folder / "runs" / "snapshots" / submission.snapshot
    for package in PACKAGES:
        for path in (code / package).glob("w*.py"):
            path.unlink()
    site.call("scontrol", "release", submission.job)
    site.drained()
    assert not user.recorded(planned)
    (folder / "profile.toml").write_text(PROFILE)
    wait_until(lambda: user.states()["c@0"]["cause"] == "not_started", user.states)
    assert "1 of 1 runs submitted" in user.submits("table7/c@0", *QUICK, "--retry", "not_started")
    user.waits_for(planned)
