"""What every test shares: folders of its own for results and runs, one thread, the way to ../shared, and SLURM."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from segnext.config import Model
from slurm import Cluster, NoSlurm

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
settings.register_profile("noisy machines", deadline=None)
settings.load_profile("noisy machines")

FUZZ = int(os.environ.get("SEGNEXT_FUZZ", "100"))
"""How many inputs each fuzzer tries; `make fuzz`: a thousand."""

TESTS = REPOSITORY / "tests"
FIXTURES = TESTS / "fixtures"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that at the end no process works alone on one of them."""
    items.sort(key=lambda item: not any(mark.kwargs.get("first") for mark in item.iter_markers("long")))


def needs(extra: str, *modules: str, target: str = "oracle") -> pytest.MarkDecorator:
    """Skips where an extra is not installed; with SEGNEXT_EXTRAS set, as its make target does, that is a failure."""
    missing = [module for module in modules if find_spec(module) is None]
    reason = f"the extra `{extra}` is not installed (no {', '.join(missing)}); `make {target}` has it"
    return pytest.mark.skipif(bool(missing) and "SEGNEXT_EXTRAS" not in os.environ, reason=reason)


def does(module: str, *words: str, code: int = 0, cwd: Path = REPOSITORY) -> str:
    """What a command says, in a process of its own that ends with this code and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def interruptible() -> None:
    """For `preexec_fn`: a shell's background job, and every test in it, starts its processes deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def named(value: object) -> str | None:
    """A short id for a model in a parametrised test: the fields that differ from the defaults."""
    if not isinstance(value, Model):
        return None
    values = ((field.name, getattr(value, field.name), field.default) for field in dataclasses.fields(value))
    return ",".join(f"{name}={own}" for name, own, default in values if own != default) or "default"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the project's results and runs."""
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("SEGNEXT_DATA", raising=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def measured(results: Path) -> None:
    """The committed cost records, so that a test about training need not measure them."""
    (results / "records").mkdir(parents=True)
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        shutil.copy(path, results / "records")


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts programs on the PATH that print what is given, and note that they were called."""
    from studies.slurm import scheduler

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(scheduler, "BUSY_SECONDS", (0.01, 0.01))

    def program(name: str, text: str, code: int = 0, error: str = "") -> None:
        (tmp_path / f"{name}.txt").write_text(text)
        (tmp_path / f"{name}.err").write_text(error)
        path = tmp_path / name
        path.write_text(
            f"#!/bin/sh\necho {name} >> {tmp_path}/asked\necho {name} $* >> {tmp_path}/words\n"
            f"env > {tmp_path}/{name}.env\ncat {tmp_path}/{name}.txt\n"
            f"cat {tmp_path}/{name}.err >&2\nexit {code}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IEXEC)

    program.asked = lambda: (tmp_path / "asked").read_text().split()  # type: ignore[attr-defined]
    return program


@pytest.fixture
def shared() -> Path:
    """The folder with the paper's data, the released code's values and CamVid; CI has it."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here: it holds the released code's values and CamVid")
    return SHARED


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A SLURM of two nodes, with accounting and arrays of at most 10 elements; shared, so leave it as you found it."""
    with started(extra="MaxArraySize=11") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster_without_accounting() -> Iterator[Cluster]:
    """A SLURM of one node where sacct knows nothing."""
    with started(nodes=1, accounting=0) as cluster:
        yield cluster


@contextmanager
def started(**settings: object) -> Iterator[Cluster]:
    """A cluster of one's own; where SLURM cannot be had, the test is skipped."""
    try:
        cluster = Cluster.up(**settings)
    except NoSlurm as error:
        pytest.skip(str(error))
    try:
        yield cluster
    finally:
        cluster.down()
