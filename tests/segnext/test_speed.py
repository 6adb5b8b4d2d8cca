"""Latency and peak memory are those of evaluating one image: predicted, then measured; facts of their platform."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY
from records import speed_record

from segnext.config import Model, Platform, Speed
from segnext.measure import machine
from segnext.measure.speed import Measured, measure, predict_memory
from studies import run
from studies.declare.protocols import protocol
from studies.plan.runs import select, speeds
from studies.records.store import Store, square_speed
from studies.tables import study

HERE = Platform("Example CPU", 8, "2.11.0")
MICRO, NL = Model("micro"), Model("micro", context="nl")


def speed(model: Model, side: int = 64, platform: Platform = HERE) -> Speed:
    return Speed(model, 5, side, side, platform)


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(speed(MICRO, 256))


def test_a_measurement_is_whole_and_ordered(measured: Measured):
    assert measured.reason == ""
    assert 0 < measured.lower_quartile <= measured.latency <= measured.upper_quartile
    assert measured.passes >= 3


@pytest.mark.skipif(machine.resident() is None, reason="only Linux keeps accounts of resident memory")
def test_the_memory_that_is_occupied_is_the_predicted_one_and_what_operators_work_in(measured: Measured):
    assert measured.predicted_memory <= measured.memory < measured.predicted_memory + 64e6


def test_the_predicted_peak_of_nl_is_two_matrices_of_the_square_and_of_ham_linear():
    """Scores of float32 before and after scaling, or before and after softmax, are alive at once."""
    tokens, channels = (512 // 8) ** 2, 64
    beside = predict_memory(speed(NL, 512)) - 2 * 4 * tokens**2
    assert 0 < beside < 4 * 10 * channels * tokens
    assert predict_memory(speed(MICRO, 512)) == 4 * predict_memory(speed(MICRO, 256))


def test_a_pass_needs_what_a_prediction_by_hand_says():
    """A bare chain: the tracker frees what nobody refers to any more and counts views once."""
    from segnext.measure.speed import _Tracker

    x = torch.ones(1000)
    with _Tracker([x]) as tracker:
        y = x.view(10, 100) + 1
        z = y.view(-1) * 2
        assert (tracker.alive, tracker.peak) == (8000, 8000)
        del y
        assert tracker.alive == 4000
        z = z + z
        assert (tracker.alive, tracker.peak) == (4000, 8000)


def test_half_precision_needs_less():
    half = dataclasses.replace(HERE, precision="bfloat16")
    assert predict_memory(speed(MICRO, 256, half)) < predict_memory(speed(MICRO, 256))


def test_what_cannot_fit_is_a_fact_and_nothing_is_run():
    large = measure(speed(NL, 8192))
    assert re.fullmatch(r"needs about 8[78]\d\d\.\d GB, 8\.6 GB are there", large.reason)
    assert large.latency is None
    assert large.predicted_memory > 8 * 2**30


def test_what_does_not_fit_now_is_no_fact():
    """A platform said to have more memory than is free: an error of the moment, which names both."""
    whole = machine.available() // 2**30 + 10_000
    with pytest.raises(MemoryError, match=r"needs about 8\d{3}.* GB are free now"):
        measure(speed(NL, 8192, dataclasses.replace(HERE, memory_gib=whole)))


def test_an_error_in_the_measuring_process_says_where():
    with pytest.raises(RuntimeError, match="too small"):
        measure(speed(MICRO, 16))


def test_a_killed_measuring_process_is_said_to_be_one():
    code = (
        "import os, sys, threading, time, multiprocessing as m\n"
        "from segnext.measure.speed import measure\nfrom segnext.config import *\n"
        "def kill():\n"
        "    while not m.active_children(): time.sleep(0.01)\n"
        "    m.active_children()[0].kill()\n"
        "if __name__ == '__main__':\n"
        "    threading.Thread(target=kill, daemon=True).start()\n"
        "    try: measure(Speed(Model('micro'), 5, 64, 64, Platform('x', 8, '2')))\n"
        "    except ChildProcessError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "exit code -9" in done.stdout, done.stderr


def test_speeds_are_planned_once_per_platform():
    table1, store = study("table1"), Store()
    selection = select(["table1"], protocol("quick"), ["t", "nl"], None)
    wanted = speeds(selection, HERE, store)
    assert [label for label, _ in wanted[:2]] == ["table1/t 256x256", "table1/nl 256x256"]
    assert len(wanted) == 2 * len(table1.squares)
    first = wanted[0][1]
    assert first == square_speed(table1, table1.row("t"), 256, HERE)
    store.add(speed_record(first, 0.5, 2, predicted_memory=1))
    assert store.speed(first)["latency"] == 0.5
    assert first not in [speed for _, speed in speeds(selection, HERE, store)]
    elsewhere = dataclasses.replace(HERE, processor="Other CPU")
    assert len(speeds(selection, elsewhere, store)) == len(wanted)
    assert store.platforms() == [HERE]


def test_frames_of_every_size_are_timed_when_speeds_are_asked_for(capsys: pytest.CaptureFixture[str]):
    wanted = speeds(select(["table11"], protocol("quick"), None, None), HERE, Store())
    assert [label for label, _ in wanted] == [f"table11 SegNeXt-{size} 768x1536" for size in "TSBL"]
    assert {(speed.classes, speed.height, speed.width) for _, speed in wanted} == {(19, 768, 1536)}
    assert run.main(["table11", "--only", "speed", "--dry-run"]) == 0
    assert "4 speeds to measure" in capsys.readouterr().out
    assert run.main(["table11", "--protocol", "quick", "--dry-run"]) == 0
    assert "speeds" not in capsys.readouterr().out


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """The command with Table 1 over squares that fit nowhere: what it records is then the same on any machine."""
    code = (
        "import dataclasses, sys, studies.run, studies.tables.table1 as t\n"
        "if __name__ == '__main__':\n"
        "    t.STUDY = dataclasses.replace(t.STUDY, squares=(32768, 65536))\n"
        "    sys.exit(studies.run.main(sys.argv[1:]))\n"
    )
    words = (sys.executable, "-c", code, *words)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_the_command_records_what_does_not_fit_and_does_not_try_it_again():
    first = command("table1/nl", "--only", "speed")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "speed 2/2 table1/nl 65536x65536: needs about" in first.stdout
    records = [r for r in Store().records.values() if r["kind"] == "speed"]
    assert len(records) == 2
    assert all(r["latency"] is None and "GB are there" in r["reason"] for r in records)
    assert all(torch.__version__.startswith(r["config"]["platform"]["torch"]) for r in records)
    assert "speeds" not in command("table1/nl", "--only", "speed", "--dry-run").stdout
    again = command("table1/nl", "--only", "speed", "--threads", "2", "--dry-run")
    assert "2 speeds to measure" in again.stdout  # with other threads it is another measurement


def test_a_dry_run_says_how_many_speeds_and_counting_costs_times_nothing(capsys: pytest.CaptureFixture[str]):
    assert run.main(["table1", "--dry-run"]) == 0
    assert "21 costs to measure; 21 speeds to measure" in capsys.readouterr().out
    assert run.main(["table1", "--only", "cost", "--dry-run"]) == 0
    assert run.main(["table7", "--protocol", "quick", "--dry-run"]) == 0
    assert "speeds" not in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_exits_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        run.main(["table1/t", "--only", "speed", "--device", "cuda", "--dry-run"])
    assert "--device cuda: torch" in capsys.readouterr().err
