"""Where a run stands, told from what is on disk and what SLURM answers; and what `studies.cancel` does about it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import msgspec
import pytest
from records import run_record, table7_record

from segnext.config import Execution
from studies import cancel, gc, logs, run, show, status
from studies.declare.protocols import protocol
from studies.launch import carry_out
from studies.launch.submit import Array, _reserve, arrays, submit
from studies.plan import wanted
from studies.plan.estimate import estimate, keep
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, plan, select, settled
from studies.plan.state import RunState, standing
from studies.records import snapshot
from studies.records.schema import Metrics, Training
from studies.records.store import Store, runs_folder
from studies.records.typed import to_json
from studies.records.working_state import Process, Submission
from studies.records.workspace import Workspace
from studies.slurm.profile import Profile, changed
from studies.slurm.scheduler import Job, Queue
from studies.tables import study

NOW = time.time()
SMOKE = ("--protocol", "smoke", "--limit-iterations", "2")


@pytest.fixture
def planned_run() -> PlannedRun:
    """A run of which a specification is on disk."""
    return planned()


def planned() -> PlannedRun:
    smoke = protocol("smoke")
    *_, planned_run = plan(select(["table7/c@0"], smoke, None, None), smoke, 2, Store())
    Workspace(planned_run.id).write_spec(specification(planned_run, 2, None, None, Execution(), "a test"))
    return planned_run


def submitted(run_id: str, at: float = NOW, job: str | None = "25_0", **more: object) -> None:
    folder = Workspace(run_id).folder
    folder.mkdir(parents=True, exist_ok=True)
    content = Submission("segnext-1", 0, at, "ann", Process("login", 100, "0"), "0123456789ab", job)
    (folder / "submission.json").write_text(to_json(msgspec.structs.replace(content, **more)))


def tried(planned_run: PlannedRun, cause: str, job: str, started: float) -> None:
    with Workspace(planned_run.id).attempt() as attempt:
        attempt.cause, attempt.job, attempt.started = cause, job, started


@pytest.mark.parametrize("queue", [Queue({("segnext-1", 0): Job.of("25_0", "FAILED")}), Queue()])
def test_an_attempt_is_its_jobs_own_whatever_the_nodes_clock_says(planned_run: PlannedRun, queue: Queue):
    submitted(planned_run.id)
    tried(planned_run, "diverged", "25_0", started=NOW - 30)
    assert standing(planned_run.wanted, Store(), queue).cause == "diverged"


@pytest.mark.parametrize("before", [{}, {"cancelled": "bob"}])
def test_a_later_attempt_on_a_workstation_counts_more_than_a_job_that_is_over(planned_run: PlannedRun, before: dict):
    submitted(planned_run.id, at=NOW - 1000, **before)
    tried(planned_run, "diverged", "", started=NOW)
    stands = standing(planned_run.wanted, Store(), Queue({("segnext-1", 0): Job.of("25_0", "TIMEOUT")}))
    assert (stands.state, stands.cause, stands.job) == ("failed", "diverged", "")


def test_a_job_that_left_no_attempt_ended_as_slurm_says(planned_run: PlannedRun):
    tried(planned_run, "diverged", "24_0", started=NOW - 1000)
    submitted(planned_run.id)
    stands = standing(planned_run.wanted, Store(), Queue({("segnext-1", 0): Job.of("25_0", "TIMEOUT")}))
    assert (stands.state, stands.cause, stands.job) == ("stopped", "time_limit", "25_0")


@pytest.mark.parametrize("known", [{("segnext-1", 0): Job.of("25_0", "FAILED")}, {}])
def test_a_job_whose_attempt_is_gone_ended_as_its_folder_proves(planned_run: PlannedRun, known: dict):
    """A scratch disk was purged of small files, or accounting of old jobs: what was trained shows that it began."""
    submitted(planned_run.id)
    nothing = standing(planned_run.wanted, Store(), Queue(dict(known)))
    assert nothing.cause == ("not_started" if known else "lost")
    states = Workspace(planned_run.id).states
    states.mkdir()
    (states / "00000001.pt").touch()
    at = (Workspace(planned_run.id).folder / "submission.json").stat().st_mtime
    os.utime(states / "00000001.pt", (at - 1, at - 1))
    assert standing(planned_run.wanted, Store(), Queue(dict(known))).cause == nothing.cause, "of an earlier job"
    os.utime(states / "00000001.pt", (at + 1, at + 1))
    stands = standing(planned_run.wanted, Store(), Queue(dict(known)))
    assert (stands.state, stands.cause) == ("stopped", "killed")
    assert stands.detail == "killed from outside, continues after 1 of 2 iterations"
    (line,) = status.remedies([dataclasses.replace(planned_run, stands=stands)])
    assert line == "table7/c@0: python -m studies.run table7/c@0"


def test_folders_that_other_processes_read_are_told_as_if_one_had_read_them(runs: Path):
    """From two thousand on other processes read them: what is whole, what is damaged, and how each run stands."""
    smoke = protocol("smoke")
    for seed, planned_run in enumerate(plan(select(["table7"], smoke, None, range(2)), smoke, 2, Store())):
        Workspace(planned_run.id).write_spec(specification(planned_run, 2, None, None, Execution(), "a test"))
        if seed % 2:
            submitted(planned_run.id, cancelled="ann")
        tried(planned_run, ("diverged", "killed", "code")[seed % 3], "25_0", started=NOW - 30)
    first, second, *_ = sorted(runs.iterdir())
    (first / "spec.json").write_text("{")
    (second / "attempts" / "001.json").write_text("{")
    told = []
    for many in (2_000, 1):
        words = f"""
import sys
from studies import status
from studies.records import glance
glance.MANY = {many}
code = status.main(["--json"])
assert ("multiprocessing" in sys.modules) is ({many} == 1)
sys.exit(code)"""
        done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        told.append((json.loads(done.stdout), done.stderr))
    assert told[0] == told[1]
    assert len(told[0][0]) == len(list(runs.iterdir())) - 1
    assert str(first) in told[0][1]
    assert str(second) in told[0][1]


def test_a_silent_cluster_hides_only_its_own_runs(
    planned_run: PlannedRun, answers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Two clusters, of which one is down: what is known of the other's runs is shown, and cancelled."""
    smoke = protocol("smoke")
    *_, other = plan(select(["table7/c@1"], smoke, None, None), smoke, 2, Store())
    Workspace(other.id).write_spec(specification(other, 2, None, None, Execution(), "a test"))
    submitted(planned_run.id, token="segnext-1@wice")
    submitted(other.id, token="segnext-2@genius", job="26_0")
    answers("scancel", "")
    answers("sacct", "")
    answers("squeue", "segnext-2@genius|26_0|PENDING||Priority\n")
    program = tmp_path / "squeue"
    down = '[ "$SLURM_CLUSTERS" != wice ] || { echo "Unable to contact slurm controller" >&2; exit 1; }\n'
    program.write_text(program.read_text().replace("\n", f"\n{down}", 1))
    assert status.main(["--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert {line["seed"]: line["state"] for line in told} == {0: "unknown", 1: "queued"}
    with pytest.raises(SystemExit) as ended:
        cancel.main(["all"])
    assert ended.value.code == 4
    told = capsys.readouterr()
    assert told.out.startswith("1 jobs cancelled")
    assert "cluster wice: Unable to contact slurm controller: none of its runs was cancelled" in told.err


def test_a_reservation_that_a_crash_left_empty_is_no_obstacle(planned_run: PlannedRun):
    (Workspace(planned_run.id).folder / "submission.json").write_text("")
    assert _reserve(planned(), Array("train", [planned_run]), 0, Path("snapshot"))


def test_nothing_waits_for_a_run_that_is_recorded():
    voc = protocol("paper")
    *before, planned_run = plan(select(["table7/c@0"], voc, None, None), voc, None, Store())
    submitted(before[-1].id, job=None)  # whoever submitted it never came to note the job; it was done elsewhere since
    assert arrays([planned_run], Profile(), 10, 0)[0].waits == (before[-1].id,)
    Store().path(before[-1].id).parent.mkdir(parents=True)
    Store().path(before[-1].id).touch()
    assert arrays([planned_run], Profile(), 10, 0)[0].waits == ()


def test_a_job_that_slurm_does_not_let_one_cancel_is_not_called_cancelled(planned_run: PlannedRun, answers):
    submitted(planned_run.id)
    answers("squeue", "segnext-1|25_0|PENDING||Priority\n")
    answers("scancel", "", code=1, error="scancel: error: Kill job error on job id 25_0: Access/permission denied\n")
    with pytest.raises(SystemExit) as refused:
        cancel.main(["all"])
    assert refused.value.code == 1
    ((still,), _) = settled([planned()])
    assert still.state == "queued"
    answers("scancel", "")
    assert cancel.main(["all"]) == 0
    assert planned().stands.cause == "cancelled"


def test_a_run_inside_somebodys_own_job_is_asked_to_leave_and_the_job_goes_on(
    planned_run: PlannedRun,
    answers,
    monkeypatch: pytest.MonkeyPatch,
):
    submitted(planned_run.id, at=NOW - 1000)
    monkeypatch.setenv("SLURM_JOB_ID", "900")
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with Workspace(planned_run.id).claim():
            assert cancel.main(["all"]) == 0  # there is no scancel here to be called
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_process_that_may_not_be_stopped_is_named(
    planned_run: PlannedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def kill(handle: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", kill)
    with Workspace(planned_run.id).claim():
        assert cancel.main(["all"]) == 1
    assert f"process {os.getpid()}: Operation not permitted" in capsys.readouterr().err


def test_a_damaged_record_is_named_and_hides_no_run(planned_run: PlannedRun, capsys: pytest.CaptureFixture[str]):
    Store().path("0123").parent.mkdir(parents=True)
    Store().path("0123").write_text("{torn")
    for command in (status, cancel, gc):
        assert command.main(["all"]) == 1
        assert "0123.json: JSON is malformed" in capsys.readouterr().err
    assert status.main(["--json"]) == 1
    assert [line["run"] for line in json.loads(capsys.readouterr().out)] == [planned_run.id]


@pytest.mark.usefixtures("measured")
@pytest.mark.long
def test_what_cannot_be_read_is_named_without_a_traceback(planned_run: PlannedRun, capsys: pytest.CaptureFixture[str]):
    (Workspace(planned_run.id).folder / "submission.json").mkdir()
    for main, words in ((status.main, []), (run.main, ["table7/c@0", *SMOKE]), (show.main, ["table7/c", *SMOKE])):
        assert main(words) == 1
        assert "submission.json: it is no regular file; delete it" in capsys.readouterr().err


def test_a_line_of_the_curve_that_is_being_written_is_passed_over(
    planned_run: PlannedRun, capsys: pytest.CaptureFixture[str]
):
    Workspace(planned_run.id).curve.write_text('{"iteration": 100, "miou_ss": 3.5}\n{"iteration": 200, "miou_ss": 4')
    assert status.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["miou"] == 3.5


def test_gc_leaves_the_code_that_a_living_worker_or_a_coming_one_runs_from():
    code = snapshot.take()
    os.utime(code, (1, 1))
    owner = "import sys; from studies.records.workspace import Workspace\n"
    owner += "with Workspace('abc').claim(): print(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-uc", owner], cwd=code, stdin=PIPE, stdout=PIPE) as worker:
        worker.stdout.readline()
        assert gc.main(["--delete"]) == 0
        assert code.exists(), "a local run has no submission that names it"
        worker.communicate(b"\n")
    snapshot.take()
    assert gc.main(["--delete"]) == 0
    assert code.exists(), "who takes it anew is about to start from it"
    os.utime(code, (1, 1))
    assert gc.main(["--delete"]) == 0
    assert not code.exists()


def test_gc_knows_what_rows_of_other_tables_start_from():
    paper = protocol("paper")
    context = paper.run(study("table12").panel(), study("table12").row("l-ade20k"), 0)
    shared = paper.run(study("table9").panel("ade20k"), study("table9").row("l"), 0)
    assert context.init == shared
    assert shared.id in gc._beginnings({"paper"})
    assert context.id not in gc._beginnings({"paper"})


@pytest.mark.parametrize(
    "words",
    [
        ("--only", "evaluate", "--ham-seeds", "0,1"),
        ("--compile", "--tensorboard", "--evaluate-every", "0"),
        ("--cluster", "slurm", "--profile", "lab", "--time", "2-00:00:00"),
    ],
)
def test_the_command_that_mends_a_run_starts_it_as_it_was_started(words: tuple[str, ...]):
    first = run.parser().parse_args(["table7/c@0", *words])
    again = run.parser().parse_args(["table7/c@0", *carry_out.typed_again(run.parser(), first)])
    assert vars(again) == vars(first)


def test_what_was_typed_counts_more_than_a_stages_own_setting():
    typed = run.parser().parse_args(["table6", "--cluster", "slurm", "--profile", "lab", "--time", "5-00:00:00"])
    resources = wanted.resources_of(typed)
    assert resources.at("pretrain").time == resources.at("train").time == "5-00:00:00"
    assert resources.at("pretrain").nodes == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone lets a process choose its cores")
def test_as_many_local_runs_at_a_time_as_there_are_cores_for_them(monkeypatch: pytest.MonkeyPatch):
    found: list[int] = []
    monkeypatch.setattr("studies.launch.local.run_local", lambda runs, parallel, *_: found.append(parallel) or {})
    monkeypatch.setattr("studies.run.measure_costs", lambda *_: None)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # as an allocation of one core on a node of many
    try:
        assert run.main(["table7", *SMOKE]) == 0
    finally:
        os.sched_setaffinity(0, cores)
    assert found == [1]


def test_a_folder_that_is_not_to_be_written_ends_a_command_with_its_name(
    planned_run: PlannedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("studies.run.measure_costs", lambda *_: None)
    Workspace(planned_run.id).log.mkdir()  # root may write everywhere, but not here
    with pytest.raises(SystemExit) as refused:
        run.main(["table7/c@0", *SMOKE])
    assert refused.value.code == 1
    assert "log.txt" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_here_starts_nothing(device: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        run.main(["table7/c@0", *SMOKE, "--device", device])
    assert refused.value.code == 3
    assert f"nothing was started: --device {device}" in capsys.readouterr().err
    assert not list(runs_folder().glob("*/spec.json"))


def test_the_data_root_of_the_environment_is_in_the_command_that_mends_a_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEGNEXT_DATA", "/data")
    typed = carry_out.typed_again(run.parser(), run.parser().parse_args(["table7/c@0"]))
    assert typed[typed.index("--data-root") + 1] == "/data"


def test_what_is_submitted_is_what_the_profile_says_whatever_the_environment_prefers(
    planned_run: PlannedRun,
    answers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """For sbatch a variable counts more than a line of the script; and by the name a job is found again."""
    for name in ("ACCOUNT", "JOB_NAME", "TIMELIMIT", "RESERVATION", "QOS"):
        monkeypatch.setenv(f"SBATCH_{name}", "other")
    answers("srun", "")
    answers("sbatch", "Submitted batch job 77\n")
    resources = changed(Profile(), {"account": "vision"})
    array = Array("train", [planned_run])
    spec = Workspace(planned_run.id).told()
    assert submit(array, resources, snapshot.take(), lambda *_: spec, Execution()) == []
    assert array.job == "77"
    seen = set((tmp_path / "sbatch.env").read_text().splitlines())
    assert {line for line in seen if line.startswith("SBATCH_")} == {"SBATCH_RESERVATION=other", "SBATCH_QOS=other"}
    assert os.environ["SBATCH_ACCOUNT"] == "other"


@pytest.mark.parametrize("newest", [0, 1])
def test_hours_are_told_from_the_newest_of_what_was_measured(planned_run: PlannedRun, newest: int):
    for seed in (0, 1):
        training = Training(images_per_second=1.0 if seed == newest else 10.0)
        finished = f"2026-01-0{1 + (seed == newest)}T00:00:00Z"
        run = dataclasses.replace(planned_run.run, seed=seed)
        Store().add(run_record(run, Metrics(miou_ss=1.0), training=training, finished=finished))
    assert estimate([planned_run], Profile(), Store()).hours == planned_run.total * planned_run.run.train.batch / 3600


def test_a_run_that_had_a_quarter_of_a_card_tells_of_a_whole_one(planned_run: PlannedRun):
    """Its images a second are those of one of four; the record says so."""
    record = table7_record("c", 0, 1.0, 2, "smoke")
    origin = {"device": "cpu", "runs_per_gpu": 4}
    Store().add({**record, "training": {"images_per_second": 2.0}, "provenance": origin})
    assert (
        estimate([planned_run], Profile(), Store()).hours == planned_run.total * planned_run.run.train.batch / 8 / 3600
    )


def test_hours_are_told_from_what_was_measured_here_before_what_came_with_the_repository(
    planned_run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A step time in results/probes counts until this cluster has one; then the one that is compiled alike."""
    results = tmp_path / "results"
    monkeypatch.setenv("SEGNEXT_RESULTS", str(results))
    hours = planned_run.total * planned_run.run.train.batch / 3600

    def kept(rate: float, compiled: str) -> Path:
        facts = {"images_per_second": rate, "device": "cpu", "precision": "float32", "compiled": compiled}
        return keep(planned_run.run, facts)

    (results / "probes").mkdir(parents=True)
    shutil.move(kept(2.0, ""), results / "probes")
    assert estimate([planned_run], Profile(), Store()).hours == hours / 2
    kept(4.0, "graphs")
    told = estimate([planned_run], Profile(), Store())
    assert told.hours == hours / 4
    assert "(1 runs with another --compile than theirs)" in told.time
    kept(8.0, "")
    assert estimate([planned_run], Profile(), Store()).hours == hours / 8
    kept(16.0, "graphs")
    assert estimate([planned_run], Profile(), Store()).hours == hours / 8
    assert estimate([planned_run], changed(Profile(), {"compile": "graphs"}), Store()).hours == hours / 16


def test_a_damaged_step_time_is_named(planned_run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = keep(planned_run.run, {"images_per_second": 1.0, "device": "cpu", "precision": "float32", "compiled": ""})
    path.write_text(path.read_text()[:20])
    estimate([planned_run], Profile(), store := Store())
    assert [damaged.path for damaged in store.damage] == [path]


def test_many_runs_that_one_command_mends_have_one_line():
    quick = protocol("quick")
    runs = plan(select(["table7"], quick, None, range(6)), quick, None, Store())
    stopped = [dataclasses.replace(planned_run, stands=RunState("stopped", "", "cancelled")) for planned_run in runs]
    (line,) = status.remedies(stopped)
    assert (
        line == "24 runs of table7, cancelled: python -m studies.run table7 --rows a,b,c,c-stage1 --seeds 0,1,2,3,4,5"
    )
    assert len(list(status.remedies(stopped[:3]))) == 3


def test_a_job_that_printed_nothing_is_told_from_silence(planned_run: PlannedRun, capsys: pytest.CaptureFixture[str]):
    submitted(planned_run.id)
    assert logs.main(["table7/c@0"]) == 0
    assert "job 25_0 has printed nothing" in capsys.readouterr().out
