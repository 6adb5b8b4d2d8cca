"""The index beside the records answers as none would: missing, stale, damaged, or written by many at a time."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from records import table7_record

from segnext.config import Execution
from studies.declare.protocols import protocol
from studies.plan.jobspec import specification
from studies.plan.runs import plan, select
from studies.records import index, memory
from studies.records.specifications import REMEDY, alike
from studies.records.store import Store
from studies.records.typed import Damaged, read, to_json
from studies.records.working_state import JobSpec
from studies.tables import study

RECORDS = 40
TABLE7 = study("table7")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of records, and no wait until a file is old enough for an entry."""
    monkeypatch.setattr(index, "YOUNG", -3_600_000_000_000)
    folder = tmp_path / "results" / "records"
    folder.mkdir(parents=True)
    for seed in range(RECORDS):
        record = table7_record("c", seed, 50 + seed / 2, 300, "quick")
        (folder / f"{record['id']}.json").write_text(to_json(record))
    return folder


def answers(folder: Path) -> object:
    """All that a store says of its records."""
    store = Store(folder.parent)
    return (
        [
            (key, record, record.plain, store.read_digest(key), record.configured)
            for key, record in store.records.items()
        ],
        [str(damaged) for damaged in store.damage],
        [record.id for record in store.runs()],
        store.lines(TABLE7),
    )


def truth(folder: Path) -> object:
    """The same without an index."""
    kept = folder.parent / index.NAME
    aside = kept.rename(folder.parent / "aside") if kept.exists() else None
    try:
        return answers(folder)
    finally:
        kept.unlink(missing_ok=True)
        if aside:
            aside.rename(kept)


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many records a new store reads from their files."""
    read: list[str] = []
    plain = Store._from_file
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_from_file", lambda self, key, *of: read.append(key) or plain(self, key, *of))
        len(Store(folder.parent).records)
    return len(read)


def test_with_an_index_no_record_is_opened_and_the_answer_is_the_same(records: Path, monkeypatch: pytest.MonkeyPatch):
    assert opened(records, monkeypatch) == RECORDS
    assert opened(records, monkeypatch) == 0
    assert answers(records) == truth(records)
    (records.parent / index.NAME).unlink()
    assert opened(records, monkeypatch) == RECORDS


def edited(records: Path, draw: random.Random) -> None:
    """What people, jobs and disks do to records: an edit of the same length, a damaged, a new, a lost, a moved one."""
    path = draw.choice(sorted(path for path in records.glob("*.json") if path.exists()))
    match draw.choice(["edit", "same time", "tear", "add", "delete", "link", "right"]):
        case "edit":
            path.write_text(path.read_text().replace('"miou_ss": 5', '"miou_ss": 6'))
        case "same time":  # as `cp --preserve` leaves it, of the same size
            times = path.stat()
            path.write_text(path.read_text().replace('"miou_ss": 6', '"miou_ss": 4'))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        case "tear":
            path.write_bytes(path.read_bytes()[: draw.randrange(200)])
        case "add":
            record = table7_record("c", draw.randrange(1000, 2000), 70.0, 300, "quick")
            (records / f"{record['id']}.json").write_text(to_json(record))
        case "delete":
            path.unlink()
        case "link":
            path.unlink()
            path.symlink_to(records / "nowhere")
        case "right":
            path.rename(path.with_name(f"{draw.randrange(16**12):012x}.json"))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_the_records_the_index_is_never_the_truth(records: Path, seed: int):
    draw = random.Random(seed)
    answers(records)
    for _ in range(8):
        for _ in range(draw.choice([1, 1, 30])):
            edited(records, draw)
        assert answers(records) == truth(records)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_index_counts_as_none_and_is_made_again(records: Path, seed: int, monkeypatch: pytest.MonkeyPatch):
    draw, path, expected = random.Random(seed), records.parent / index.NAME, truth(records)
    for _ in range(10):
        answers(records)
        content = bytearray(path.read_bytes())
        match draw.choice(["flip", "cut", "empty", "folder", "pipe", "words"]):
            case "flip":
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
                path.write_bytes(content)
            case "cut":
                path.write_bytes(content[: draw.randrange(len(content))])
            case "empty":
                path.write_bytes(b"")
            case "folder":
                path.unlink()
                path.mkdir()
            case "pipe":
                path.unlink()
                os.mkfifo(path)
            case "words":
                path.write_text("not an index\n")
        assert answers(records) == expected
        if path.is_dir():
            shutil.rmtree(path)
    answers(records)
    assert opened(records, monkeypatch) == 0


def test_the_index_of_other_code_counts_as_none(records: Path, monkeypatch: pytest.MonkeyPatch):
    answers(records)
    monkeypatch.setattr(index, "code", lambda: "another")
    assert opened(records, monkeypatch) == RECORDS


def test_a_record_that_was_written_this_moment_has_no_entry_yet(records: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "YOUNG", 2_000_000_000)
    assert opened(records, monkeypatch) == RECORDS
    assert opened(records, monkeypatch) == RECORDS


def test_many_readers_and_writers_at_a_time_see_whole_records_alone(records: Path):
    """Eight stores at once, while records come: each sees all that was there before it looked."""
    (records.parent / index.NAME).unlink(missing_ok=True)
    wrong: list[object] = []
    made = [table7_record("c", seed, 70.0, 300, "quick") for seed in range(100, 180)]

    def read() -> None:
        for _ in range(6):
            there = {path.stem for path in records.glob("*.json")}
            store = Store(records.parent)
            if store.damage or not there <= {*store.records} or any(len(r.plain["id"]) != 12 for r in store.runs()):
                wrong.append((store.damage, there - {*store.records}))

    readers = [threading.Thread(target=read) for _ in range(8)]
    for thread in readers:
        thread.start()
    for record in made:
        Store(records.parent).add(record)
    for thread in readers:
        thread.join()
    assert wrong == []
    assert answers(records) == truth(records)


def test_whoever_may_not_write_there_does_without(records: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(memory, "write_atomically", refused)
    assert opened(records, monkeypatch) == RECORDS
    assert not (records.parent / index.NAME).exists()
    assert len(list(records.parent.glob(".*.tmp"))) == 0


@pytest.mark.parametrize("seed", range(4))
def test_specifications_that_differ_in_their_seed_are_read_as_each_alone_would_be(seed: int, tmp_path: Path):
    """Also edited by hand: another order, other seeds, a seed that is none, a word that looks like one."""
    draw, smoke = random.Random(seed), protocol("smoke")
    runs = plan(select(["table7"], smoke, None, range(4)), smoke, 2, Store())
    for _ in range(60):
        spec = json.loads(to_json(specification(draw.choice(runs), 2, None, None, Execution(), '"seed": 5,\n')))
        match draw.randrange(6):
            case 0:
                spec["seed"] = draw.choice([7, -1, 1.5, True, None, "1", 10**9])
            case 1:
                spec["runs"][0]["seed"] = draw.choice([7, -1, None, "1"])
            case 2:
                spec = dict(draw.sample(list(spec.items()), len(spec)))
            case 3:
                spec["runs"].append({"seed": spec["seed"]})
        path = tmp_path / "spec.json"
        path.write_text(json.dumps(spec, indent=draw.choice([1, 1, 1, 2])))
        try:
            expected: object = read(path, JobSpec, REMEDY)
        except Damaged as damaged:
            expected = str(damaged)
        try:
            found: object = alike(path.read_bytes(), str(path))[0]
        except Damaged as damaged:
            found = str(damaged)
        assert found == expected
