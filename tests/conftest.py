"""What every test shares: folders of its own for results and runs, one thread, and the way to ../shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
settings.register_profile("noisy machines", deadline=None)
settings.load_profile("noisy machines")

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the project's results and runs."""
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("SEGNEXT_DATA", raising=False)


@pytest.fixture
def shared() -> Path:
    """The folder with the paper's data, the released code's values and CamVid; CI has it."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here: it holds the released code's values and CamVid")
    return SHARED
