"""Whatever happens to jobs on a real SLURM: every run is recorded once, and the table equals an undisturbed one's.

Every test submits as a user does, breaks something, and looks at what is left. The reference is a local run.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, started
from slurm_user import PROFILE, QUICK, User, runs_of

from slurm import PATIENCE, Cluster, wait_until
from studies.declare.protocols import protocol
from studies.plan.runs import plan, select
from studies.records.store import Store

pytestmark = pytest.mark.slurm


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    yield User(cluster, tmp_path / "lab")
    for job in {name.split("_")[0] for name in cluster.queue()}:
        cluster.call("scancel", job)
    cluster.drained()


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The table that local runs of these selectors give; each run is done once, whichever of our processes asks."""
    folder = tmp_path_factory.getbasetemp()
    ours = User(cluster, (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "undisturbed")

    def table(*words: str) -> str:
        with (ours.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ours.does(*words, "--cluster", "local")
        told = ours.does(*words, "--dry-run", "--json")
        alone = User(cluster, tmp_path_factory.mktemp("alone"))
        for line in json.loads(told[told.index("[") :]):
            record = Path("results", "records", f"{line['run']}.json")
            shutil.copy(ours.folder / record, alone.folder / record)
        return alone.table()

    return table


def test_a_preempted_run_saves_goes_back_to_the_queue_and_ends_as_if_nothing_had_been(user: User, undisturbed):
    (planned,) = runs_of("table7/c@0")
    user.submits("table7/c@0", *QUICK, "--partition", "low")
    user.trains(planned, 20)
    urgent = user.cluster.sbatch("sleep 3", "--partition=high", "--nodes=2", "--exclusive")
    wait_until(lambda: urgent not in user.cluster.queue(), user.cluster.queue)
    user.waits_for(planned)
    first, last = user.workspace(planned).attempts()
    assert (first.cause, last.cause) == ("preempted", "done")
    assert last.begins_after == first.ends_after >= 20
    assert last.job == first.job
    record = user.record(planned)
    spent = sum(attempt.finished - attempt.started for attempt in (first, last))
    assert record["provenance"]["attempts"] == 2
    assert record["provenance"]["process_seconds"] == pytest.approx(spent, abs=2)
    assert user.table() == undisturbed("table7/c@0", *QUICK)


@pytest.mark.long
@pytest.mark.parametrize(("start", "limit"), [(8, 2), (33, 1)], ids=["warned", "too late to be warned"])
def test_a_run_longer_than_its_time_limit_goes_on_in_job_after_job(start: int, limit: int, user: User, undisturbed):
    whole = ("table7/c@0", "--protocol", "quick")
    (planned,) = runs_of("table7/c@0", limit=None)
    # A slow node: SLURM looks every 30 s whether a warning is due, and this start takes less than that, or more.
    limited = PROFILE.replace("warning = 20", "warning = 45").replace("00:30:00", f"00:0{limit}:00")
    (user.folder / "profile.toml").write_text(limited + f'setup = ["sleep {start}"]\n')
    user.submits(*whole, "--only", "train", "--evaluate-every", "5")  # longer than a job, however fast the machine
    wait_until(
        lambda: user.causes(planned).count("time_limit") >= 2 or not user.cluster.queue(), lambda: user.log(planned)
    )
    if user.cluster.queue():  # the rest in one job: a machine with much else to do trains a few iterations in each
        job = user.workspace(planned).submission.read().job
        user.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    wait_until(lambda: not user.cluster.queue(), lambda: (user.cluster.queue(), user.log(planned)))
    attempts = user.workspace(planned).attempts()
    assert attempts[-1].cause == "trained", user.log(planned)
    assert len(attempts) >= 2, "one job was enough"
    assert [attempt.cause for attempt in attempts] == [*["time_limit"] * (len(attempts) - 1), "trained"]
    for before, after in itertools.pairwise(attempts):
        assert after.begins_after == before.ends_after >= before.begins_after
    (user.folder / "profile.toml").write_text(PROFILE)
    user.cluster.drained()
    user.submits(*whole)
    user.waits_for(planned)
    assert user.table() == undisturbed(*whole)


def test_a_run_that_somebody_requeues_continues_from_what_it_saved(user: User, undisturbed):
    (planned,) = runs_of("table7/c@0")
    user.submits("table7/c@0", *QUICK)
    user.saved(planned, 100)
    user.cluster.call("scontrol", "requeue", user.workspace(planned).submission.read().job)
    user.waits_for(planned)
    first, last = user.workspace(planned).attempts()
    assert (first.cause, last.cause) in (("stopped", "done"), ("killed", "done"))  # SIGTERM, or no word at all
    assert last.begins_after == first.ends_after >= 100
    assert user.table() == undisturbed("table7/c@0", *QUICK)


def test_cancelled_elements_running_or_pending_are_told_apart_and_alone_submitted_again(user: User, undisturbed):
    selectors = ("table7/a@0", "table7/b@0", "table7/c@0")
    first, second, third = runs_of(*selectors)
    user.submits(*selectors, *QUICK, "--max-parallel", "1")
    user.trains(first)
    job = user.workspace(first).submission.read().job.split("_")[0]
    user.cluster.call("scancel", f"{job}_2")  # accounting keeps no trace of it
    user.cluster.call("scancel", f"{job}_0")
    user.waits_for(second)
    wait_until(lambda: not user.cluster.queue())
    states = user.states()
    assert {key: line["state"] for key, line in states.items()} == {"a@0": "stopped", "b@0": "done", "c@0": "stopped"}
    assert states["a@0"]["cause"] == "cancelled"
    assert states["c@0"]["cause"] in ("cancelled", "lost")
    assert "2 of 2 runs submitted" in user.submits(*selectors, *QUICK)
    user.waits_for(first, third)
    assert user.causes(second) == ["done"]
    assert user.causes(third) == ["done"]
    assert user.causes(first)[-1] == "done"
    assert user.table() == undisturbed(*selectors, *QUICK)


def test_cancel_stops_the_runs_and_the_same_command_continues_them(user: User, undisturbed):
    selectors = ("table7/b@0", "table7/c@0")
    first, second = runs_of(*selectors)
    user.submits(*selectors, *QUICK, "--max-parallel", "1")
    user.trains(first, 20)
    assert "2 jobs cancelled" in user.does("table7", verb="cancel")
    wait_until(lambda: not user.cluster.queue())
    assert {line["cause"] for line in user.states().values()} == {"cancelled"}
    user.submits(*selectors, *QUICK)
    user.waits_for(first, second)
    assert user.table() == undisturbed(*selectors, *QUICK)


def test_a_lost_node_costs_the_time_since_the_last_checkpoint_and_nothing_else(user: User, undisturbed):
    (planned,) = runs_of("table7/c@0")
    user.submits("table7/c@0", *QUICK)
    user.saved(planned, 100)
    node = user.workspace(planned).attempts()[0].node
    user.cluster.kill_node(node)
    try:
        user.waits_for(planned)
    finally:
        user.cluster.start_node(node)
    wait_until(lambda: user.cluster.node(node) in ("idle", "mixed"))
    first, last = user.workspace(planned).attempts()
    assert (first.cause, last.cause) == ("killed", "done")
    assert last.begins_after >= 100
    assert last.job == first.job
    assert user.table() == undisturbed("table7/c@0", *QUICK)


def test_a_run_does_not_notice_that_slurmd_was_killed(user: User, undisturbed):
    (planned,) = runs_of("table7/c@0")
    user.submits("table7/c@0", *QUICK)
    user.trains(planned, 10)
    node = user.workspace(planned).attempts()[0].node
    user.cluster.kill_slurmd(node)
    user.cluster.start_node(node)
    user.waits_for(planned)
    assert user.causes(planned) == ["done"]
    user.cluster.drained()
    assert user.table() == undisturbed("table7/c@0", *QUICK)


def test_without_a_controller_nothing_is_submitted_and_the_exit_code_says_so(user: User, undisturbed):
    (planned,) = runs_of("table7/c@0")
    (user.folder / "profile.toml").write_text(PROFILE + "max_array_size = 11\n")  # sbatch is what fails
    user.cluster.stop_controller()
    try:
        said = user.submits("table7/c@0", *QUICK, code=4)
        assert "the scheduler does not answer" in said
        assert "0 of 1 runs submitted" in said
        assert "does not answer" in user.does(verb="status", code=4)
        assert "does not answer" in user.submits("table7/c@0", *QUICK, code=4)
    finally:
        user.cluster.start_controller()
    user.submits("table7/c@0", *QUICK)
    user.waits_for(planned)
    assert user.causes(planned) == ["done"]
    assert user.table() == undisturbed("table7/c@0", *QUICK)


def test_two_who_submit_the_same_study_at_once_submit_every_run_once(user: User, undisturbed):
    selectors = ("table7/b@0", "table7/c@0")
    runs = runs_of(*selectors)
    other = User(user.cluster, user.folder)
    both = [someone.submission(*selectors, *QUICK) for someone in (user, other)]
    told = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    numbers = [number for text in told for number in re.findall(r"(\d) of \d runs submitted", text)]
    assert sum(map(int, numbers)) == 2, told  # who sees that all are being submitted says no number
    user.waits_for(*runs)
    user.cluster.drained()
    assert [user.causes(planned) for planned in runs] == [["done"], ["done"]]
    assert user.table() == undisturbed(*selectors, *QUICK)


def test_an_sbatch_that_answers_an_error_after_it_accepted_gives_one_job(user: User, undisturbed, tmp_path: Path):
    (planned,) = runs_of("table7/c@0")
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "sbatch"
    wrapper.write_text(
        f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >> {tmp_path}/accepted\n'
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\nexit 1\n'
    )
    wrapper.chmod(0o755)
    user.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    said = user.submits("table7/c@0", *QUICK)
    assert "1 of 1 runs submitted" in said
    assert "job" in user.submits("table7/c@0", *QUICK)
    user.waits_for(planned)
    assert len((tmp_path / "accepted").read_text().splitlines()) == 1
    assert user.causes(planned) == ["done"]
    assert user.table() == undisturbed("table7/c@0", *QUICK)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of one's own, to edit the code of."""
    folder = tmp_path / "repository"
    for name in ("segnext", "studies", "slurm"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.long
def test_a_job_runs_the_code_that_was_submitted_whatever_was_edited_since(
    cluster: Cluster, user: User, undisturbed, copy: Path
):
    (planned,) = runs_of("table7/c@0")
    user.repository = copy
    (user.folder / "profile.toml").write_text(PROFILE + "[options]\nhold = true\n")
    user.submits("table7/c@0", *QUICK)
    model, good = copy / "segnext" / "mscan.py", (copy / "segnext" / "mscan.py").read_text()
    model.write_text("raise RuntimeError('in the middle of an edit')\n")
    cluster.call("scontrol", "release", user.workspace(planned).submission.read().job)
    user.waits_for(planned)
    model.write_text(good)
    assert user.causes(planned) == ["done"]
    assert user.states()["c@0"]["state"] == "done"
    assert user.table() == undisturbed("table7/c@0", *QUICK)


BROKEN = '''
def _broken(self, model, images, labels, loss=Segmentation.loss):
    """Three ways to fail, by row: table7's (a) raises, (b) takes more memory than it asked for, (c)'s loss is NaN."""
    if self.run.seed:
        return loss(self, model, images, labels)
    match self.run.model.decoder, tuple(self.run.model.decoder_stages):
        case "a", _:
            raise IndexError("a tensor of another shape")
        case "b", _:
            import time

            hog = bytearray(b"1") * (3 << 30)
            time.sleep(30)
            return hog
    return loss(self, model, images, labels) * float("nan")


Segmentation.loss = _broken
'''


@pytest.mark.long
def test_rows_that_raise_run_out_of_memory_or_diverge_fail_alone_and_are_never_tried_again_unasked(
    cluster: Cluster, user: User, undisturbed, copy: Path
):
    selectors = ("table7/a@0", "table7/b@0", "table7/c@0", "table7/c@1")
    runs = runs_of(*selectors)
    user.repository = copy
    source = copy / "segnext" / "training" / "segmentation.py"
    good = source.read_text()
    source.write_text(good + BROKEN)
    user.submits(*selectors, *QUICK)
    user.waits_for(runs[-1])
    cluster.drained()
    process = user.start(verb="status")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    states = user.states()
    causes = {key: line["cause"] for key, line in states.items() if line["state"] == "failed"}
    assert causes == {"a@0": "code", "b@0": "out_of_memory", "c@0": "diverged"}, said
    assert states["c@1"]["state"] == "done"
    assert "--retry out_of_memory" in said
    assert "a tensor of another shape" in said
    told = user.submits(*selectors, *QUICK, code=1)
    assert "3 failed runs are left as they are" in told
    assert not cluster.queue()
    source.write_text(good)
    told = user.submits(*selectors, *QUICK, "--retry", "out_of_memory,diverged")
    assert "3 of 3 runs submitted" in told  # the one with the error in the code, too: the code is another now
    user.waits_for(*runs)
    assert user.causes(runs[-1]) == ["done"]
    assert user.table() == undisturbed(*selectors, *QUICK)


def test_what_starts_from_a_failed_run_says_so_and_goes_on_once_that_is_mended(
    cluster: Cluster, user: User, copy: Path, tmp_path: Path
):
    smoke = ("--protocol", "smoke")
    runs = runs_of("table7/c", protocol_name="smoke", limit=None)
    before, after = runs
    user.repository = copy
    source = copy / "segnext" / "training" / "segmentation.py"
    good = source.read_text()
    source.write_text(good + BROKEN.replace("if self.run.seed:", "if self.run.init:"))
    said = user.submits("table7/c", *smoke)
    assert re.search(rf"1 train runs, after {before.id}", said), said
    wait_until(lambda: not cluster.queue())
    assert user.causes(before) == ["diverged"]
    assert user.causes(after) == ["upstream_failed"]
    source.write_text(good)
    assert "1 failed runs are left" in user.submits("table7/c", *smoke, code=1)
    assert not cluster.queue()
    user.submits("table7/c", *smoke, "--retry", "diverged")
    user.waits_for(before, after)
    alone = User(cluster, tmp_path / "alone")
    alone.does("table7/c", *smoke)
    assert user.table() == alone.table()


def mounted(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")


def fill(path: Path) -> None:
    """Until not a byte more fits on the disk."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["disk_full", "not_writable"])
def test_a_full_or_read_only_results_folder_costs_no_training(undisturbed, trouble: str, tmp_path: Path):
    (planned,) = runs_of("table7/c@0")
    results = tmp_path / "lab" / "results"
    results.mkdir(parents=True)
    mounted("-t", "tmpfs", "-o", "size=40m", "tmpfs", str(results))
    try:
        with started(nodes=1, accounting=0) as cluster:  # its nodes see what was mounted before they started
            user = User(cluster, tmp_path / "lab")
            user.submits("table7/c@0", *QUICK)
            user.trains(planned, 10)
            if trouble == "disk_full":
                fill(results / "filling")
            else:
                mounted("-o", "remount,ro", str(results))
            cluster.drained()
            assert user.causes(planned) == [trouble]
            assert not list((results / "records").glob(f"*{planned.id}*"))
            if trouble == "disk_full":
                (results / "filling").unlink()
            else:
                mounted("-o", "remount,rw", str(results))
            assert user.states()["c@0"]["state"] == "trained"
            user.submits("table7/c@0", *QUICK)
            user.waits_for(planned)
            _, last = user.workspace(planned).attempts()
            assert last.begins_after == 200
            cluster.drained()
            assert user.table() == undisturbed("table7/c@0", *QUICK)
    finally:
        subprocess.run(["umount", "--lazy", str(results)], check=True)


def test_without_accounting_runs_finish_and_lost_ones_are_found_and_submitted_again(
    cluster_without_accounting: Cluster, tmp_path: Path, undisturbed
):
    user = User(cluster_without_accounting, tmp_path / "lab")
    selectors = ("table7/b@0", "table7/c@0")
    first, second = runs_of(*selectors)
    user.submits(*selectors, *QUICK, "--max-parallel", "1")
    user.trains(first)
    job = user.workspace(second).submission.read().job
    user.cluster.call("scancel", job)
    user.waits_for(first)
    user.cluster.drained()
    states = user.states()
    assert (states["b@0"]["state"], states["c@0"]["state"], states["c@0"]["cause"]) == ("done", "stopped", "lost")
    assert "1 of 1 runs submitted" in user.submits(*selectors, *QUICK)
    user.waits_for(second)
    assert [user.causes(planned) for planned in (first, second)] == [["done"], ["done"]]
    assert user.table() == undisturbed(*selectors, *QUICK)


def test_two_nodes_with_two_tasks_each_train_what_one_process_does(user: User, tmp_path: Path):
    words = ("table7/c@0", "--protocol", "quick", "--limit-iterations", "10")
    (planned,) = runs_of("table7/c@0", limit=10)
    (user.folder / "profile.toml").write_text(PROFILE.replace("1500M", "3G") + "nodes = 2\nprocesses = 2\n")
    user.submits(*words)
    user.waits_for(planned)
    alone = User(user.cluster, tmp_path / "alone")
    alone.does(*words)
    shared, own = (
        json.loads((someone.folder / "results" / "records" / f"{planned.id}.json").read_text())
        for someone in (user, alone)
    )
    assert (shared["provenance"]["processes"], own["provenance"]["processes"]) == (4, 1)
    assert user.workspace(planned).attempts()[0].nodes == "n[1-2]"
    assert shared["training"]["final_loss"] == pytest.approx(own["training"]["final_loss"], rel=1e-4)
    assert shared["metrics"]["pixel_accuracy"] == pytest.approx(own["metrics"]["pixel_accuracy"], abs=0.1)


@pytest.mark.long
def test_more_runs_than_an_array_may_have_go_through_arrays_of_ten(user: User, tmp_path: Path):
    seeds = int(os.environ.get("SEGNEXT_SLURM_SEEDS", "8"))  # of four rows
    words = ("table7", "--protocol", "smoke", "--limit-iterations", "1", "--seeds", f"0-{seeds - 1}")
    chosen = protocol("smoke")
    runs = plan(select(["table7"], chosen, None, range(seeds)), chosen, 1, Store())
    count = 4 * seeds + 4
    assert len(runs) == count  # and the four that they start from
    started = time.monotonic()
    said = user.submits(*words, "--max-parallel", "4")
    assert f"{count} of {count} runs submitted" in said
    assert time.monotonic() - started < 60
    jobs = re.findall(r"^job (\d+) .*?: (\d+) train runs", said, re.MULTILINE)
    assert sum(int(number) for _, number in jobs) == count
    assert max(int(number) for _, number in jobs) == 11
    most = 0
    while not user.recorded(*runs):
        running = [state for state in user.cluster.queue().values() if state == "RUNNING"]
        most = max(most, len(running))
        assert time.monotonic() - started < 2400, user.cluster.queue()
        time.sleep(1)
    assert most <= 4
    user.cluster.drained()
    assert all(user.causes(planned) == ["done"] for planned in runs)
    table = user.table()
    assert sum(",smoke," in line for line in table.splitlines()) == 4 * seeds
    alone = User(user.cluster, tmp_path / "alone")
    alone.does("table7/c@7", *words[1:5])
    (line,) = [line for line in alone.table().splitlines() if ",smoke," in line]
    assert line in table
