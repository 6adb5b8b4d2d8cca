"""What would fail a run is found before a job is queued, and named with what to do about it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from studies import doctor
from studies.doctor import Finding, limits
from studies.records import snapshot
from studies.records.store import runs_folder
from studies.slurm.profile import Profile, changed

MACHINE = platform.machine()


def nodes(arch: str = MACHINE) -> str:
    return f"NodeName=n1 Arch={arch} CoresPerSocket=1 CPUAlloc=0 Partitions=debug,low State=IDLE\n"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("debug*|down|idle|2\n", "partition debug is down"),
        ("debug*|inact|idle|2\n", "partition debug is inact"),
        ("debug*|drain|mixed|2\n", "partition debug is drain"),
        ("debug*|up|drained|2\ndebug*|up|down*|1\n", "no node of partition debug can start a job (2 drained, 1 down*)"),
        ("debug*|up|idle*|2\n", "no node of partition debug can start a job (2 idle*)"),
        ("debug*|up|draining|2\n", "no node of partition debug can start a job"),
    ],
)
def test_a_partition_that_starts_no_job_is_found_although_sbatch_takes_them(answers, told: str, said: str):
    answers("sinfo", f"{told}low|up|idle|2\n")  # sbatch would not choose that one
    answers("scontrol", nodes())
    (found,) = doctor._partition(Profile())
    assert (found.what, found.level) == ("partition", "fail")
    assert said in found.words


@pytest.mark.parametrize(
    "told",
    ["debug*|up|idle|2\n", "debug*|up|drained|1\ndebug*|up|allocated|1\n", "debug*|up|idle~|4\n", "(null)\n", ""],
)
def test_a_partition_with_a_node_that_works_or_will_is_none(answers, told: str):
    answers("sinfo", told)
    answers("scontrol", nodes())
    assert not list(doctor._partition(Profile()))


def test_nodes_of_another_architecture_are_found_where_they_are_this_partitions(answers):
    answers("sinfo", "low|up|idle|2\n")
    answers("scontrol", nodes("riscv64"))
    (found,) = doctor._partition(changed(Profile(), {"partition": "low"}))
    assert (found.what, found.level) == ("architecture", "fail")
    assert f"nodes are riscv64, this machine's Python is {MACHINE}" in found.words
    assert not list(doctor._partition(changed(Profile(), {"partition": "low", "python": "module-python"})))
    answers("scontrol", nodes() + nodes("riscv64").replace("n1", "n2"))
    (found,) = doctor._partition(changed(Profile(), {"partition": "low"}))
    assert found.level == "warn"
    answers("sinfo", "high|up|idle|2\n")
    assert not list(doctor._partition(changed(Profile(), {"partition": "high"})))


# What `scontrol show assoc_mgr` of SLURM 22.05 printed, without the lines about TRES.
ASSOCIATIONS = """Current Association Manager state

Association Records

ClusterName=dev Account=lab UserName= Partition= Priority=0 ID=1
    ParentAccount=root(1) Lft=1 DefAssoc=No
    GrpSubmitJobs=500(7) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs= MaxWallPJ=
ClusterName=dev Account=lab UserName=ann(1000) Partition= Priority=0 ID=2
    ParentAccount= Lft=6 DefAssoc=Yes
    GrpJobs=N(0) GrpJobsAccrue=N(0)
    GrpSubmitJobs=N(3) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=20(3) MaxWallPJ=
ClusterName=dev Account=spare UserName=ann(1000) Partition= Priority=0 ID=3
    ParentAccount= Lft=9 DefAssoc=No
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=1(1) MaxWallPJ=
ClusterName=dev Account=lab UserName=bob(1001) Partition= Priority=0 ID=4
    ParentAccount= Lft=9 DefAssoc=Yes
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=2(2) MaxWallPJ=

QOS Records

QOS=normal(1)
    GrpJobs=N(0) GrpJobsAccrue=N(0) GrpSubmitJobs=900(3) GrpWall=N(0.00)
    Account Limits
      lab
        MaxJobsPA=N(0) MaxJobsAccruePA=N(0) MaxSubmitJobsPA=N(3)
      spare
        MaxJobsPA=N(0) MaxJobsAccruePA=N(0) MaxSubmitJobsPA=1(1)
    User Limits
      1001
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=4(4)
      ann(1000)
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=12(3)
"""


def test_limits_of_submission_are_ones_own_and_not_those_of_others():
    own = {("GrpSubmitJobs", 500, 7), ("MaxSubmitJobs", 20, 3), ("GrpSubmitJobs", 900, 3), ("MaxSubmitJobsPU", 12, 3)}
    assert set(limits(ASSOCIATIONS, "ann", "")) == own
    spare = {("MaxSubmitJobs", 1, 1), ("GrpSubmitJobs", 900, 3), ("MaxSubmitJobsPA", 1, 1), ("MaxSubmitJobsPU", 12, 3)}
    assert set(limits(ASSOCIATIONS, "ann", "spare")) == spare


def test_more_runs_than_may_be_submitted_are_found(answers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studies.launch.submit.user", lambda: "ann")
    answers("scontrol", ASSOCIATIONS)
    assert not list(doctor._limits(Profile(), 9))
    (found,) = doctor._limits(Profile(), 10)
    assert found.level == "fail"
    assert "MaxSubmitJobsPU: 9 more jobs may be submitted, and 10 would be" in found.words
    assert next(doctor._limits(changed(Profile(), {"account": "spare"}), 0)).words.startswith("MaxSubmitJobs: 0 more")


def test_what_jobs_do_not_inherit_is_told(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH"))]:
        monkeypatch.delenv(name)
    assert not list(doctor._environment(Profile()))
    for name in ("SBATCH_EXPORT", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SBATCH_QOS"):
        monkeypatch.setenv(name, "7")
    left, kept = doctor._environment(Profile())
    assert (left.level, kept.level) == ("warn", "ok")
    assert "this shell is inside job 7; jobs and sbatch do not inherit SBATCH_EXPORT, SLURM_JOB_ID" in left.words
    assert kept.words == "sbatch gets SBATCH_QOS=7"
    (left,) = doctor._environment(changed(Profile(), {"qos": "long"}))
    assert "SBATCH_QOS" in left.words


def test_a_cluster_of_several_is_asked_and_named(answers, tmp_path: Path):
    resources = changed(Profile(), {"options": {"clusters": "wice"}})
    answers("sinfo", "slurm 24.05\n")
    answers("scontrol", "", code=1, error="scontrol: error: No cluster 'wice' known by database.\n")
    (found,) = doctor._cluster(resources, [])
    assert (found.level, found.words) == ("fail", "No cluster 'wice' known by database.")
    answers("scontrol", "MaxArraySize = 1001\n")
    answers("sacct", "")
    answers("sbatch", "", error="sbatch: Job 1 to start at 2030-01-01T00:00:00\n")
    found, *_ = doctor._cluster(resources, [])
    assert "cluster wice of several: its jobs are asked for there" in found.words
    assert "SLURM_CLUSTERS=wice" in (tmp_path / "scontrol.env").read_text()
    assert "--clusters=wice" in (tmp_path / "words").read_text()


def found_in_runs() -> dict[str, Finding]:
    runs_folder().mkdir(exist_ok=True)
    return {finding.what: finding for finding in doctor._runs_folder(runs_folder())}


def test_a_file_system_without_hard_links_is_found(monkeypatch: pytest.MonkeyPatch):
    assert not found_in_runs()

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # as FAT and some FUSE mounts say

    monkeypatch.setattr(os, "link", link)
    assert found_in_runs()["hard links"].level == "warn", "a run is claimed without them, too"
    assert not list(runs_folder().iterdir()), "nothing is left behind"


def test_a_purged_snapshot_is_found():
    code = snapshot.take()
    assert not found_in_runs()
    next(code.rglob("worker.py")).unlink()
    found = found_in_runs()["code of runs"]
    assert found.level == "fail"
    assert f"files of {code.name} are missing" in found.words


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_folders_of_a_colleague_that_may_not_be_written_are_named():
    (runs_folder() / "abc").mkdir(parents=True)
    (runs_folder() / "abc").chmod(0o555)
    assert "abc" in found_in_runs()["rights"].words


def test_a_checkout_that_git_refuses_is_named(monkeypatch: pytest.MonkeyPatch):
    assert not list(doctor._checkout())
    monkeypatch.setattr(snapshot, "git_refuses", lambda: "git refuses /x: dubious ownership")
    (found,) = doctor._checkout()
    assert found == Finding("git", "warn", "git refuses /x: dubious ownership; until then records have no commit")
