"""A training that is killed, anywhere and any number of times, ends with the bits of the undisturbed one.

Every process here is a real one (`tests/trainer.py`), every kill a SIGKILL, and every full disk full.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from segnext.training.state import load_state

TRAINER = str(REPOSITORY / "tests" / "trainer.py")
SHORT = {"train": {"iterations": 8, "batch": 2}}


def start(folder: Path, *before: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, TRAINER, json.dumps({"folder": str(folder), **SHORT, **options})],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], str]:
    """The exit code, what was said on stdout, and stderr."""
    try:
        out, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    return process.returncode, [json.loads(line) for line in out.splitlines()], errors


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the weights after eight steps."""
    code, said, errors = finish(start(tmp_path_factory.mktemp("undisturbed")))
    assert code == 0, errors
    return said[-1]["weights"]


@pytest.mark.long
def test_killed_in_a_write_in_the_loader_in_a_step_and_asked_to_leave(undisturbed: str, tmp_path: Path):
    # In the middle of writing the second state.
    code, _, _ = finish(start(tmp_path, die_in_write=1))
    assert code == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name.endswith(".tmp") for name in left] == [True, False], left
    assert left[1].startswith("00000002-")
    # In a loader's process: the trainer says so and leaves.
    code, _, errors = finish(start(tmp_path, die_in_load=4, execution={"workers": 2}))
    assert code == 1
    assert "killed by signal" in errors
    # Between a step and the next.
    code, said, errors = finish(start(tmp_path, die_in_step={"0": 3}))
    assert code == -signal.SIGKILL
    assert len(said) == 2, errors
    assert not list(tmp_path.glob(".*.tmp")), "what killed writes leave behind goes with the next write"
    # By a signal, which is no kill: it saves and leaves after the step.
    code, said, errors = finish(start(tmp_path, signal_in_step={"0": 2}, execution={"checkpoint_interval": 100}))
    assert code == 5, errors
    state = load_state(tmp_path)
    assert state is not None
    assert state["iteration"] == said[-2]["iteration"]
    code, said, errors = finish(start(tmp_path))
    assert code == 0, errors
    assert said[-1]["weights"] == undisturbed


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments(workers: int, undisturbed: str, tmp_path: Path):
    chance = random.Random(workers)
    execution = {"workers": workers, "checkpoint_interval": 1}
    kills = 0
    while True:
        process = start(tmp_path, execution=execution)
        assert process.stdout is not None
        # Two steps at least, so that the first one's state is there: or it had not as many to do.
        if not all("iteration" in process.stdout.readline() for _ in range(chance.randint(2, 3))):
            break
        time.sleep(chance.uniform(0, 0.05))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    finish(process)
    code, said, errors = finish(start(tmp_path, execution=execution))
    assert code == 0, errors
    assert said[-1]["weights"] == undisturbed
    assert kills >= 2


@pytest.mark.long
def test_a_file_that_may_not_grow_is_a_clear_failure_that_keeps_every_state(undisturbed: str, tmp_path: Path):
    code, _, errors = finish(start(tmp_path, stop={"0": 3}))
    assert code == 5, errors
    before = contents(tmp_path)
    code, _, errors = finish(start(tmp_path, largest_file=1_000_000))
    assert code == 1
    assert errors.splitlines()[-1] == "OSError: [Errno 27] File too large"
    assert contents(tmp_path) == before
    code, said, errors = finish(start(tmp_path))
    assert code == 0, errors
    assert said[-1]["weights"] == undisturbed


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not here: no small disk can be made")
@pytest.mark.long
def test_a_full_disk_is_a_clear_failure_that_keeps_every_state(undisturbed: str, tmp_path: Path):
    """A file system of 7 MB of its own, which the third state of 2.8 MB overfills; it vanishes with its process."""
    disk, rescued = tmp_path / "disk", tmp_path / "rescued"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=7m none "$0" || exit 77; "$@"; code=$?; cp -r "$0" "$OUT"; exit $code'
    before = ("env", f"OUT={rescued}", "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(disk))
    code, said, errors = finish(start(disk, *before))
    if not said and code in (1, 77):
        pytest.skip(f"no small disk can be made here: {errors.strip()}")
    assert code == 1
    assert "OSError: [Errno 28] No space left on device" in errors
    assert [path.name[:9] for path in sorted(rescued.iterdir())] == ["00000002-", "00000004-"]
    code, said, errors = finish(start(rescued))
    assert code == 0, errors
    assert said[0]["iteration"] == 5
    assert said[-1]["weights"] == undisturbed


@pytest.mark.long
def test_a_machine_that_cannot_compile_trains_to_the_same_bits_and_says_so(undisturbed: str, tmp_path: Path):
    cache = f"TORCHINDUCTOR_CACHE_DIR={tmp_path / 'cache'}"
    words = ("env", "CXX=/no/compiler", cache)
    code, said, errors = finish(start(tmp_path / "states", *words, execution={"compile": True}))
    assert code == 0, errors
    assert "torch.compile does not work here, training goes on without it" in errors
    assert said[-1]["weights"] == undisturbed


@pytest.mark.long(first=True)
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler is here")
def test_compiled_training_computes_the_same_beyond_rounding(tmp_path: Path):
    runs = [finish(start(tmp_path / str(compiled), execution={"compile": compiled})) for compiled in (False, True)]
    (_, eager, _), (code, compiled, errors) = runs
    assert code == 0, errors
    assert "does not work" not in errors
    assert compiled[-1]["weights"] != eager[-1]["weights"], "nothing was compiled"
    losses = [[line["loss"] for line in said if "loss" in line] for said in (eager, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
