"""Parameters and FLOPs through fvcore, under the paper's counting convention and under fvcore's own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():  # fvcore's last release scripts functions of its own, unused here, at import
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

from segnext.config import Cost
from segnext.model import SegNeXt

_Handles = dict[str, Callable[..., Any] | None]  # operator -> count; None: not counted


@dataclass(frozen=True)
class Measured:
    """Trainable parameters, and multiply-adds in units of 1e9 (the paper's "GFLOPs")."""

    params: int
    gmacs: float  # as the paper's tool counts
    gmacs_fvcore: float  # as fvcore counts


def measure(cost: Cost) -> Measured:
    """Build the model and measure it in evaluation on one image."""
    model = SegNeXt(cost.model, cost.classes).eval()
    image = torch.zeros(1, 3, cost.height, cost.width)
    params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Measured(params, _count(model, image, _PAPER) / 1e9, _count(model, image, {}) / 1e9)


def _count(model: nn.Module, image: torch.Tensor, handles: _Handles) -> float:
    analysis = FlopCountAnalysis(model, image)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle(**handles)
    return float(analysis.total())


def _per_output(inputs: list[Any], outputs: list[Any]) -> int:
    return math.prod(get_shape(outputs[0]))


# The paper counted with torchprofile 0.0.4 (tools/get_flops.py:9): a multiply-add once, one per output element
# of products and normalisations, nothing for einsum; convolutions, matrix products and the four per output element of
# bilinear resizing agree with fvcore's own count.
_PAPER: _Handles = {
    "aten::mul": _per_output,
    "aten::batch_norm": _per_output,
    "aten::group_norm": _per_output,
    "aten::layer_norm": _per_output,
    "aten::einsum": None,
}
