"""When the kernels of this package are used: on CUDA tensors, if Triton is installed and `SEGNEXT_PLAIN` is not set."""

from __future__ import annotations

import os
from importlib.util import find_spec

from torch import Tensor

FAST = os.environ.get("SEGNEXT_PLAIN", "") in ("", "0") and find_spec("triton") is not None
"""Read once, so that `torch.compile` sees a constant. `SEGNEXT_PLAIN=1` computes with PyTorch's own operators alone."""


def is_fast(x: Tensor) -> bool:
    """Whether this tensor, of any shape, takes the fast path. On a CPU it never does: results there keep their bits."""
    return FAST and x.is_cuda
