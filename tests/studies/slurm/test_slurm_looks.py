"""Seeds in planned looks on a real SLURM: each look's runs once, the next when the last is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_user import User, runs_of

from slurm import Cluster
from studies.plan.runs import PlannedRun

pytestmark = pytest.mark.slurm

# Two steps of training teach nothing: the rows do not differ, and only the last look ends it.
LOOKS = ("table7", "--rows", "b,c", "--protocol", "smoke", "--until-decided", "--looks", "3,4")


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    yield User(cluster, tmp_path / "lab")
    for job in {name.split("_")[0] for name in cluster.queue()}:
        cluster.call("scancel", job)
    cluster.drained()


@pytest.mark.long
def test_looks_submit_their_seeds_one_look_after_the_other_and_nothing_twice(user: User):
    def of_seeds(seeds: int) -> list[PlannedRun]:
        chosen = [f"table7/{row}@{seed}" for row in "bc" for seed in range(seeds)]
        return [run for run in runs_of(*chosen, protocol_name="smoke", limit=None) if not run.upstream]

    told = user.submits(*LOOKS)
    assert "look 1: seeds 0 to 2" in told
    assert told.rstrip().endswith("look 1 is not complete: the same command goes on when its runs are over")
    plan = user.folder / "results" / "looks" / "table7-smoke.json"
    written = plan.read_bytes()
    assert json.loads(written)["seeds"] == [3, 4]
    user.waits_for(*of_seeds(3))
    user.cluster.drained()

    told = user.submits(*LOOKS, "--follow")  # judges the first look, submits the second, and stays
    assert "look 2: seeds 0 to 3" in told
    assert told.rstrip().endswith("all looks are over")
    assert user.recorded(*of_seeds(4))
    assert all(user.causes(run) == ["done"] for run in of_seeds(4))
    assert plan.read_bytes() == written
    assert "submitted" not in user.submits(*LOOKS)
