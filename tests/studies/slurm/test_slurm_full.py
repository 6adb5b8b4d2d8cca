"""A queue without room for all: whoever follows sees the rest submitted as runs end, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import started
from slurm_user import User, runs_of

pytestmark = pytest.mark.slurm


def test_a_follower_submits_the_rest_when_a_full_queue_has_room_again(tmp_path: Path):
    selectors = [f"table7/{row}@{seed}" for row in "bc" for seed in range(5)]
    runs = runs_of(*selectors, limit=2)
    with started(extra="MaxJobCount=8\nMaxArraySize=6\nMinJobAge=2") as cluster:
        user = User(cluster, tmp_path / "lab")
        told = user.submits(*selectors, "--protocol", "quick", "--limit-iterations", "2", "--follow")
    # sbatch itself waits where MaxJobCount is reached: whether it refuses in the end depends on the machine.
    assert "10 of 10 runs submitted\n" in told
    assert user.recorded(*runs)
    assert all(user.causes(run) == ["done"] for run in runs)
    assert told.rstrip().splitlines()[-1].endswith("next: python -m reports.build table7")
