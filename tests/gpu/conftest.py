"""What needs CUDA: skipped with the reason where there is none; `make gpu` runs it.

With SEGNEXT_GPU_TESTS_ON=cpu every line runs on the CPU instead: a rehearsal, for a card is there for minutes only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from segnext.config import Execution
from segnext.precision import set_up

ON_CPU = os.environ.get("SEGNEXT_GPU_TESTS_ON") == "cpu"


FOREIGN = (  # warnings of torch about itself, which are errors everywhere else
    "ignore:Synchronization debug mode is a prototype:UserWarning",
    "ignore:TensorFloat32 tensor cores:UserWarning",
    "ignore:.*torch.jit.script:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in FOREIGN:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "no GPU: torch.cuda.is_available() is false; SEGNEXT_GPU_TESTS_ON=cpu rehearses these tests"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not ON_CPU and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def device() -> torch.device:
    """The card, or the CPU in a rehearsal."""
    return torch.device("cpu" if ON_CPU else "cuda")


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """TF32 is off when a test begins, and torch's global settings do not outlive it."""
    set_up(Execution(cudnn_benchmark=False))
    yield
    set_up(Execution(cudnn_benchmark=False))
    if not ON_CPU and torch.cuda.is_available():
        torch.cuda.empty_cache()
