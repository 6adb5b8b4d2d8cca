"""Records prove results and are written once; tables are views over them; a run has one owner."""

from __future__ import annotations

import argparse
import ast
import csv
import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from records import run_record, table7_cost, table7_record

from segnext.config import canonical, difference
from segnext.files import write_atomically
from studies.declare.protocols import PROTOCOLS
from studies.evidence import main as evidence
from studies.facts import files
from studies.plan.declared import declared
from studies.records import provenance
from studies.records.schema import File, Metrics
from studies.records.store import Store
from studies.records.typed import to_json
from studies.records.working_state import Claim, Process
from studies.records.workspace import Claimed, Workspace
from studies.tables import studies, study

TABLE7 = study("table7")
ADE = TABLE7.panel()


def lines(store: Store) -> list[dict[str, str]]:
    with open(store.folder / "table7.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_an_empty_store_has_the_rows_of_every_table_as_pending_and_no_line_in_its_file():
    store = Store()
    names = {path.name for path in files.write(store)}
    assert {f"{slug}.csv" for slug in studies()} < names
    assert lines(store) == []
    table = store.lines(TABLE7)
    assert [line.row for line in table] == [row.slug for row in TABLE7.trained]
    assert {(line.protocol, line.state, line.miou_ss, line.params, line.seed) for line in table} == {
        ("paper", "pending", None, None, None)
    }


def test_a_record_shows_in_its_line_at_full_precision_and_nowhere_else():
    store = Store()
    store.add(table7_record("c", 1, 41.12345678901234))
    store.add(table7_cost("c"))
    files.write(store)
    cost, run = lines(store)
    assert [cost[name] for name in ("row", "kind", "params", "printed_params", "miou_ss")] == [
        "c",
        "cost",
        "7",
        "4300000",
        "",
    ]
    assert [run[name] for name in ("row", "protocol", "seed", "miou_ss")] == ["c", "quick", "1", "41.12345678901234"]
    assert (run["miou_ms"], run["params"]) == ("", "")  # not measured is empty, never 0
    quick = [line for line in store.lines(TABLE7) if line.protocol == "quick"]
    assert len(quick) == len(TABLE7.trained) * len(PROTOCOLS["quick"].seeds)


def test_limited_runs_never_mix_with_full_ones():
    store = Store()
    store.add(table7_record("c", 0, 50.0))
    store.add(table7_record("c", 0, 20.0, iterations=10))
    done = {line.iterations: line.miou_ss for line in store.lines(TABLE7) if line.state == "done"}
    assert done == {PROTOCOLS["quick"].recipe(ADE).train.iterations: 50.0, 10: 20.0}


def test_an_id_leads_to_the_row_and_the_length_that_it_is_of():
    store = Store()
    for record in (table7_record("c", 1, 50.0), table7_record("b", 3, 20.0, iterations=10)):
        store.add(record)
    options = argparse.Namespace(protocol="paper", limit_iterations=None)  # an id says both itself
    for seed, row, length in ((1, "c", None), (3, "b", 10)):
        wanted = PROTOCOLS["quick"].run(ADE, TABLE7.row(row), seed, length)
        found = declared(wanted.id, options, store)
        assert (found.label, found.run, found.state) == (f"table7/{row}@{seed}", wanted, "done")


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path: Path):
    records = [table7_record(row, seed, 10.0 + seed) for row in ("a", "c") for seed in (0, 2)] + [table7_cost("a")]
    contents = set()
    for name, ordered in (("one", records), ("two", records[::-1])):
        store = Store(tmp_path / name)
        for record in ordered:
            store.add(record)
        files.write(store)
        files.write(store)
        contents.add((store.folder / "table7.csv").read_bytes())
    assert len(contents) == 1


def test_a_record_is_written_once_and_never_replaced():
    store = Store()
    path = store.add(table7_record("c", 0, 50.0))
    before = path.read_bytes()
    store.add(table7_record("c", 0, 99.0))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "table.csv"
    write_atomically(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path):
    left, being_written, other = (
        tmp_path / f".{name}" for name in (f"a.json.{'0' * 32}.tmp", f"b.{'1' * 32}.tmp", "x.tmp")
    )
    for path in (left, being_written, other):
        path.write_text("half")
    for path in (left, other):
        os.utime(path, (1, 1))
    write_atomically(tmp_path / "c.json", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {being_written.name, other.name, "c.json"}


def test_what_can_be_made_again_is_replaced_whole_without_waiting_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: pytest.fail("waited for the disk"))
    for content in ("old", "new"):
        write_atomically(tmp_path / "progress.json", content, durable=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("progress.json", "new")]


@pytest.mark.parametrize("damage", ["torn", "edited", "renamed", "partial"])
def test_a_damaged_or_edited_record_is_named_and_hides_no_other(damage: str):
    store = Store()
    store.add(table7_record("c", 1, 50.0))
    path = store.add(table7_record("c", 0, 50.0))
    if damage == "torn":
        path.write_text(path.read_text()[:40])
    elif damage == "edited":
        record = json.loads(path.read_text())
        record["config"]["train"]["learning_rate"] = 1.0
        path.write_text(to_json(record))
    elif damage == "partial":
        record = json.loads(path.read_text())
        del record["trained"]
        path.write_text(to_json(record))
    else:
        path = path.rename(path.with_name("0123456789ab.json"))
    again = Store()
    assert [record["config"]["seed"] for record in again.kind("run")] == [1]
    assert [damaged.path for damaged in again.damage] == [path]
    before = path.read_bytes()
    again.add(table7_record("c", 0, 50.0))
    assert path.read_bytes() == before, "what is there is left to a person"


def test_a_difference_names_the_field_the_old_and_the_new_value():
    run = PROTOCOLS["quick"].run(ADE, TABLE7.row("c"), 0)
    other = dataclasses.replace(run, train=dataclasses.replace(run.train, learning_rate=0.5))
    assert difference(canonical(run), canonical(other)) == "train.learning_rate: 0.003 -> 0.5"
    assert difference(canonical(run), canonical(run)) is None


def test_to_json_refuses_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"miou_ss": float("nan")})


def test_many_processes_writing_at_once_lose_nothing(tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(4, initializer=_use, initargs=(str(tmp_path),)) as pool:
        pool.map(_add, range(24))
    assert len(Store(tmp_path).records) == 24


def _use(folder: str) -> None:
    os.environ["SEGNEXT_RESULTS"] = folder


def _add(seed: int) -> None:
    Store().add(table7_record("c", seed, 1.0))


def test_a_run_has_one_owner_at_a_time():
    first, second = Workspace("abc"), Workspace("abc")
    with first.claim():
        assert second.owner().process.pid == os.getpid()
        with pytest.raises(Claimed, match=f"process {os.getpid()}"), second.claim():
            pytest.fail("two owners")
    with second.claim():
        pass
    assert first.owner() is None


def test_the_claim_of_a_dead_process_is_taken_over():
    code = "import os; from studies.records.workspace import Workspace\n"
    code += "with Workspace('abc').claim(): os.kill(os.getpid(), 9)"
    dead = subprocess.run([sys.executable, "-c", code], check=False)
    assert dead.returncode == -9
    workspace = Workspace("abc")
    assert (workspace.folder / "claim.json").exists()
    assert workspace.owner() is None
    with workspace.claim():
        assert workspace.owner().process.pid == os.getpid()
    assert list(workspace.folder.iterdir()) == []


def test_of_many_processes_that_want_a_dead_ones_run_exactly_one_gets_it(tmp_path: Path):
    workspace = Workspace("abc")
    workspace.folder.mkdir(parents=True)
    dead = msgspec.structs.replace(Process.this(), pid=2**22 - 1, born="0")
    (workspace.folder / "claim.json").write_text(to_json(Claim(dead, "x")))
    code = (
        "import sys, time\nfrom studies.records.workspace import Claimed, Workspace\n"
        "sys.stdin.readline()\n"
        "try:\n    with Workspace('abc').claim():\n        print('mine', flush=True)\n        sys.stdin.readline()\n"
        "except Claimed:\n    print('taken', flush=True)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.stdout.readline().strip() for racer in racers]
    for racer in racers:
        racer.communicate("done\n")
    assert sorted(answers) == ["mine"] + ["taken"] * 5


def test_an_attempt_that_is_killed_leaves_its_trace():
    workspace = Workspace("abc")
    with workspace.attempt() as attempt:
        assert workspace.attempts()[0].cause == "killed"  # should nobody get to say otherwise
        attempt.cause = "done"
    with workspace.attempt():
        pass
    assert [entry.cause for entry in workspace.attempts()] == ["done", "killed"]


def test_precision_is_a_column_and_older_records_mean_float32():
    store = Store()
    store.add(table7_record("c", 0, 50.0))
    store.add(table7_record("c", 1, 50.0) | {"provenance": {"precision": "bfloat16"}})
    files.write(store)
    shown = {line["seed"]: line["precision"] for line in lines(store)}
    assert shown == {"0": "float32", "1": "bfloat16"}


def test_a_servers_score_shows_in_the_line_of_the_run_that_was_submitted():
    table10 = study("table10")
    run = PROTOCOLS["paper"].run(table10.panel(), table10.row("t"), 0)
    store = Store()
    store.add(run_record(run, Metrics(), predictions=File(name="predictions.tar.gz", sha256="0" * 64)))
    words = ["table10/t@0", "--source", "http://example.org/1, 2026-11-23"]
    assert evidence([*words, "--miou", "82.125"]) == 0
    assert evidence([*words, "--miou", "82.125"]) == 0  # entering it again changes nothing
    (line,) = (line for line in Store().lines(table10) if line.state == "done")
    assert (line.run_id, line.miou_ms) == (run.id, 82.125)
    (said,) = (r for r in Store().records.values() if r["kind"] == "server")
    assert said["provenance"]["predictions"]["sha256"] == "0" * 64
    for wrong in (["--miou", "90"], ["--miou", "182"]):
        with pytest.raises(SystemExit) as refused:
            evidence([*words, *wrong])
        assert refused.value.code == 2


def test_a_servers_score_for_nothing_that_was_submitted_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        evidence(["table10/t@0", "--miou", "82", "--source", "hearsay"])
    assert refused.value.code == 2
    assert "found: none" in capsys.readouterr().err


def claimed(workspace: Workspace, **changes: object) -> None:
    """By somebody on another machine."""
    workspace.folder.mkdir(parents=True, exist_ok=True)
    owner = Claim(Process("elsewhere", 100, "0"), "x", **changes)
    (workspace.folder / "claim.json").write_text(to_json(owner))


def test_a_claim_that_a_crash_left_empty_is_taken_over():
    (Workspace("abc").folder / "claim.json").parent.mkdir(parents=True)
    (Workspace("abc").folder / "claim.json").write_text("")
    os.utime(Workspace("abc").folder / "claim.json", (1, 1))  # else it may be one that is being written
    code = "from studies.records.workspace import Workspace\nwith Workspace('abc').claim(): print('mine')"
    taken = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert taken.stdout == "mine\n"


@pytest.mark.parametrize("off", [-300.0, 300.0])
def test_heartbeats_are_read_by_the_clock_that_wrote_them(off: float, monkeypatch: pytest.MonkeyPatch):
    real, workspace = time.time, Workspace("abc")
    claimed(workspace)
    monkeypatch.setattr(time, "time", lambda: real() + off)
    with pytest.raises(Claimed), workspace.claim():
        pytest.fail("two owners")
    os.utime(workspace.folder / "claim.json", (1, 1))
    assert workspace.owner() is None
    assert [path.name for path in workspace.folder.iterdir()] == ["claim.json"]


def test_who_wakes_up_and_finds_its_claim_taken_over_knows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studies.records.workspace.BEAT_SECONDS", 0.01)
    workspace = Workspace("abc")
    with workspace.claim():
        claimed(workspace)
        end = time.monotonic() + 60
        while not workspace.lost:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert workspace.owner(), "what is another's stays"


def test_a_fingerprint_of_code_is_the_same_under_every_python():
    """Records are made under several, and `ast.unparse` and syntax trees change from one to the next."""
    tree = ast.parse("def f(x: int = 1) -> str:\n    return f\"{x!r:>{2}}\" + ''\n")
    assert provenance._words(tree) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x',annotation=Name(id='int'))],"
        "defaults=[Constant(value=1)]),body=[Return(value=BinOp(left=JoinedStr(values=[FormattedValue("
        "value=Name(id='x'),conversion=114,format_spec=JoinedStr(values=[Constant(value='>'),FormattedValue("
        "value=Constant(value=2),conversion=-1)]))]),op=Add(),right=Constant(value='')))],returns=Name(id='str'))])"
    )
