"""The one-machine SLURM does what its description says, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import started

from slurm import PATIENCE, SCRIPT, Cluster, People, wait_until, with_users

pytestmark = pytest.mark.slurm


def script(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    variables = {f"DEV_CLUSTER_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [str(SCRIPT), *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def output(cluster: Cluster, folder: Path, command: str, *options: str) -> str:
    """What a job printed."""
    told = folder / "told"
    job = cluster.sbatch(f"{command} > {told}", *options)
    wait_until(lambda: job not in cluster.queue() and told.exists(), cluster.queue)
    return told.read_text().strip()


def test_two_nodes_three_partitions_and_accounting(cluster: Cluster):
    partitions = cluster.call("sinfo", "--noheader", "--format=%R %D").split("\n")
    assert {"debug 2", "low 2", "high 2"} <= {line.strip() for line in partitions}
    job = cluster.sbatch("exit 3")
    wait_until(lambda: "FAILED" in cluster.accounted(job), lambda: cluster.accounted(job))


def test_a_job_sees_as_many_gpus_as_it_asked_for_and_nodes_know_each_others_names(cluster: Cluster, tmp_path: Path):
    assert output(cluster, tmp_path, "echo $CUDA_VISIBLE_DEVICES", "--gpus-per-node=2") == "0,1"
    assert "127.0.0.1" in output(cluster, tmp_path, "getent hosts n2")


def test_up_again_changes_nothing(cluster: Cluster):
    before = cluster.call("scontrol", "show", "config").count("\n")
    done = subprocess.run(
        [str(SCRIPT), "up"], env={**os.environ, **cluster.settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "already up" in done.stderr
    assert cluster.call("scontrol", "show", "config").count("\n") == before


def test_users_that_only_the_cluster_knows_submit_see_each_other_and_cancel_their_own():
    with started(nodes=1, **with_users("ada", "bob")) as cluster:
        people = People(cluster.folder, cluster.settings | cluster.environment)
        job = people.does("ada", "sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 600").strip()
        wait_until(lambda: cluster.queue().get(job) == "RUNNING", cluster.queue)
        assert people.does("bob", "squeue", "--noheader", "--format=%i %u").split() == [job, "ada"]
        assert "denied" in people.does("bob", "scancel", job)
        assert cluster.queue() == {job: "RUNNING"}
        people.does("ada", "scancel", job, codes=(0,))
        cluster.drained()
    assert "ada" not in Path("/etc/passwd").read_text()


def test_accounting_that_is_down_or_hangs_stops_no_job_and_comes_back():
    with started(nodes=1) as cluster:
        jobs = []
        for trouble in (cluster.stop_accounting, cluster.freeze_accounting):
            trouble()
            asked = subprocess.Popen(
                ["sacct"], env={**os.environ, **cluster.environment}, stderr=subprocess.PIPE, text=True
            )
            jobs.append(cluster.sbatch("exit 0"))
            cluster.drained()
            if trouble == cluster.stop_accounting:
                assert "Connection refused" in asked.communicate(timeout=PATIENCE)[1]
            else:
                assert asked.poll() is None, "it got an answer"
                asked.kill()
                asked.communicate()
            cluster.start_accounting()
        for job in jobs:
            wait_until(lambda job=job: cluster.accounted(job) == "COMPLETED")


def test_a_release_that_cannot_be_had_is_skipped_with_the_reason(tmp_path: Path):
    nowhere = {
        "dir": str(tmp_path / "cluster"),
        "cache": str(tmp_path / "cache"),
        "mirror": "http://127.0.0.1:9/debian",
    }
    done = script("up", release="trixie", **nowhere)
    assert done.returncode == 77, done.stderr
    assert "SLURM of Debian trixie cannot be had" in done.stderr or "missing: debootstrap" in done.stderr
    assert not (tmp_path / "cache" / "trixie").exists()


def test_down_ends_every_process_with_running_jobs_and_a_node_that_was_killed():
    cluster = Cluster.up(accounting=0)
    try:
        job = cluster.sbatch("sleep 600", "--nodelist=n2")
        wait_until(lambda: cluster.queue().get(job) == "RUNNING", cluster.queue)
        cluster.kill_node("n1")
    finally:
        cluster.down()
    assert not cluster.folder.exists()
    left = subprocess.run(["pgrep", "--full", str(cluster.folder)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_without_a_cluster_status_answers_at_once_and_a_mistake_is_explained(tmp_path: Path):
    assert "down" in script("status", dir=str(tmp_path / "none")).stderr
    done = script("kill-node", dir=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "which node?" in done.stderr
    assert "usage: dev-cluster" in script("sideways").stderr
