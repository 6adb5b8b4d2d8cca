"""SLURM's answers are read right, whatever they are; arrays hold no more than they may; profiles name their errors."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segnext.config import Execution
from studies.declare.protocols import protocol
from studies.doctor import settings
from studies.launch.submit import arrays, execution, sbatch_options
from studies.plan.runs import PlannedRun, plan, select, upstream
from studies.records.causes import AGAIN, CAUSES, OtherWeights, UpstreamMissing, cause_of, oom_kills
from studies.records.store import Store
from studies.records.working_state import Process, Submission
from studies.slurm import scheduler
from studies.slurm.profile import PROFILES, Profile, changed, profile
from studies.slurm.scheduler import STATES, Job, Queue, Refused, Unreachable

# Every job state of SLURM's documentation (squeue, sacct: JOB STATE CODES).
DOCUMENTED = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "CONFIGURING",
    "COMPLETING",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "RUNNING",
    "RESV_DEL_HOLD",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "REQUEUED",
    "RESIZING",
    "REVOKED",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
    "TIMEOUT",
    "EXPEDITING",
    "LAUNCH_FAILED",
    "POWER_UP_NODE",
    "RECONFIG_FAIL",
    "UPDATE_DB",
]


@pytest.mark.parametrize("state", DOCUMENTED)
def test_every_documented_state_is_in_the_table_and_its_cause_is_one(state: str):
    place, cause = STATES[state]
    assert place in ("waiting", "running", "over")
    assert bool(cause) == (place == "over" and state != "COMPLETED")
    assert not cause or cause in CAUSES


@given(st.text())
def test_a_state_that_nobody_knows_is_unknown_and_never_over(state: str):
    job = Job.of("1", state)
    assert job.place == ("unknown" if job.state not in STATES else STATES[job.state][0])


@pytest.mark.parametrize("printed", ["CANCELLED by 0", "CANCELLED+", "CANCELLED"])
def test_states_are_read_as_they_are_printed(printed: str):
    assert Job.of("1_2", printed).cause == "cancelled"


def submission(index: int, token: str = "segnext-1") -> Submission:
    return Submission(token, index, 1.7e9, "ann", Process("login", 100, "0"), "0123456789ab", f"25_{index}")


def test_two_thousand_runs_take_two_questions(answers):
    answers("squeue", "".join(f"segnext-{n // 1000}|{n // 1000}_{n % 1000}|RUNNING|n1|None\n" for n in range(1999)))
    answers("sacct", "")
    queue = Queue.ask(submission(n % 1000, f"segnext-{n // 1000}") for n in range(2000))
    assert answers.asked() == ["squeue", "sacct"]
    assert len(queue.jobs) == 1999
    assert queue.of(submission(999, "segnext-1")) is None


def test_an_element_counts_more_than_the_range_that_was_cancelled_around_it(answers):
    answers("squeue", "")
    answers("sacct", "segnext-1|25_2|COMPLETED|n1\nsegnext-1|25_[2-4%1]|CANCELLED by 0|None assigned\n")
    queue = Queue.ask([submission(n) for n in range(5)])
    assert {n: job.state for n in range(5) if (job := queue.of(submission(n)))} == {
        2: "COMPLETED",
        3: "CANCELLED",
        4: "CANCELLED",
    }


def test_pending_elements_are_found_in_the_range_that_squeue_prints(answers):
    answers("squeue", "segnext-1|25_[0,3-4%2]|PENDING||Priority\n")
    answers("sacct", "")
    queue = Queue.ask([submission(n) for n in range(5)])
    assert [n for n in range(5) if queue.of(submission(n))] == [0, 3, 4]


def test_a_range_that_slurm_cut_short_says_what_it_says(answers):
    answers("squeue", "")
    answers("sacct", "segnext-1|25_[1,3-4,1...%8]|CANCELLED by 0|None assigned\n")
    queue = Queue.ask([submission(n) for n in range(5)])
    assert [n for n in range(5) if queue.of(submission(n))] == [1, 3, 4]


def test_other_peoples_jobs_are_asked_for_and_no_setting_of_ones_own_hides_any(
    answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    answers("squeue", "")
    answers("sacct", "")
    Queue.ask([submission(0)])
    assert " --allusers " in (tmp_path / "words").read_text(), "by itself sacct tells of one's own jobs alone"
    assert "SQUEUE_STATES" not in (tmp_path / "squeue.env").read_text()


def test_a_scheduler_that_does_not_answer_is_silent_and_decides_nothing(answers):
    answers("squeue", "", code=1, error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    queue = Queue.ask([submission(0)])
    assert "Unable to contact" in queue.silence
    assert not queue.jobs


@pytest.mark.parametrize(
    "error",
    ["Slurm accounting storage is disabled\n", "You are not running a supported accounting_storage plugin\n"],
)
def test_without_accounting_the_queue_alone_decides(error, answers):
    answers("squeue", "")
    answers("sacct", "", code=1, error=error)
    queue = Queue.ask([submission(0)])
    assert not queue.silence
    assert not queue.mute
    assert not queue.jobs


@pytest.mark.parametrize(
    "error",
    [
        "sacct: error: Problem talking to the database: Connection refused\n",
        "sacct: error: slurm_persist_conn_open: No response to persist_init\n"
        "sacct: error: Problem talking to the database: Resource temporarily unavailable\n",
        "sacct: error: something that no version has said yet\n",
    ],
)
def test_accounting_that_refuses_in_whatever_words_is_not_taken_for_none(error, answers):
    answers("squeue", "")
    answers("sacct", "", code=1, error=error)
    queue = Queue.ask([submission(0)])
    assert queue.mute_of(submission(0)) == "; ".join(line.removeprefix("sacct: error: ") for line in error.splitlines())


def test_a_cluster_without_arrays_is_told_as_one(answers):
    answers("scontrol", "MaxArraySize            = 0\n")
    with pytest.raises(Refused, match="MaxArraySize=0"):
        scheduler.max_array_size()
    answers("scontrol", "MaxArraySize            = 11\n")
    assert scheduler.max_array_size() == 11


def test_the_doctor_names_settings_of_a_cluster_that_hide_jobs_or_kill_them_unwarned():
    told = {finding.what: finding.words for finding in settings("PreemptMode = REQUEUE\nPrivateData = accounts,jobs\n")}
    assert "preempt_send_user_signal" in told["preemption"]
    assert "PrivateData=jobs" in told["others' jobs"]
    harmless = "PreemptMode = REQUEUE\nPrivateData = none\nSlurmctldParameters = preempt_send_user_signal\n"
    assert not list(settings(harmless))


def test_a_missing_command_is_a_scheduler_that_is_not_here(answers):
    with pytest.raises(Unreachable, match="is this a login node"):
        scheduler.call("sbatch-that-is-nowhere")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Unreachable),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", Unreachable),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", Refused),
    ],
)
def test_refusals_and_silence_are_told_apart(answers, said: str, kind: type[Exception]):
    answers("sbatch", "", code=1, error=said)
    with pytest.raises(kind, match=re.escape(said.removeprefix("sbatch: error: "))):
        scheduler.call("sbatch")


def test_a_busy_controller_is_asked_again_and_sbatch_only_where_it_accepted_nothing(answers):
    answers("squeue", "", code=1, error="slurm_load_jobs error: Socket timed out on send/recv operation\n")
    answers("sbatch", "", code=1, error="sbatch: error: Batch job submission failed: Socket timed out\n")
    for command in ("squeue", "sbatch"):
        with pytest.raises(Unreachable, match="timed out"):
            scheduler.call(command)
    assert answers.asked() == [*["squeue"] * 3, "sbatch"]
    answers(
        "sbatch", "", code=1, error="sbatch: error: Batch job submission failed: Resource temporarily unavailable\n"
    )
    with pytest.raises(Refused, match="Resource temporarily unavailable"):
        scheduler.call("sbatch")
    assert answers.asked()[4:] == ["sbatch"] * 3


@pytest.mark.parametrize(
    ("written", "seconds"), [("1-02:03:04", 93784), ("02:03:04", 7384), ("03:04", 184), ("10-00:00:00", 864000)]
)
def test_durations_are_read_as_slurm_writes_them(written: str, seconds: float):
    assert scheduler.seconds(written) == seconds


@pytest.mark.parametrize("written", ["UNLIMITED", "NOT_SET", "", "3"])
def test_what_is_no_duration_is_refused(written: str):
    with pytest.raises(ValueError, match=r"no duration|invalid literal"):
        scheduler.seconds(written)


def chained(seeds: int) -> list[PlannedRun]:
    """Runs of Table 7 with what they start from, which seeds share."""
    chosen = protocol("smoke")
    return plan(select(["table7"], chosen, None, range(seeds)), chosen, None, Store())


@given(seeds=st.integers(1, 12), size=st.integers(1, 30), parallel=st.integers(0, 9))
def test_arrays_hold_every_run_once_in_order_and_never_more_than_they_may(seeds: int, size: int, parallel: int):
    runs = chained(seeds)
    found = arrays(runs, Profile(), size, parallel)
    assert sorted(planned.id for array in found for planned in array.runs) == sorted(planned.id for planned in runs)
    assert all(1 <= len(array.runs) <= size for array in found)
    assert len({array.token for array in found}) == len(found)
    place = {planned.id: number for number, array in enumerate(found) for planned in array.runs}
    for number, array in enumerate(found):
        for planned in array.runs:
            if (before := upstream(planned)) is not None:
                assert place[before.id] < number, "a run is submitted before what it starts from"
                assert parallel or before.id in array.waits
        if parallel:
            assert array.throttle == parallel
            assert array.before is (found[number - 1] if number else None), "two arrays side by side exceed the limit"


@given(seeds=st.integers(1, 12), size=st.integers(1, 5), parallel=st.integers(0, 9), together=st.integers(1, 6))
def test_runs_that_share_a_card_are_an_element_and_never_more_than_may_run(
    seeds: int, size: int, parallel: int, together: int
):
    runs = chained(seeds)
    found = arrays(runs, changed(Profile(), {"runs_per_gpu": together}), size, parallel)
    elements = [element for array in found for element in array.elements]
    assert sorted(planned.id for element in elements for planned in element) == sorted(planned.id for planned in runs)
    assert all(1 <= len(element) <= together for element in elements)
    assert all(len(array.elements) <= size for array in found)
    if parallel:
        assert all(1 <= array.throttle * array.per_element <= parallel for array in found)


def test_seeds_that_share_an_upstream_are_one_array_that_waits_for_it():
    found = arrays(chained(3), Profile(), 1001, 0)
    assert [len(array.runs) for array in found] == [4, 3, 3, 3, 3]
    assert [len(array.waits) for array in found] == [0, 1, 1, 1, 1]


def test_every_profile_in_the_repository_can_be_read():
    for path in PROFILES.glob("*.toml"):
        assert profile(path.stem).name == path.stem
        assert profile(str(path)) == profile(path.stem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu = 4", "unknown setting 'gpu' (did you mean gpus?)"),
        ('gpus = "four"', "gpus: 'four' is not a whole number"),
        ("gpus = -1", "gpus: -1 is not a whole number"),
        ("nodes = 0", "nodes: at least 1 is needed"),
        ("compile = 1", "compile: 1 is not text"),
        ('precision = "fp16"', "precision: 'fp16' is not one of"),
        ("runs_per_gpu = 2\ngpus = 2", "runs_per_gpu: 2 runs share one GPU, but each is to have 2 processes"),
        ("python = 3", "python: 3 is not text, or a list of words"),
        ('python = ["apptainer", 3]', "python: 3 is not text"),
        ('notify = "mail"', "notify: 'mail' is not a list"),
        ('stage = ["imagenet"]', "stage: 'imagenet' is none of ade20k"),
        ('[retry]\nmemory = "2"', "retry: memory = '2': what there is is memory"),
        ('[retry]\ntime = "2x"', "retry: time = '2x'"),
        ("[pretrain]\nnode = 2", "unknown setting 'node' (did you mean nodes?)"),
        ("gpus = ", "Invalid value"),
    ],
)
def test_a_slip_in_a_profile_names_the_file_and_the_setting(tmp_path: Path, text: str, said: str):
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"lab\.toml: .*{re.escape(said)}"):
        profile(str(path))


def test_a_profile_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match=r"slurm/profiles/ has .*lab"):
        profile("laab")


def test_stages_have_resources_of_their_own_and_the_batch_is_shared_by_all_processes():
    own = profile("lab")
    assert own.at("pretrain").nodes == 2
    assert own.at("train").nodes == 1
    assert own.at("evaluate").gpus == 1
    assert execution(own.at("pretrain"), 0).processes == 8
    assert execution(own, 8000) == Execution(
        device="cuda", processes=4, threads=8, workers=6, precision="bfloat16", evaluation_interval=8000
    )
    assert "--gpus-per-node=1" in sbatch_options(own.at("evaluate"))
    assert "--exclude=gpu13" in sbatch_options(own)


def test_what_shares_a_card_is_said_anew_by_a_stage_with_gpus_of_its_own():
    own = changed(profile("lab"), {"gpus": 1, "runs_per_gpu": 4})
    assert [own.at(stage).runs_per_job for stage in ("pretrain", "train", "evaluate")] == [1, 4, 1]
    assert "--cpus-per-task=32" in sbatch_options(own)


def test_what_was_typed_replaces_what_the_profile_says():
    assert changed(profile("lab"), {"partition": "long", "nodes": 3}).partition == "long"


def test_causes_are_told_by_the_error_and_those_that_would_recur_are_never_tried_again_unasked():
    import errno

    import torch

    from segnext.data import DataError
    from segnext.data.source import OtherData
    from segnext.training.train import Diverged

    assert cause_of(OSError(errno.ENOSPC, "full")) == "disk_full"
    assert cause_of(OSError(errno.EROFS, "read-only")) == "not_writable"
    assert cause_of(MemoryError()) == "out_of_memory"
    for words in ("uncorrectable ECC error encountered", "unspecified launch failure", "device-side assert triggered"):
        assert cause_of(RuntimeError(f"CUDA error: {words}\nCUDA kernel errors might be ...")) == "device"
    assert cause_of(torch.AcceleratorError("CUDA error: the launch timed out and was terminated")) == "device"
    assert cause_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")) == "out_of_memory"
    assert cause_of(RuntimeError("CUDA error: out of memory")) == "out_of_memory"
    assert cause_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == "code"
    assert cause_of(Diverged("nan")) == "diverged"
    assert cause_of(DataError("damaged")) == "data"
    assert cause_of(OtherData("changed")) == "other_data"
    assert cause_of(OtherWeights("damaged")) == "other_weights"
    for ended in ("(pid 7) is killed by signal: Killed. ", "(pid(s) 7, 8) exited unexpectedly"):
        assert cause_of(RuntimeError(f"DataLoader worker {ended}")) == "killed"
        assert cause_of(RuntimeError(f"DataLoader worker {ended}"), out_of_memory=True) == "out_of_memory"
    assert cause_of(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ")) == "out_of_memory"
    assert cause_of(RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ")) == "code"
    assert cause_of(RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details")) == "code"
    assert cause_of(UpstreamMissing("no")) == "upstream_failed"
    assert cause_of(KeyError("x")) == "code"
    assert not {"out_of_memory", "diverged", "data", "other_weights", "code", "no_progress"} & set(AGAIN)
    assert {"preempted", "node_failure", "device", "time_limit", "cancelled", "killed", "stopped"} <= set(AGAIN)


@pytest.mark.parametrize(
    ("controllers", "name", "counts"),
    [
        ("", "memory.events", "low 0\noom 3\noom_kill 2\n"),
        ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_what_the_kernel_ended_for_memory_is_counted_where_the_control_group_says_so(
    controllers: str, name: str, counts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = next(
        (
            line.split(":", 2)[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.split(":", 2)[1] == controllers
        ),
        None,
    )
    if own is None:
        pytest.skip(f"this process has no control group of {controllers or 'version 2'}")
    monkeypatch.setattr("studies.records.causes._EVENTS", {controllers: (tmp_path, name)})
    assert oom_kills() == 0
    folder = tmp_path / own.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(counts)
    assert oom_kills() == 2


def test_who_hung_once_is_not_asked_again_and_again(answers, monkeypatch: pytest.MonkeyPatch):
    answers("squeue", "", code=1, error="slurm_load_jobs error: Socket timed out on send/recv operation")
    monkeypatch.setattr(scheduler, "PATIENCE", -1.0)
    with pytest.raises(Unreachable):
        scheduler.call("squeue")
    assert answers.asked() == ["squeue"]
    monkeypatch.setattr(scheduler, "PATIENCE", 30.0)
    with pytest.raises(Unreachable):
        scheduler.call("squeue")
    assert answers.asked() == ["squeue"] * 4


def test_the_time_that_is_left_is_known_where_the_controller_is_too_busy_to_say(
    answers, monkeypatch: pytest.MonkeyPatch
):
    from studies import worker

    answers("squeue", "", code=1, error="slurm_load_jobs error: Socket timed out on send/recv operation")
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.setenv("SEGNEXT_BEGAN", str(time.time() - 50.0))
    monkeypatch.setenv("SEGNEXT_TIME", "00:01:00")
    assert worker._time_left() == pytest.approx(10, abs=2)
    monkeypatch.setenv("SEGNEXT_TIME", "")
    assert worker._time_left() is None
