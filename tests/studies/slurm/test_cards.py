"""Cards of one machine are given to runs evenly, and memory is counted run by run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segnext.config import Execution
from studies import run
from studies.declare.protocols import protocol
from studies.launch.cards import Cards
from studies.launch.local import Outcome, run_local
from studies.launch.sharing import memory_of
from studies.plan.jobspec import specification
from studies.plan.runs import PlannedRun, plan, select
from studies.records.store import Store
from studies.records.workspace import Workspace


def test_runs_spread_over_all_cards_and_a_card_that_is_free_is_the_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 2,GPU-5f")
    cards = Cards.of(Execution(device="cuda"), 2)
    assert cards.room == 6
    given = [cards.take(str(number))["CUDA_VISIBLE_DEVICES"] for number in range(6)]
    assert given == ["0", "2", "GPU-5f"] * 2
    cards.leave("4")
    assert cards.take("6") == {"CUDA_VISIBLE_DEVICES": "2", "SEGNEXT_SHARING": "2"}


def test_a_run_of_several_processes_has_a_card_for_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    cards = Cards.of(Execution(device="cuda", processes=2), 0)
    assert cards.places == ("0,1", "2,3")


@pytest.mark.parametrize("device", ["cuda:1", "cpu"])
def test_a_card_that_was_named_is_every_runs(device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "CUDA_VISIBLE_DEVICES" not in Cards.of(Execution(device=device), 3).take("a")


def test_without_a_card_nothing_is_shared(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        run.main(["table7/c@0", "--protocol", "quick", "--per-gpu", "4"])
    assert refused.value.code == 2
    assert "--per-gpu: --device cpu is no card" in capsys.readouterr().err


def test_the_memory_of_a_run_is_its_own_and_its_loaders():
    hog = "import time; kept = bytearray(b'1') * (64 << 20); print(flush=True); time.sleep(60)"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hog!r}])"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
        for program in (nested, "import time; print(flush=True); time.sleep(60)")
    ]
    try:
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        parent, alone = memory_of([process.pid for process in processes]).values()
        assert parent > 64 << 20 > alone
    finally:
        for process in processes:
            subprocess.run(["kill", "--", f"-{process.pid}"], check=True)
            process.communicate()
    assert memory_of([processes[0].pid]) == {processes[0].pid: 0}


@pytest.mark.long
def test_runs_of_a_machine_are_started_on_its_cards_in_turn():
    smoke = protocol("smoke")
    runs = [planned for planned in plan(select(["table7"], smoke, None, None), smoke, 1, Store()) if planned.upstream][
        :2
    ]
    for planned in runs:
        Workspace(planned.id).folder.mkdir(parents=True)
        Workspace(planned.id).write_spec(specification(planned, 1, None, None, Execution(), "a test"))
    seen: dict[str, str] = {}

    class Watcher:
        def progressed(self, planned: PlannedRun, phase: str, done: int, total: int, note: str) -> None:
            owner = Workspace(planned.id).owner()
            if owner is not None and planned.id not in seen:
                variables = Path(f"/proc/{owner.process.pid}/environ").read_text().split("\0")
                seen[planned.id] = next(word for word in variables if word.startswith("CUDA_VISIBLE_DEVICES="))

        def ended(self, planned: PlannedRun, outcome: Outcome) -> None:
            assert outcome.state == "done", outcome

    outcomes = run_local(runs, 2, Execution(), Watcher(), lambda: False, Cards(("0", "1")))
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert sorted(seen.values()) == ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"]
