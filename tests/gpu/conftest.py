import os

import pytest
import torch


@pytest.fixture
def device():
    if os.environ.get("SEGNEXT_GPU_TESTS_ON") == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no cuda")
    return torch.device("cuda")
