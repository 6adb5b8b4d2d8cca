"""What a real SLURM refuses, hides and inherits: said by its own words, and no run is lost over it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import started
from slurm_user import PROFILE, User, runs_of

from slurm import Cluster
from studies.doctor import limits
from studies.slurm import scheduler
from studies.slurm.scheduler import Refused, Unreachable

pytestmark = pytest.mark.slurm

SMOKE = ("table7/c@0", "--protocol", "quick", "--limit-iterations", "2")


@pytest.fixture(scope="module")
def accounted() -> Iterator[Cluster]:
    """A cluster of this module's own, whose limits tests change."""
    with started(nodes=1) as cluster:
        yield cluster


@pytest.fixture
def ann(accounted: Cluster, tmp_path: Path) -> Iterator[User]:
    yield User(accounted, tmp_path / "lab")
    for job in {name.split("_")[0] for name in accounted.queue()}:
        accounted.call("scancel", job)
    accounted.drained()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--partition", "nowhere"), "Invalid partition name specified"),
        (("--account", "nobody"), "Invalid account or account/partition combination specified"),
        (("--qos", "none"), "Invalid qos specification"),
        (("--constraint", "a100"), "Invalid feature specification"),
    ],
)
def test_each_refusal_is_said_in_slurms_words_and_nothing_is_left_of_it(ann: User, option: tuple[str, ...], words: str):
    said = ann.submits(*SMOKE, *option, code=3)
    assert re.search(rf"sbatch refuses: .*{re.escape(words)}", said), said
    assert "0 of 1 runs submitted" in said
    assert not list((ann.folder / "runs").glob("*/submission.json"))
    assert "lost" not in ann.does(verb="status")


def test_a_run_is_done_that_is_submitted_inside_an_allocation_by_a_shell_that_exports_nothing(ann: User):
    (planned,) = runs_of("table7/c@0", limit=2)
    ann.environment |= {
        "SBATCH_EXPORT": "NONE",
        "SLURM_EXPORT_ENV": "NONE",
        "SLURM_JOB_ID": "7",
        "SLURM_MEM_PER_CPU": "200",  # with the profile's memory: srun says they exclude each other
        "SLURM_CPU_BIND": "quiet,mask_cpu:0xF0000",
        "SLURM_GPUS_PER_NODE": "9",
        "SLURM_NTASKS": "64",
        "SLURM_NTASKS_PER_NODE": "64",
        "SLURM_DISTRIBUTION": "plane=7",
    }
    told = ann.does("--profile", str(ann.folder / "profile.toml"), verb="doctor")
    assert "this shell is inside job 7; jobs and sbatch do not inherit SBATCH_EXPORT, SLURM_CPU_BIND" in told
    ann.submits(*SMOKE)
    ann.waits_for(planned)
    ann.cluster.drained()
    assert ann.causes(planned) == ["done"]


def test_a_run_is_done_whose_profile_exports_nothing(ann: User):
    (planned,) = runs_of("table7/c@0", limit=2)
    (ann.folder / "profile.toml").write_text(PROFILE + '[options]\nexport = "NONE"\n')
    ann.submits(*SMOKE)
    ann.waits_for(planned)
    ann.cluster.drained()
    assert ann.causes(planned) == ["done"]


def test_a_wrapper_that_talks_first_and_a_named_cluster_lose_no_job(ann: User, tmp_path: Path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(
        f'#!/bin/sh\necho "Your last job 42 took 3 hours"\nexec {shutil.which("sbatch")} "$@"\n'
    )
    (folder / "sbatch").chmod(0o755)
    ann.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    (ann.folder / "profile.toml").write_text(PROFILE + '[options]\nclusters = "dev"\nhold = true\n')
    (planned,) = runs_of("table7/c@0", limit=2)
    ann.submits(*SMOKE)
    submission = ann.workspace(planned).submission.read()
    assert submission.job in ann.cluster.queue()
    assert submission.token.endswith("@dev")
    assert ann.states()["c@0"]["state"] == "queued"
    assert "1 jobs cancelled" in ann.does("table7", verb="cancel")
    ann.cluster.drained()


def test_the_doctor_finds_what_sbatch_would_take_and_never_start(ann: User):
    profile = ("--profile", str(ann.folder / "profile.toml"))
    try:
        ann.cluster.call("scontrol", "update", "partition=debug", "state=down")
        assert "✗ partition: partition debug is down" in ann.does(*profile, verb="doctor", code=1)
        ann.cluster.call("scontrol", "update", "partition=debug", "state=up")
        ann.cluster.call("scontrol", "update", "node=n1", "state=drain", "reason=test")
        assert "no node of partition debug can start a job (1 drained)" in ann.does(*profile, verb="doctor", code=1)
        ann.cluster.call("scontrol", "update", "node=n1", "state=resume")
        ann.cluster.call("sacctmgr", "-iQ", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=3")
        words = ("table7", "--protocol", "quick", "--seeds", "0", *profile)
        assert "3 more jobs may be submitted, and 4 would be" in ann.does(*words, verb="doctor", code=1)
        said = ann.submits("table7", "--protocol", "quick", "--seeds", "0", "--limit-iterations", "2", code=3)
        assert re.search("sbatch refuses: .*(QOSMaxSubmitJobPerUserLimit|submit limit)", said), said
    finally:
        ann.cluster.call("scontrol", "update", "partition=debug", "state=up")
        ann.cluster.call("sacctmgr", "-iQ", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=-1")


def test_limits_are_read_as_this_slurm_prints_them(ann: User):
    ann.cluster.call("sacctmgr", "-iQ", "modify", "user", "root", "set", "MaxSubmitJobs=17")
    try:
        said = ann.cluster.call("scontrol", "show", "assoc_mgr", "users=root", "qos=normal", "flags=assoc,qos")
        assert ("MaxSubmitJobs", 17, 0) in set(limits(said, "root", ""))
    finally:
        ann.cluster.call("sacctmgr", "-iQ", "modify", "user", "root", "set", "MaxSubmitJobs=-1")


def test_silence_of_a_real_controller_is_no_refusal(ann: User, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_CONF", ann.cluster.environment["SLURM_CONF"])
    ann.cluster.stop_controller()
    try:
        with pytest.raises(Unreachable):
            scheduler.call("squeue", "--noheader")
    finally:
        ann.cluster.start_controller()
    with pytest.raises(Refused, match="Invalid partition"):
        scheduler.call("sbatch", "--partition=nowhere", "--wrap=true")
