"""How numbers are multiplied: float32 proper, TF32, or autocast to half precision."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
from torch import Tensor

from segnext.config import Execution

HALF = ("bfloat16", "float16")


def set_up(execution: Execution) -> None:
    """Let this process compute as the execution says: TF32, cuDNN's choice of algorithms, determinism.

    These are torch's global settings. On a CPU "tf32" is float32.
    """
    tf32 = execution.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if execution.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS asks for the same bits every time
    torch.backends.cudnn.benchmark = execution.cudnn_benchmark and not execution.deterministic
    torch.use_deterministic_algorithms(execution.deterministic)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """What a forward pass runs under: autocast for half precision, nothing otherwise."""
    if precision not in HALF:
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Switches autocast off: iterated and hand-written products need float32."""
    if x.device.type == "meta":  # on which costs are counted, and which has no autocast
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
