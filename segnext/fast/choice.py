"""When this package computes in the place of PyTorch: on CUDA tensors if Triton is installed, on a CPU where it helps.

`SEGNEXT_PLAIN=1` leaves everything to PyTorch.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from torch import Tensor

PLAIN = os.environ.get("SEGNEXT_PLAIN", "") not in ("", "0")
"""Whether PyTorch's own operators alone compute."""

FAST = not PLAIN and find_spec("triton") is not None
"""Read once, so that `torch.compile` sees a constant."""


def is_fast(x: Tensor) -> bool:
    """Whether this tensor, of any shape, takes the fast path. On a CPU it never does."""
    return FAST and x.is_cuda
