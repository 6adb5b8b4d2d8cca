"""What sbatch answers is told apart, nothing of the shell decides over a job, and a job is asked for where it is.

On SLURM's commands as they answer in ../shared/cases/fakeslurm: `FAKE` is its folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from segnext.config import Execution
from segnext.door import console
from studies import cancel, run, status
from studies.declare.protocols import protocol
from studies.launch import ending, sending, submit
from studies.launch.local import GOES_ON, Outcome
from studies.launch.submit import Array, arrays, kept_variables, sbatch_options
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, plan, select, settled
from studies.records import snapshot
from studies.records.store import Store, runs_folder
from studies.records.working_state import Progress
from studies.records.workspace import Workspace
from studies.slurm import scheduler
from studies.slurm.profile import Profile, changed
from studies.slurm.scheduler import VANISHED_SECONDS, Refused, Unreachable

SMOKE = ("--protocol", "smoke", "--limit-iterations", "2")


@pytest.fixture
def fake(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM whose answers a test chooses; the folder where it keeps what it was asked."""
    commands = shared / "cases" / "fakeslurm"
    if not commands.is_dir():
        pytest.skip("../shared/cases/fakeslurm is not here: SLURM's commands, whose answers are chosen")
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setattr(submit, "LOOKS", (0.01, 0.01))
    monkeypatch.setattr(scheduler, "BUSY_SECONDS", (0.01, 0.01))
    return folder


def planned(seeds: str = "0") -> list[PlannedRun]:
    """Runs of Table 7 that start from nothing, with a specification each."""
    smoke = protocol("smoke")
    selected = select([f"table7/c@{seed}" for seed in seeds.split(",")], smoke, None, None)
    runs = [planned_run for planned_run in plan(selected, smoke, 2, Store()) if planned_run.upstream]
    return runs or plan(selected, smoke, 2, Store())[:1]


def several() -> list[PlannedRun]:
    """Three runs that start from nothing."""
    smoke = protocol("smoke")
    return [
        planned_run
        for planned_run in plan(select(["table7"], smoke, None, None), smoke, 2, Store())
        if planned_run.upstream
    ][:3]


def sends(resources: Profile = Profile(), runs: list[PlannedRun] | None = None) -> Array:  # noqa: B008
    """One array, submitted."""
    (array,) = arrays(runs or planned(), resources, 100, 0)

    def specify(planned_run: PlannedRun, settings: Execution) -> dict:
        return specification(planned_run, 2, None, None, settings, "a test")

    submit.submit(array, resources, snapshot.take(), specify, Execution())
    return array


def states() -> list[tuple[str, str]]:
    runs, _ = settled(planned())
    return [(planned_run.stands.state, planned_run.stands.cause) for planned_run in runs]


REFUSALS = [
    "Invalid partition name specified",
    "Invalid account or account/partition combination specified",
    "Invalid qos specification",
    "Invalid feature specification",
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "Resource temporarily unavailable",
]


@pytest.mark.parametrize("said", REFUSALS)
def test_a_refusal_is_named_and_leaves_no_trace(fake: Path, monkeypatch: pytest.MonkeyPatch, said: str):
    monkeypatch.setenv("FAKE_SBATCH_REFUSES", f"sbatch: error: Batch job submission failed: {said}")
    with pytest.raises(Refused) as told:
        sends()
    assert str(told.value) == f"Batch job submission failed: {said}"
    assert states() == [("new", "")]
    assert not list(runs_folder().glob("*/submission.json"))


@pytest.mark.parametrize("said", ["Unexpected message received", "Socket timed out on send/recv operation"])
def test_silence_leaves_the_reservation_and_what_was_accepted_nevertheless_is_found(
    fake: Path, monkeypatch: pytest.MonkeyPatch, said: str
):
    monkeypatch.setenv("FAKE_SBATCH_REFUSES", f"sbatch: error: Batch job submission failed: {said}")
    (fake / "squeue.err").write_text("slurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(Unreachable):
        sends()
    assert states() == [("unknown", "")]
    (fake / "squeue.err").unlink()
    monkeypatch.delenv("FAKE_SBATCH_REFUSES")
    for path in runs_folder().glob("*/submission.json"):
        path.unlink()
    monkeypatch.setenv("FAKE_SBATCH_FAILS", f"sbatch: error: Batch job submission failed: {said}")
    assert sends().job == "101"
    assert states() == [("queued", "")]


def test_the_command_ends_with_sbatchs_words_and_the_code_of_a_refusal(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("studies.run.measure_costs", lambda *_: None)
    words = ["table7/c@0", *SMOKE, "--cluster", "slurm", "--partition", "gpuu"]
    monkeypatch.setenv("FAKE_SBATCH_REFUSES", "sbatch: error: Batch job submission failed: Invalid partition")
    assert run.main(words) == 3
    assert "sbatch refuses: Batch job submission failed: Invalid partition" in capsys.readouterr().out
    assert status.main([]) == 0
    assert "lost" not in capsys.readouterr().out
    # The first array is taken, the second is not: one too many.
    once = fake / "sbatch"
    once.write_text(
        f'#!/bin/sh\n[ -e {fake}/last ] && {{ echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }}\n'
        'exec "$REAL" "$@"\n'
    )
    once.chmod(0o755)
    monkeypatch.delenv("FAKE_SBATCH_REFUSES")
    monkeypatch.setenv("REAL", f"{os.environ['PATH'].split(':')[0]}/sbatch")
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    assert run.main(words) == 1
    said = capsys.readouterr().out
    assert "sbatch refuses: QOSMaxSubmitJobPerUserLimit" in said
    assert "1 of 2 runs submitted; the same command submits the rest" in said


def test_a_reservation_is_withdrawn_where_sbatch_was_never_called(fake: Path, monkeypatch: pytest.MonkeyPatch):
    def full(planned_run: PlannedRun, settings: Execution) -> dict:
        raise OSError(28, "No space left on device")

    (array,) = arrays(planned(), Profile(), 100, 0)
    with pytest.raises(OSError, match="No space left"):
        submit.submit(array, Profile(), snapshot.take(), full, Execution())
    assert not list(runs_folder().glob("*/submission.json"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unreachable):
        sends()
    assert not list(runs_folder().glob("*/submission.json"))


@pytest.mark.parametrize(
    "printed",
    [
        "Your last job 42 took 3 hours\nSubmitted batch job 101\n",
        "Welcome! Job 42 is over.\n101\n",
        "You have 12 jobs\n101;wice\n",
        "Your last job 42 took 3 hours: see job 42\n",  # it swallows sbatch's own words
        "42\n101\n",
    ],
)
def test_a_wrapper_that_talks_about_other_jobs_is_not_believed(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str
):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(
        f"#!/bin/sh\n{os.environ['PATH'].split(':')[0]}/sbatch \"$@\" > {tmp_path}/asked\nprintf '{printed}'\n"
    )
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    array = sends()
    assert array.job == "101"
    (submission,) = (json.loads(path.read_text()) for path in runs_folder().glob("*/submission.json"))
    assert submission["job"] == "101_0"


def works(fake: Path, job: str = "101", *variables: str) -> subprocess.CompletedProcess[str]:
    """Carry out the first element of a job as SLURM would, with these variables of the job's."""
    element = f"{os.environ['PATH'].split(':')[0]}/element"
    return subprocess.run([element, job, "0", *variables], capture_output=True, text=True, check=False, timeout=60)


def container(tmp_path: Path) -> Path:
    """A command that starts what follows its own three words, as `apptainer exec` does, and keeps what it was given."""
    path = tmp_path / "appt ainer"
    path.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {tmp_path}/words\nenv > {tmp_path}/seen\n')
    path.chmod(0o755)
    return path


def test_a_container_gets_its_words_as_they_are_in_the_profile(fake: Path, tmp_path: Path):
    words = [str(container(tmp_path)), "exec", "--nv", "--bind=/data of $all:/data", "seg'next.sif", "python"]
    runs = several()
    resources = changed(Profile(), {"python": words, "runs_per_gpu": 2})
    sends(resources, runs)
    assert works(fake).returncode == 0
    seen = (tmp_path / "words").read_text().splitlines()
    pairs = [f"{runs[0].id},{runs[1].id}", runs[2].id]
    assert seen == [*words[1:], "-u", "-m", "studies.worker", *pairs]


def test_a_job_whose_container_has_no_scontrol_is_sent_back_to_the_queue_from_outside(fake: Path, tmp_path: Path):
    worker = container(tmp_path)
    worker.write_text(f"#!/bin/sh\nexit {ending.OUTSIDE}\n")
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    sends(changed(Profile(), {"python": [str(worker)]}))
    assert works(fake, "101", f"PATH={scontrol.parent}:{os.environ['PATH']}").returncode == ending.OUTSIDE
    assert (tmp_path / "asked").read_text() == "requeue 101\n"


def test_a_line_of_shell_still_starts_python(fake: Path, tmp_path: Path):
    sends(changed(Profile(), {"python": f"env IN=shell '{container(tmp_path)}' run"}))
    assert works(fake).returncode == 0
    assert (tmp_path / "words").read_text().splitlines()[:3] == ["run", "-u", "-m"]
    assert "IN=shell" in (tmp_path / "seen").read_text()


def test_runs_of_one_card_are_one_job_with_the_cores_of_all_and_the_threads_of_each(fake: Path):
    runs = several()
    array = sends(changed(Profile(), {"runs_per_gpu": 2, "gpus": 1, "cpus": 3, "memory": "9G"}), runs)
    script = (fake / "jobs" / "101.sh").read_text()
    for line in ("--array=0-1%2", "--cpus-per-task=6", "--gpus-per-node=1", "--ntasks-per-node=1", "--mem=9G"):
        assert f"#SBATCH {line}\n" in script
    assert "export OMP_NUM_THREADS=3\n" in script
    assert [Workspace(planned_run.id).submission.read().job for planned_run in array.runs] == [
        "101_0",
        "101_0",
        "101_1",
    ]


def test_a_part_of_a_card_is_cancelled_alone_and_all_of_it_with_its_job(fake: Path, capsys: pytest.CaptureFixture[str]):
    runs = several()[:2]
    sends(changed(Profile(), {"runs_per_gpu": 2}), runs)
    assert cancel.main([f"table7/{runs[0].row.slug}"]) == 0
    assert "shares its job with others" in capsys.readouterr().out
    assert not (fake / "scancel.calls").exists()
    assert [bool(Workspace(planned_run.id).submission.read().cancelled) for planned_run in runs] == [True, False]
    assert cancel.main(["table7"]) == 0
    assert (fake / "scancel.calls").read_text() == "101_0\n"
    assert all(Workspace(planned_run.id).submission.read().cancelled for planned_run in runs)


def test_what_ran_out_of_memory_is_given_more_each_time_where_the_profile_says_so(fake: Path):
    resources = changed(Profile(), {"memory": "3G", "retry": {"memory": "1.5x"}})

    def ends(message: str) -> None:
        workspace = Workspace(planned()[0].id)
        with workspace.attempt() as attempt:
            attempt.cause, attempt.message = "out_of_memory", message
            attempt.job = str(workspace.submission.read().job)
        (fake / "jobs" / f"{attempt.job.split('_')[0]}.gone").touch()

    asked = []
    for message in ("killed", "killed", "CUDA out of memory. Tried to allocate 2 GiB", ""):
        sends(resources, settled(planned())[0])
        (script, *_) = sorted((fake / "jobs").glob("*.sh"), reverse=True)
        asked += [line for line in script.read_text().splitlines() if line.startswith("#SBATCH --mem=")]
        ends(message)
    assert asked == ["#SBATCH --mem=3G", "#SBATCH --mem=4608M", "#SBATCH --mem=6912M", "#SBATCH --mem=3G"]


@pytest.mark.parametrize("trouble", ["exit 3", "sleep 60", ""])
def test_a_notification_tells_what_ended_and_harms_nothing_however_it_fails(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (planned_run,) = planned()
    workspace = Workspace(planned_run.id)
    workspace.write_spec(specification(planned_run, 2, None, None, Execution(), "a test"))
    command = tmp_path / "tell"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n{trouble}\n')
    command.chmod(0o755)
    monkeypatch.setattr(ending, "NOTIFY_SECONDS", 0.5)
    monkeypatch.setenv("SEGNEXT_NOTIFY", json.dumps([str(command), "to the lab"]))
    ending.notify(workspace, "diverged")
    assert (tmp_path / "told").read_text() == f"to the lab {planned_run.id} table7/c@0 diverged\n"
    said = capsys.readouterr().out
    assert {"exit 3": "exited with 3", "sleep 60": "did not answer"}.get(trouble, "") in said
    monkeypatch.setenv("SEGNEXT_NOTIFY", json.dumps([str(tmp_path / "nowhere")]))
    ending.notify(workspace, "diverged")
    assert "is not on this machine" in capsys.readouterr().out


ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_MEM_PER_CPU": "200",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_GPUS_PER_NODE": "1",
    "SLURM_NTASKS": "2",
    "SBATCH_EXPORT": "NONE",
    "SRUN_CPUS_PER_TASK": "4",
    "WORLD_SIZE": "2",
}


@pytest.mark.parametrize("inside", [(), ("SLURM_EXPORT_ENV=NONE",)], ids=["all", "as --export=NONE leaves a job"])
def test_a_job_has_what_it_needs_and_nothing_of_the_allocation_it_was_submitted_in(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: tuple[str, ...]
):
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    python = tmp_path / "python"  # says what it was started with, in the place of a worker
    python.write_text(f'#!/bin/sh\nenv > {tmp_path}/seen\necho "$@" > {tmp_path}/words\n')
    python.chmod(0o755)
    sends(changed(Profile(), {"python": str(python), "options": {"export": "NONE"} if inside else {}}))
    assert ("--export=NONE" if inside else "--export=ALL") in (fake / "jobs" / "101.sh").read_text()
    done = works(fake, "101", *inside)
    assert done.returncode == 0, done.stderr
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines())
    assert seen["SEGNEXT_RUNS"] == str(runs_folder())
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["SLURM_JOB_ID"] == "101"
    assert not (set(ALLOCATION) - {"SLURM_JOB_ID", "SLURM_NTASKS"}) & set(seen)
    assert "studies.worker" in (tmp_path / "words").read_text()


def test_jobs_of_another_cluster_are_asked_for_and_cancelled_there(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    array = sends(changed(Profile(), {"options": {"clusters": "wice"}}))
    assert (fake / "jobs" / "101.cluster").read_text().strip() == "wice"
    assert states() == [("queued", "")]
    assert cancel.main(["all"]) == 0
    assert (fake / "scancel.calls").read_text() == "101_0\n"
    assert array.token.endswith("@wice")


def test_the_cluster_that_a_shell_names_is_remembered_with_the_job(fake: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_CLUSTERS", "wice")
    sends()
    monkeypatch.delenv("SLURM_CLUSTERS")  # the shell of tomorrow
    assert (fake / "jobs" / "101.cluster").read_text().strip() == "wice"
    assert states() == [("queued", "")]


def test_what_starts_from_a_run_on_another_cluster_is_not_submitted(fake: Path):
    smoke = protocol("smoke")
    runs = plan(select(["table7/c@0"], smoke, None, None), smoke, 2, Store())
    assert len(runs) == 2
    sends(changed(Profile(), {"options": {"clusters": "wice"}}), runs[:1])
    with pytest.raises(Refused, match=rf"run {runs[0].id} is queued on cluster wice; what starts from it"):
        sends(Profile(), plan(select(["table7/c@0"], smoke, None, None), smoke, 2, Store())[1:])


def test_a_job_that_only_accounting_still_has_is_unknown_and_then_lost(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("studies.run.measure_costs", lambda *_: None)
    array = sends()
    (fake / "squeue.txt").write_text("")
    (fake / "sacct.txt").write_text(f"{array.token}|101_0|RUNNING|n1\n")
    assert states() == [("unknown", "")]
    run.main(["table7/c@0", *SMOKE, "--cluster", "slurm"])
    said = capsys.readouterr().out
    assert "sacct calls it RUNNING, but it is not in the queue" in said
    assert "nothing is heard of it for 10 minutes" in said
    for path in runs_folder().glob("*/submission.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "submitted": time.time() - VANISHED_SECONDS - 1}))
    assert states() == [("stopped", "lost")]
    planned_run = planned()[0]
    Workspace(planned_run.id).report(Progress("train", 1, 2), force=True)
    assert states() == [("unknown", "")], "somebody still heard of it a moment ago"


CONTROLLED = ["a\nrm -rf /", "a\r", "a\x00", "a\u2028b", "a\x1b[2J"]


@pytest.mark.parametrize("name", ["constraint", "partition", "account", "qos", "time", "memory", "python", "device"])
@pytest.mark.parametrize("value", CONTROLLED)
def test_no_setting_becomes_a_line_of_the_job_script(name: str, value: str):
    with pytest.raises(ValueError, match=f"{name}: .* has a character that would end its line"):
        changed(Profile(), {name: value})
    with pytest.raises(ValueError, match="has a character that would end its line"):
        changed(Profile(), {"options": {"comment": value}})
    with pytest.raises(ValueError, match="has a character that would end its line"):
        changed(Profile(), {"evaluate": {name: value}})


@pytest.mark.parametrize("name", ["runs\ntouch here", "runs of 100%j"])
def test_no_folders_name_becomes_a_line_of_the_job_script_or_another_name(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / name))
    with pytest.raises(Refused, match="sbatch needs a name on one line and without %"):
        sends()
    assert not list(runs_folder().glob("*/submission.json"))
    assert not (fake / "jobs").exists()


def test_a_job_is_submitted_from_a_folder_with_spaces_and_letters_of_any_alphabet(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "Läufe $(touch x) 'of' ann"
    monkeypatch.setenv("SEGNEXT_RUNS", str(folder))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$SEGNEXT_RUNS" > {tmp_path}/seen\n')
    python.chmod(0o755)
    sends(changed(Profile(), {"python": str(python)}))
    assert works(fake).returncode == 0
    assert (tmp_path / "seen").read_text() == f"{folder}\n"


def test_the_command_line_refuses_it_too(capsys: pytest.CaptureFixture[str]):
    for name in ("--constraint", "--partition", "--account", "--qos", "--time"):
        with pytest.raises(SystemExit) as refused:
            run.main(["table7/c@0", *SMOKE, "--cluster", "slurm", name, "x\ntouch /tmp/shell"])
        assert refused.value.code == 2
        assert f"{name[2:]}: 'x\\ntouch /tmp/shell' has a character" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(
            ({name: "x"}, f"options.{name}: not here: the study says it itself")
            for name in ("array", "chdir", "output")
        ),
        *(
            ({name: "x"}, f"options.{name}: not here: the study says it itself")
            for name in ("error", "job-name", "wrap")
        ),
        *(({name: "x"}, f"options.{name}: not here: the study says it itself") for name in ("job_name", "dependency")),
        *(
            ({name: True}, f"options.{name}: not here")
            for name in ("requeue", "no-requeue", "parsable", "wait", "help")
        ),
        *(
            ({name: "x"}, f"options.{name}: not here")
            for name in ("arr", "chd", "dep", "job", "test-only", "open-mode")
        ),
        ({"signal": "USR1@3"}, "options.signal: not here: there is the setting warning"),
        ({"nodes": 2}, "options.nodes: not here: there is the setting nodes"),
        ({"ntasks": 2}, "options.ntasks: not here: there is the setting processes"),
        ({"mem": "2G"}, "options.mem: not here: there is the setting memory"),
        ({"export": "A=1"}, 'options.export: not here: export is "NONE" or "ALL"'),
        ({"export-file": "f"}, "options.export-file: not here"),
        ({"clusters": "a,b"}, "options.clusters: 'a,b': name one cluster"),
        ({"clusters": "all"}, "options.clusters: 'all': name one cluster"),
        ({"cluster": "wice"}, 'name one cluster: clusters = "wice"'),
        ({"J": "x"}, "options: 'J' is no long name"),
        ({"exclude=n1\n#SBATCH --wrap": "x"}, "is no long name of an option"),
        ({"exclude n1": "x"}, "options: 'exclude n1' is no long name"),
        ({"exclude": ["n1"]}, r"options.exclude: ['n1'] is not text, a number or true"),
        ({"hold": False}, "options.hold: False is not text"),
    ],
)
def test_an_option_that_would_lose_the_job_or_its_processes_is_refused_by_name(
    tmp_path: Path, options: dict, said: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        changed(Profile(), {"options": options})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"hold": True, "exclude": "gpu13", "gres": "gpu:a100:2", "gpus": 2, "nice": 100, "mail-type": "END"},
        {"mem-per-cpu": "2G", "exclusive": True, "comment": "äöü; $(x)", "time-min": "01:00:00", "wait-all-nodes": 1},
        {"export": "NONE", "clusters": "wice", "reservation": "school", "licenses": "matlab"},
    ],
)
def test_every_other_option_goes_through(options: dict):
    words = sbatch_options(changed(Profile(), {"options": options}))
    for name, value in options.items():
        assert (f"--{name}" if value is True else f"--{name}={value}") in words


def test_stages_share_a_cluster():
    with pytest.raises(ValueError, match=r"pretrain.options.clusters: jobs wait for those of their own cluster alone"):
        changed(Profile(), {"options": {"clusters": "wice"}, "pretrain": {"options": {"exclude": "n1"}}})


def test_what_a_shell_chooses_for_every_sbatch_counts_where_the_profile_is_silent():
    assert "SBATCH_QOS" in kept_variables(Profile())
    assert "SBATCH_QOS" not in kept_variables(changed(Profile(), {"qos": "long"}))
    assert "SBATCH_RESERVATION" not in kept_variables(changed(Profile(), {"options": {"reservation": "school"}}))
    assert "SBATCH_EXPORT" not in kept_variables(Profile())


def test_an_account_without_a_name_submits_and_cancels(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567)
    assert submit.user() == "1234567"


@pytest.mark.parametrize(("room", "max_parallel"), [(7, 0), (7, 5), (2, 0)], ids=["arrays", "a chain", "less than one"])
def test_a_follower_submits_what_a_limit_refused_once_others_have_ended(
    room: int, max_parallel: int, monkeypatch: pytest.MonkeyPatch
):
    going: list[str] = []
    sent: list[str] = []

    def submits(array, resources, code, specify, settings) -> list[PlannedRun]:
        if len(going) + len(array.runs) > room:
            raise Refused("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        names = [planned.id for planned in array.runs]
        going.extend(names)
        sent.extend(names)
        array.job = str(len(sent))
        return []

    def follow(runs, watcher, asked, left: int = 0) -> dict[str, Outcome]:
        over = [planned.id for planned in runs][: len(runs) - left]
        going[:] = [name for name in going if name not in over]
        return {planned.id: Outcome("done") if planned.id in over else GOES_ON for planned in runs}

    monkeypatch.setattr(sending, "submit", submits)
    monkeypatch.setattr(sending, "follow", follow)
    smoke = protocol("quick")
    runs = plan(select(["table7/b", "table7/c"], smoke, None, range(10)), smoke, None, Store())
    profile = Profile(max_array_size=5, max_parallel=max_parallel)
    line = sending.Line(console(), list(runs), profile, lambda own: Execution(), lambda planned, execution: None)
    found = line.send()
    while not found and line.halve():
        found = line.send()
    outcomes = line.followed(found, None, lambda: False)
    assert sorted(sent) == sorted(planned.id for planned in runs)
    assert set(outcomes.values()) == {Outcome("done")}
    assert (line.code, line.waiting, going) == (0, [], [])
