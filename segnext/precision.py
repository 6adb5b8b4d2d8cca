"""The precision of multiplications: float32, TF32, or half precision by autocast."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
from torch import Tensor

from segnext.config import Execution

HALF = ("bfloat16", "float16")


def set_up(execution: Execution) -> None:
    """Apply the execution's precision, cuDNN benchmarking and determinism to torch's global settings.

    On a CPU "tf32" means float32.
    """
    tf32 = execution.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if execution.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.backends.cudnn.benchmark = execution.cudnn_benchmark and not execution.deterministic
    if "inductor" in execution.compile:
        torch.use_deterministic_algorithms(execution.deterministic)  # tells Inductor, which takes 1.5 s to import
    else:
        torch.set_deterministic_debug_mode("error" if execution.deterministic else "default")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass: autocast for half precision, otherwise one that does nothing."""
    if precision not in HALF:
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context that switches autocast off, because iterated and hand-written products need float32."""
    if x.device.type == "meta":  # costs are counted on it, and it has no autocast
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
