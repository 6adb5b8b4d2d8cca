"""The small files of a run: typed, each damage named, and no process signalled that is not proved to be ours."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from conftest import REPOSITORY, TESTS
from records import table7_record

import studies.records.working_state
from studies import cancel, status
from studies.declare.protocols import protocol
from studies.facts import files
from studies.plan.jobspec import specification, specified_planned_run
from studies.plan.runs import plan, select
from studies.records.store import Store
from studies.records.typed import Damaged, read, to_json, write
from studies.records.working_state import Attempt, Claim, JobSpec, Process, Progress, Submission, place
from studies.records.workspace import Claimed, Workspace

SMOKE = protocol("smoke")


def planned():
    from segnext.config import Execution

    *_, found = plan(select(["table7/c@0"], SMOKE, None, None), SMOKE, 2, Store())
    Workspace(found.id).write_spec(specification(found, 2, None, None, Execution(), "a test"))
    return found


VALUES = [
    Claim(Process("host", 100, "1"), "x", "8_1", 2, "n1", "0123"),
    Submission("segnext-1", 3, 1.7e9, "ann", Process("login", 100, "0"), "0123456789ab", "25_3"),
    Progress("train", 3, 10, 0.5, 17.25),
    Attempt("host", 100, 1.7e9, "stopped", "[h, w]", finished=1.7e9),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_written_is_what_is_read(value: object, tmp_path: Path):
    write(tmp_path / "a.json", value)
    assert read(tmp_path / "a.json", type(value), "") == value


def test_a_specification_holds_the_run_itself():
    found = planned()
    spec = Workspace(found.id).told()
    assert specified_planned_run(spec, Store()).wanted == found.wanted
    assert read(Workspace(found.id).folder / "spec.json", JobSpec, "") == spec
    other = msgspec.structs.replace(spec, runs=({**spec.runs[0], "seed": 1},))
    assert specified_planned_run(other, Store()).id != found.id, "it is the value that counts, not the names"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"{}", "missing required field"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"process": {"host": "h", "pid": -1, "born": "1"}, "token": "x"}', "Expected `int` >= 2"),
        (b'{"process": {"host": "h", "pid": 0, "born": "1"}, "token": "x"}', "Expected `int` >= 2"),
        (b'{"process": {"host": "h", "pid": true, "born": "1"}, "token": "x"}', "Expected `int`, got `bool`"),
        (b'{"process": {"host": "h", "pid": 99, "born": null}, "token": "x"}', "Expected `str`, got `null`"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"token": "\xff"}', "utf-8"),
        (b'{"token": "x"}{"token": "x"}', ""),
        (b'{"job": "--user=root"}', "matching regex"),
    ],
)
def test_a_damaged_claim_says_where_and_why(content: bytes, why: str, tmp_path: Path):
    path = tmp_path / "claim.json"
    path.write_bytes(content)
    with pytest.raises(Damaged, match="damaged: ") as refused:
        read(path, Claim, "delete it")
    assert refused.value.path == path
    assert why in refused.value.why
    assert str(refused.value).endswith("; delete it")


@pytest.mark.parametrize("kind", ["directory", "pipe", "loop"])
def test_what_is_no_file_is_damage_and_nobody_waits_for_it(kind: str, tmp_path: Path):
    path = tmp_path / "a.json"
    {"directory": path.mkdir, "pipe": lambda: os.mkfifo(path), "loop": lambda: path.symlink_to(path)}[kind]()
    with pytest.raises(Damaged):
        read(path, Claim, "delete it")


@pytest.mark.parametrize("pid", [-1, 0, -5, 1])
def test_a_torn_claim_signals_nobody(pid: int, monkeypatch: pytest.MonkeyPatch):
    """`os.kill(-1, SIGTERM)` would end every process of the user."""
    found = planned()
    claim = {"process": {"host": os.uname().nodename, "pid": pid, "born": None, "place": place()}, "token": "x"}
    (Workspace(found.id).folder / "claim.json").write_text(json.dumps(claim))
    for call in ("kill", "killpg"):
        monkeypatch.setattr(os, call, lambda *words: pytest.fail(f"signalled {words}"))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *words: pytest.fail(f"signalled {words}"))
    assert cancel.main(["all"]) == 0


def test_a_process_that_has_anothers_number_now_is_left_alone():
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            reused = msgspec.structs.replace(Process.this(), pid=other.pid, born="1")
            assert not reused.alive
            with pytest.raises(ProcessLookupError):
                reused.ask_to_leave()
            assert other.poll() is None
        finally:
            other.kill()


def test_in_another_container_with_this_hosts_name_a_fresh_heartbeat_counts():
    """Its numbers of processes are not ours: whether it lives cannot be looked up, and its claim is not taken over."""
    workspace = Workspace("abc")
    workspace.folder.mkdir(parents=True)
    owner = msgspec.structs.replace(Process.this(), pid=2**22 - 1, place="another start, pid:[7]")
    path = workspace.folder / "claim.json"
    path.write_text(to_json(Claim(owner, "x")))
    assert workspace.owner() is not None
    with pytest.raises(Claimed), workspace.claim():
        pytest.fail("two owners")
    os.utime(path, (1, 1))
    with workspace.claim():
        pass


def test_without_hard_links_a_run_still_has_one_owner(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    won: list[int] = []

    def compete(number: int) -> None:
        try:
            with Workspace("abc").claim():
                won.append(number)
                time.sleep(1)
        except Claimed:
            pass

    racers = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(won) == 1
    assert list(Workspace("abc").folder.iterdir()) == []


def test_a_claim_that_is_being_written_is_waited_for():
    workspace = Workspace("abc")
    workspace.folder.mkdir(parents=True)
    (workspace.folder / "claim.json").touch()

    def finish() -> None:
        time.sleep(0.5)
        (workspace.folder / "claim.json").write_text(to_json(Claim(Process("elsewhere", 100, "0"), "x")))

    writer = threading.Thread(target=finish)
    writer.start()
    with pytest.raises(Claimed, match="elsewhere"), workspace.claim():
        pytest.fail("two owners")
    writer.join()


def test_on_a_full_disk_an_attempt_is_closed_in_the_room_that_it_has(monkeypatch: pytest.MonkeyPatch):
    workspace = Workspace("abc")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with workspace.claim(), workspace.attempt() as entry:
        entry.cause, entry.message = "disk_full", "No space left on device"
        monkeypatch.setattr("studies.records.workspace.write_atomically", full)
    (closed,) = workspace.attempts()
    assert (closed.cause, closed.finished is not None) == ("disk_full", True)


def test_an_attempt_that_nobody_closed_ends_when_it_was_last_seen():
    workspace = Workspace("abc")
    with workspace.claim(), workspace.attempt():
        pass
    path = workspace.folder / "attempts" / "001.json"
    content = json.loads(path.read_text())
    content.update(started=1000.0, finished=None)
    path.write_text(json.dumps(content))
    workspace.curve.touch()
    for file in (path, workspace.curve):
        os.utime(file, (1600, 1600))
    with workspace.claim(), workspace.attempt():
        assert workspace.attempts()[0].seconds == 600, "waiting for the next start is no work"


def test_a_damaged_attempt_hides_nothing_and_is_named(capsys: pytest.CaptureFixture[str]):
    found = planned()
    workspace = Workspace(found.id)
    for cause in ("stopped", "diverged"):
        with workspace.attempt() as entry:
            entry.cause = cause
    (workspace.folder / "attempts" / "001.json").write_text("")
    assert [entry.cause for entry in workspace.attempts()] == ["diverged"]
    assert status.main(["--json"]) == 1
    said = capsys.readouterr()
    assert [line["cause"] for line in json.loads(said.out)] == ["diverged"]
    assert said.err == f"damaged: {workspace.folder}/attempts/001.json: it is empty; " + (
        "delete it: one attempt is not accounted for then\n"
    )
    with workspace.attempt():
        pass
    assert (workspace.folder / "attempts" / "003.json").exists(), "its number is not given again"


def test_runs_that_todays_code_does_not_have_are_named(capsys: pytest.CaptureFixture[str]):
    found = planned()
    path = Workspace(found.id).folder / "spec.json"
    path.write_text(to_json({**json.loads(path.read_text()), "row": "gone"}))
    assert status.main([]) == 1
    assert f"{path}: today's code has no such run: unknown row of table7 'gone'" in capsys.readouterr().err


_FINISH = """
import sys
from records import table7_record
from studies.facts import files
from studies.records.store import Store
store = Store()
store.records
sys.stdin.readline()
store.add(table7_record("c", int(sys.argv[1]), 1.0))
files.write(Store())
"""


def test_after_many_finish_at_once_the_tables_hold_them_all():
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TESTS}"}
    finishers = [
        subprocess.Popen([sys.executable, "-c", _FINISH, str(seed)], stdin=subprocess.PIPE, env=environment)
        for seed in range(6)
    ]
    for finisher in finishers:
        assert finisher.stdin is not None
        finisher.stdin.write(b"\n")
        finisher.stdin.close()
    assert [finisher.wait() for finisher in finishers] == [0] * 6
    store = Store()
    assert all(file.current() for file in files.derived(store))
    written = (store.folder / "table7.csv").read_text()
    assert all(table7_record("c", seed, 1.0)["id"] in written for seed in range(6))


def test_a_local_run_that_the_kernel_kills_says_so_and_stays_visible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from studies.launch.local import _judge

    for starved, cause, words in ((True, "out_of_memory", "out of memory"), (False, "killed", "want of memory")):
        found = planned()
        code = f"import os\nfrom studies.records.workspace import Workspace\nw = Workspace({found.id!r})\n"
        code += "with w.claim(), w.attempt(): os.kill(os.getpid(), 9)"
        done = subprocess.run([sys.executable, "-c", code], check=False)
        outcome = _judge(found, done.returncode, starved)
        assert (outcome.state, words in outcome.message) == ("failed", True)
        status.main(["--json"])
        (line,) = json.loads(capsys.readouterr().out)
        assert (line["state"], line["cause"]) == ("failed" if starved else "stopped", cause)
        assert words in line["detail"]


def test_the_place_of_a_process_tells_starts_of_the_machine_and_containers_apart():
    studies.records.working_state.place.cache_clear()
    assert place() == place()
    if Path("/proc/self/ns/pid").exists():
        assert "pid:[" in place()
