"""Other programs are asked through one door: a chosen environment, a time limit, and whatever they print is read."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

from studies.records import external, snapshot
from studies.records.external import Absent, Refused, Silent, Unreachable
from studies.slurm import scheduler

STARTS = {"run", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "Popen", "system", "popen"}
WORKERS = {"local.py", "sharing.py"}  # start this project's own workers, and ask nobody


def test_no_other_module_starts_a_program():
    found = set()
    for path in sorted((REPOSITORY / "studies").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = isinstance(node, ast.ImportFrom) and node.module in ("subprocess", "asyncio.subprocess")
            called = (
                isinstance(node, ast.Attribute)
                and node.attr in STARTS
                and isinstance(node.value, ast.Name)
                and node.value.id in ("subprocess", "os")
            )
            submits = isinstance(node, ast.Attribute) and node.attr in ("_submit_command", "CommandFunction")
            if imported or called or submits:
                found.add(path.name)
    assert found == {"external.py", *WORKERS}


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(
        f"#!/bin/sh\necho waiting >&2\n(sleep 60; touch {tmp_path}/late) &\necho $! > {tmp_path}/child\nwait\n"
    )
    wrapper.chmod(0o755)
    begun = time.monotonic()
    with pytest.raises(Silent, match="did not answer within 1 s") as silent:
        external.answer([str(wrapper)], seconds=1)
    assert time.monotonic() - begun < 30, "the child holds the pipe open for a minute"
    assert silent.value.said == "waiting\n"
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    assert not child.exists() or " Z " in (child / "stat").read_text()


def test_what_is_no_text_is_read_nevertheless():
    told = external.answer(["printf", "caf\\351"])
    assert (told.code, told.text, told.printed) == (0, "caf�", b"caf\xe9")


def test_a_program_that_cannot_be_started_was_not_asked(tmp_path: Path):
    with pytest.raises(Absent, match="nowhere is not on this machine"):
        external.answer(["nowhere"])
    (tmp_path / "text").write_text("")
    with pytest.raises(Absent, match="cannot be started: Permission denied"):
        external.answer([str(tmp_path / "text")])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Batch job submission failed: Unexpected message received", Unreachable),
        ("Batch job submission failed: Socket timed out on send/recv operation", Unreachable),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", Unreachable),
        ("Batch job submission failed: Zero Bytes were transmitted or received", Unreachable),
        ("Batch job submission failed: Protocol authentication error", Unreachable),
        ("slurm_load_jobs error: Slurm backup controller in standby mode", Unreachable),
        ("Batch job submission failed: Invalid partition name specified", Refused),
        ("Batch job submission failed: Invalid account or account/partition combination specified", Refused),
        ("Batch job submission failed: Invalid qos specification", Refused),
        ("Batch job submission failed: Invalid feature specification", Refused),
        ("Batch job submission failed: Resource temporarily unavailable", Refused),
        ("QOSMaxSubmitJobPerUserLimit\nBatch job submission failed: Job violates accounting/QOS policy", Refused),
    ],
)
def test_a_refusal_is_told_from_silence(answers, said: str, kind: type[Exception]):
    answers("sbatch", "", code=1, error="".join(f"sbatch: error: {line}\n" for line in said.splitlines()))
    with pytest.raises((Unreachable, Refused)) as told:
        external.slurm("sbatch")
    assert type(told.value) is kind
    assert str(told.value) == "; ".join(said.splitlines())


def test_a_queue_that_is_full_is_a_refusal_although_sbatch_tries_for_minutes(
    answers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(external, "SECONDS", 1.0)
    answers("sbatch", "")
    said = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho '{said}' >&2\nsleep 60\n")
    with pytest.raises(Refused, match=r"^Slurm temporarily unable to accept job"):
        external.slurm("sbatch")


INHERITED = {
    "SLURM_MEM_PER_CPU": "200",
    "SLURM_CPU_BIND_TYPE": "mask_cpu:",
    "SLURM_GPUS_PER_NODE": "1",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_EXPORT_ENV": "NONE",
    "SLURM_TIME_FORMAT": "relative",
    "SBATCH_EXPORT": "NONE",
    "SRUN_CPUS_PER_TASK": "3",
    "SQUEUE_USERS": "ann",
    "SACCT_FORMAT": "user",
    "SCANCEL_STATE": "PENDING",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "n9",
    "CUDA_VISIBLE_DEVICES": "",
}


def test_nothing_of_an_allocation_in_which_somebody_types_reaches_slurms_commands(
    answers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in {**INHERITED, "SLURM_CONF": "/etc/s.conf", "MY_DATA": "/data"}.items():
        monkeypatch.setenv(name, value)
    for command in ("squeue", "sbatch"):
        answers(command, "")
        external.slurm(command)
        seen = dict(line.partition("=")[::2] for line in (tmp_path / f"{command}.env").read_text().splitlines())
        assert not set(INHERITED) & set(seen)
        assert (seen["SLURM_CONF"], seen["MY_DATA"]) == ("/etc/s.conf", "/data")
    assert set(INHERITED) <= set(external.left_out(os.environ))
    assert "SLURM_CONF" not in external.left_out(os.environ)


def test_every_command_asks_the_cluster_that_is_meant(answers, tmp_path: Path):
    for command in ("squeue", "sacct", "scancel", "scontrol", "sinfo", "sbatch"):
        answers(command, "")
        external.slurm(command, cluster="wice")
        inherited = "SLURM_CLUSTERS=wice\n" in (tmp_path / f"{command}.env").read_text()
        assert inherited == (command != "sbatch"), "a job would inherit it"
    assert "sacct --clusters=wice\n" in (tmp_path / "words").read_text(), "it does not read the variable"
    with pytest.raises(Unreachable, match="is this a login node"):
        scheduler.call("sbatch-that-is-nowhere")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository in the place of this one, whose user has configured git in every way that shows in a diff."""
    home, root = tmp_path / "home", tmp_path / "repository"
    (root / "studies").mkdir(parents=True)
    (root / "segnext").mkdir()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(snapshot, "REPOSITORY", root)
    monkeypatch.setattr(snapshot, "code_version", snapshot.code_version.__wrapped__)
    (root / "studies" / "run.py").write_text("first\n")
    (root / "segnext" / "model.py").write_text("model\n")
    (home / ".gitconfig").write_text(
        "[user]\nname = a\nemail = a@b\n[color]\nui = always\n[diff]\nexternal = false\nnoprefix = true\ncontext = 0\n"
        "renames = copies\n[core]\nquotepath = true\n"
    )
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "first")):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def test_the_difference_in_a_record_is_a_patch_whatever_git_is_configured_to_print(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    (checkout / "studies" / "run.py").write_text("first\nsecond\n")
    (checkout / "studies" / "né.py").write_text("new\n")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    version = snapshot.code_version()
    assert len(version["commit"]) == 40
    assert "\x1b" not in version["diff"]
    assert "+++ b/studies/né.py" in version["diff"]
    monkeypatch.delenv("GIT_DIR")
    for words in (("clean", "-fdq"), ("checkout", "--quiet", ".")):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    subprocess.run(["git", "apply"], input=version["diff"].encode(), cwd=checkout, check=True)
    assert (checkout / "studies" / "run.py").read_text() == "first\nsecond\n"
    assert (checkout / "studies" / "né.py").read_text() == "new\n"


def test_bytes_that_are_no_text_and_an_editors_lock_end_no_run(checkout: Path):
    (checkout / "studies" / "notes.txt").write_bytes(b"caf\xe9\n")
    Path(os.fsdecode(bytes(checkout / "studies") + b"/caf\xe9.txt")).write_text("x\n")
    (checkout / "studies" / ".#worker.py").symlink_to("ann@login3.4242:1700000000")
    (checkout / "studies" / "folder.py").mkdir()
    code = snapshot.take()
    version = snapshot.code_version()
    assert "caf�" in version["diff"]
    assert "ann@login3" not in version["diff"], "records are committed, and name no host"
    assert sorted(path.name for path in code.rglob("*.py")) == ["model.py", "run.py"]
    assert snapshot.whole(code)


def test_of_much_untracked_text_a_record_keeps_the_digest(checkout: Path):
    (checkout / "studies" / "a-dump.txt").write_text("x" * 5_000_000)
    (checkout / "studies" / "short.py").write_text("short = 1\n")
    diff = snapshot.code_version()["diff"]
    digest = hashlib.sha256(b"x" * 5_000_000).hexdigest()
    assert f"untracked: studies/a-dump.txt, 5000000 bytes, sha256 {digest}\n" in diff
    assert "+short = 1" in diff
    assert len(diff) < 2000


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a checkout to somebody else")
def test_a_checkout_that_git_refuses_is_named_where_the_commit_is_missing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
):
    for path in (checkout, checkout / ".git"):
        os.chown(path, 65534, 65534)
    version = snapshot.code_version()
    assert version["commit"] is None
    assert "dubious ownership" in version["diff"]
    assert f"safe.directory {checkout}" in version["diff"]
    with pytest.raises(SystemExit, match="2"):
        snapshot.main([])
    assert "safe.directory" in capsys.readouterr().err


def test_a_snapshot_that_lost_a_file_is_not_whole(checkout: Path):
    code = snapshot.take()
    assert snapshot.kept() == [code]
    assert snapshot.whole(code)
    (code / "studies" / "run.py").unlink()
    assert not snapshot.whole(code)
