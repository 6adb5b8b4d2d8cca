"""Where the kernels of this package are used: on CUDA tensors, if Triton is there and `SEGNEXT_PLAIN` is not set."""

from __future__ import annotations

import os
from importlib.util import find_spec

from torch import Tensor

FAST = os.environ.get("SEGNEXT_PLAIN", "") in ("", "0") and find_spec("triton") is not None
"""Read once, so that `torch.compile` sees a constant. `SEGNEXT_PLAIN=1` computes with PyTorch's own operators alone."""


def is_fast(x: Tensor) -> bool:
    """Whether this tensor, of any shape, takes the fast path. A CPU never does: its bits stay what they are."""
    return FAST and x.is_cuda
