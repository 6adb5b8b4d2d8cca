"""Several runs in one job on one card, on a real SLURM: what ends one leaves the others, and all go on together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, started
from slurm_user import QUICK, User, runs_of

from slurm import Cluster, wait_until

pytestmark = pytest.mark.slurm

SHORT = ("--protocol", "quick", "--limit-iterations", "60")
CARD = (
    'gpus = 1\ndevice = "cpu"\nruns_per_gpu = 4\ncpus = 1\nmemory = "6G"\ntime = "00:30:00"\nwarning = 20\n'
    '[retry]\nmemory = "1.5x"\n'
)
BROKEN = '''
def _broken(self, model, images, labels, loss=Segmentation.loss):
    """Table 7's (a) raises; seed 2 takes more memory, bit by bit, than the job has."""
    if self.run.model.decoder == "a":
        raise IndexError("a tensor of another shape")
    if self.run.seed == 2:
        import time

        hog = []
        while True:
            hog.append(b"1" * (60 << 20))
            time.sleep(0.25)
    return loss(self, model, images, labels)


Segmentation.loss = _broken
'''


@pytest.fixture(scope="module")
def site() -> Iterator[Cluster]:
    """A SLURM of one node with two make-believe GPUs."""
    with started(nodes=1) as cluster:
        yield cluster


@pytest.fixture
def user(site: Cluster, tmp_path: Path) -> Iterator[User]:
    """Someone whose profile puts four runs on a card, and whose code is broken for some rows."""
    copy = tmp_path / "repository"
    for name in ("segnext", "studies", "slurm"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(copy / "segnext" / "training" / "segmentation.py", "a") as source:
        source.write(BROKEN)
    tell = tmp_path / "tell"
    tell.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    tell.chmod(0o755)
    yield User(site, tmp_path / "lab", copy, f'notify = ["{tell}"]\n{CARD}')
    for job in {name.split("_")[0] for name in site.queue()}:
        site.call("scancel", job)
    site.drained()


def test_runs_that_share_a_card_fail_alone_and_what_ran_out_of_memory_is_given_more(user: User, tmp_path: Path):
    selectors = ("table7/a@0", "table7/c@0", "table7/c@1", "table7/c@2")
    broken, first, second, greedy = runs_of(*selectors, limit=60)
    said = user.submits(*selectors, *SHORT)
    assert "4 train runs, 4 a card" in said
    assert len(user.cluster.queue()) == 1
    job = user.workspace(first).submission.read().job
    assert job == user.workspace(greedy).submission.read().job
    user.trains(first)
    wait_until(lambda: user.workspace(broken).submission.read() is None, lambda: user.log(broken))
    states = user.states()
    assert (states["a@0"]["state"], states["a@0"]["cause"]) == ("failed", "code"), "its job goes on without it"
    assert states["c@0"]["state"] == "running"
    user.waits_for(first, second)
    user.cluster.drained()
    assert [user.causes(planned) for planned in (first, second, greedy)] == [["done"], ["done"], ["out_of_memory"]]
    assert "of the job's 6.4 GB" in user.workspace(greedy).last_attempt().message
    assert user.states()["c@2"]["cause"] == "out_of_memory"
    words = (*selectors, *SHORT, "--retry", "out_of_memory", "--cluster", "slurm", "--dry-run")
    told = user.does(*words, "--profile", str(user.folder / "profile.toml"))
    assert "1 train runs in 1 jobs, 9G each" in told
    ends = {"table7/a@0 code", "table7/c@0 done", "table7/c@1 done", "table7/c@2 out_of_memory"}
    assert {line.split(" ", 1)[1] for line in (tmp_path / "told").read_text().splitlines()} == ends


@pytest.mark.long
def test_a_preempted_card_warns_all_its_runs_and_goes_back_to_the_queue_once(user: User):
    selectors = ("table7/a@0", "table7/c@0", "table7/c@1")
    broken, first, second = runs_of(*selectors)
    user.submits(*selectors, *QUICK, "--partition", "low")
    wait_until(lambda: user.causes(broken) == ["code"], lambda: user.log(broken))
    for planned in (first, second):
        user.trains(planned, 20)
    urgent = user.cluster.sbatch("sleep 3", "--partition=high", "--exclusive")
    wait_until(lambda: urgent not in user.cluster.queue(), user.cluster.queue)
    user.waits_for(first, second)
    user.cluster.drained()
    assert user.causes(broken) == ["code"], "what had failed was started again with the others"
    for planned in (first, second):
        before, after = user.workspace(planned).attempts()
        assert (before.cause, after.cause) == ("preempted", "done")
        assert after.begins_after == before.ends_after >= 20
        assert (after.job, after.restart) == (before.job, 1)


@pytest.mark.long
def test_runs_of_a_card_whose_time_is_over_save_and_go_on_together(user: User):
    first, second = runs_of("table7/c@0", "table7/c@1", limit=None)
    (user.folder / "profile.toml").write_text(
        CARD.replace("warning = 20", "warning = 45").replace("00:30:00", "00:02:00")
    )
    user.submits("table7/c@0", "table7/c@1", "--protocol", "quick", "--only", "train", "--evaluate-every", "5")
    wait_until(
        lambda: all(len(user.causes(planned)) > 1 for planned in (first, second)), lambda: user.log(first, second)
    )
    job, *_ = user.cluster.queue()
    user.does("table7/c@1", verb="cancel")  # one of the two: the other goes on
    wait_until(lambda: user.causes(second)[-1] == "stopped", lambda: user.log(second))
    assert user.states()["c@1"]["cause"] == "cancelled"
    assert user.cluster.queue() == {job: "RUNNING"}
    user.does("table7", verb="cancel")
    user.cluster.drained()
    for planned in (first, second):
        before, after, *_ = user.workspace(planned).attempts()
        assert before.cause == "time_limit"
        assert after.begins_after == before.ends_after > 0
        assert (after.job, after.restart) == (before.job, 1)
