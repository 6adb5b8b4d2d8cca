"""Damaged states and weights, other data, killed loaders: what a run makes of them. Real processes, real files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from processes import camvid, command, eventually, trained
from processes import run as runs_command
from torch.utils.data import Dataset

from segnext.data.ahead import in_order
from studies import run
from studies.declare.protocols import protocol
from studies.plan.runs import metrics_shown, plan, select
from studies.plan.weights import sha256
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.tables import study

SMOKE = ("table7/c@0", "--protocol", "smoke")
LEFT = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "1", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def lab(tmp_path: Path) -> None:
    """Costs are there, so that a test about training need not measure them."""
    (tmp_path / "results" / "records").mkdir(parents=True)
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        shutil.copy(path, tmp_path / "results" / "records")


def does(*words: str, code: int = 0, **environment: str) -> str:
    done = runs_command(*words, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def workspaces(*words: str, limit: int) -> list[Workspace]:
    """Those of the run and of what it starts from, the first first."""
    chosen = protocol(words[words.index("--protocol") + 1])
    planned_runs = plan(select([words[0]], chosen, None, None), chosen, limit, Store(Path("nowhere")))
    return [Workspace(planned.id) for planned in planned_runs]


def flip(path: Path) -> None:
    """One bit in the middle of a tensor: torch loads it without a word."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def killed_after(iteration: int, words: tuple[str, ...], workspace: Workspace) -> None:
    """Kill the run's worker once it has saved a state of so many iterations at least."""
    process = subprocess.Popen(command(*words), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    eventually(lambda: workspace.last_state() >= iteration)
    owner = workspace.owner()
    assert owner is not None
    os.kill(owner.process.pid, signal.SIGKILL)
    assert process.wait(timeout=120) == 1


@pytest.mark.long
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_newest_state_doubles_nothing(both: bool, tmp_path: Path):
    words = ("table7/b@0", "--protocol", "quick", "--limit-iterations", "50", "--evaluate-every", "10")
    (workspace,) = workspaces(*words, limit=50)
    killed_after(20, words, workspace)
    names = sorted(path.name for path in workspace.states.glob("*.pt"))
    older = int(names[0][:8])
    for name in names if both else names[1:]:
        path = workspace.states / name
        path.write_bytes(path.read_bytes()[:1000])
    does(*words)
    first, second = workspace.attempts()
    assert first.cause == "killed"
    assert second.begins_after == (0 if both else older)
    for ending, iterations in (("", range(10, 51, 10)), ("-tests", range(10, 41, 10))):
        lines = (tmp_path / "results" / "curves" / f"{workspace.run_id}{ending}.csv").read_text().splitlines()[1:]
        assert [int(line.split(",")[0]) for line in lines] == list(iterations)
    kept = sorted(path.name for path in workspace.states.iterdir())
    assert [name[:8] for name in kept] == ["00000040", "00000050"], "a damaged one pushed out a good one"


@pytest.mark.long
def test_weights_with_a_flipped_bit_are_no_test_and_no_beginning_and_both_digests_are_named():
    words = (*SMOKE, "--limit-iterations", "2")
    first, own = workspaces(*words, limit=2)
    does(*words)
    recorded = {key: Store().records[key]["weights"]["sha256"] for key in (first.run_id, own.run_id)}
    flip(own.weights)
    said = does(*words, "--only", "evaluate", "--ham-seeds", "1", code=1)
    for word in ("other_weights", recorded[own.run_id], sha256(own.weights), str(own.weights), "--rerun done"):
        assert word in said
    assert not Store().kind("evaluation")
    said = does("figures", "--rows", "table7/c", "--protocol", "smoke", "--limit-iterations", "2", code=3)
    assert recorded[own.run_id] in said
    assert sha256(own.weights) in said
    does(*words, "--rerun", "done")
    assert Store().records[own.run_id]["weights"]["sha256"] == sha256(own.weights) == recorded[own.run_id]

    flip(first.weights)
    said = does(*words, "--rerun", "done", code=1)
    for word in ("other_weights", recorded[first.run_id], sha256(first.weights)):
        assert word in said
    assert own.attempts()[-1].cause == "other_weights"


@pytest.mark.long
def test_trained_weights_that_are_damaged_before_their_test_are_recorded_whole():
    words = (*SMOKE, "--limit-iterations", "2")
    _, own = workspaces(*words, limit=2)
    does(*words, "--only", "train")
    before = sha256(own.weights)
    flip(own.weights)
    does(*words, "--only", "evaluate")
    assert Store().records[own.run_id]["weights"]["sha256"] == sha256(own.weights) == before


@pytest.mark.long
def test_a_run_goes_on_with_its_own_data_alone_and_a_record_of_others_is_stale(tmp_path: Path, capsys):
    small, large = camvid(tmp_path / "small"), camvid(tmp_path / "large", frames=3)
    words = ("table7/b@0", "--protocol", "camvid-half", "--limit-iterations", "2", "--evaluate-every", "1")
    (workspace,) = workspaces(*words, limit=2)
    test = small / "test" / "test0.png"
    whole, damaged = test.read_bytes(), test.read_bytes()[:200]
    test.write_bytes(damaged)  # the test on the way fails: one iteration is done
    does(*words, "--data-root", str(small), code=1)
    assert [workspace.last_state(), workspace.attempts()[-1].cause] == [1, "data"]
    test.write_bytes(whole)
    again = (*words, "--retry", "data", "--data-root")
    said = does(*again, str(large), code=1)
    attempt = workspace.attempts()[-1]
    assert attempt.cause == "other_data"
    assert f"the state after 1 iterations in {workspace.states} was trained on data with the fingerprint" in said
    assert "continue with those that it began with" in said
    apart = {"SEGNEXT_RUNS": str(tmp_path / "anew"), "SEGNEXT_RESULTS": str(tmp_path / "anew-results")}
    shutil.copytree(tmp_path / "runs", apart["SEGNEXT_RUNS"])
    shutil.copytree(tmp_path / "results", apart["SEGNEXT_RESULTS"])
    does(*words, "--rerun", "failed", "--data-root", str(large), **apart)
    (anew,) = Store(tmp_path / "anew-results").kind("run")
    assert anew["provenance"]["data"]["train_images"] == 3

    does(*again, str(small))
    record = Store().records[workspace.run_id]
    assert record["provenance"]["data"]["train_images"] == 2
    assert workspace.attempts()[-1].begins_after == 1

    for root, starts in ((large, 1), (small, 0), (tmp_path / "nowhere", 0)):
        assert run.main([*words, "--rerun", "stale", "--dry-run", "--data-root", str(root)]) == 0
        said = capsys.readouterr().out
        assert f"{starts} would start" in said
        assert ("made from other data than those at hand" in said) == bool(starts)


LOADED = ("table7/b@0", "--protocol", "quick", "--limit-iterations", "40", "--workers", "2")


def loading(runs: Path, act: Callable[[int], None]) -> tuple[Workspace, str, int]:
    """Start a run with loaders, do something to its worker after a few steps; what was said, and the exit code."""
    (workspace,) = workspaces(*LOADED, limit=40)
    process = subprocess.Popen(
        command(*LOADED), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    eventually(trained(runs, workspace.run_id, 3))
    owner = workspace.owner()
    assert owner is not None
    act(owner.process.pid)
    said, _ = process.communicate(timeout=120)
    return workspace, said, process.returncode


@pytest.mark.long
def test_sigterm_to_the_process_group_of_a_run_with_loaders_saves_and_continues(tmp_path: Path):
    workspace, said, code = loading(tmp_path / "runs", lambda pid: os.killpg(pid, signal.SIGTERM))
    assert code == 5, said
    assert workspace.attempts()[-1].cause == "stopped"
    assert workspace.last_state() >= 3
    assert not list(Path(f"/proc/{workspace.attempts()[-1].pid}").glob("task"))
    does(*LOADED)
    assert workspace.attempts()[-1].begins_after >= 3


@pytest.mark.long
def test_a_killed_loader_ends_its_run_as_killed_and_the_same_command_continues(tmp_path: Path):
    def kill_a_loader(pid: int) -> None:
        loader, *_ = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(loader), signal.SIGKILL)

    workspace, said, code = loading(tmp_path / "runs", kill_a_loader)
    assert code == 1, said
    assert workspace.attempts()[-1].cause == "killed"
    does(*LOADED)
    assert Store().path(workspace.run_id).exists()


class Masks(Dataset[set[int]]):
    """Which signals the process that loads is deaf to."""

    def __getitem__(self, index: int) -> set[int]:
        return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def test_loaders_are_deaf_from_their_first_instruction_on_and_who_starts_them_is_not():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loader, own = (next(in_order(Masks(), [0], workers)) for workers in (1, 0))
    assert loader - own == {signal.SIGTERM, signal.SIGINT, signal.SIGUSR2}
    assert own == before == signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_what_another_launcher_left_in_the_environment_changes_nothing(processes: int):
    words = ("table7/c@0", "--protocol", "quick", "--limit-iterations", "2", "--gpus", str(processes))
    does(*words, **LEFT)
    (workspace,) = workspaces(*words, limit=2)
    assert Store().records[workspace.run_id]["provenance"]["processes"] == processes


@pytest.mark.long
def test_a_test_measures_what_tables_show_and_more_on_request():
    paper, quick = protocol("paper"), protocol("quick")

    def of(table: str, row: str) -> set[str]:
        declared = study(table)
        return metrics_shown(paper.run(declared.panels[0], declared.row(row), 0))

    assert of("table4", "t") == {"miou_ss"}
    assert of("table9", "t") == {"miou_ss", "miou_ms"}
    declared = study("table5")
    (panel, *_) = [panel for panel in quick.panels(declared) if panel.accuracies == ("miou_ss",)]
    (row, *_) = filter(panel.trains, declared.trained)
    words = (f"table5/{row.slug}@0", "--protocol", "quick", "--limit-iterations", "2", "--datasets", panel.dataset)
    identifier = quick.run(panel, row, 0, 2).id
    does(*words)
    record = Store().records[identifier]
    assert record["metrics"]["miou_ss"] is not None
    assert "miou_ms" not in record["metrics"]
    assert "confusion_ms" not in record
    does(*words, "--also", "multi-scale", "--rerun", "done")
    record = Store().records[identifier]
    assert np.isfinite(record["metrics"]["miou_ms"])
    assert len(record["confusion_ms"]) == len(record["confusion"])
    spec = json.loads((Workspace(identifier).folder / "spec.json").read_text())
    assert spec["options"][spec["options"].index("--also") + 1] == "multi-scale"
