"""Parameters and FLOPs by fvcore, by the paper's counting convention and by fvcore's own."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

with warnings.catch_warnings():  # fvcore's last release scripts functions of its own, unused here, at import
    for category in (FutureWarning, DeprecationWarning):  # the former in current torch, the latter in 2.11
        warnings.simplefilter("ignore", category)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

from segnext.config import Cost
from segnext.model import build_network

_Handle = Callable[[list[Any], list[Any]], Any]  # a traced operator's inputs and outputs -> its count


@dataclass(frozen=True)
class Measured:
    """Trainable parameters, and multiply-adds in units of 1e9 (the paper's "GFLOPs")."""

    params: int
    gmacs: float  # as the paper's tool counts
    gmacs_fvcore: float  # as fvcore counts


def measure(cost: Cost) -> Measured:
    """Build the network and count its parameters and multiply-adds for evaluating one image.

    It propagates only shapes, on the meta device: SegNeXt-L at 1024x2048 takes seconds and no memory, and the counts
    are those of a real pass.
    """
    with torch.device("meta"), _Undrawn():
        network = build_network(cost.model, cost.classes, cost.task).eval()
        image = torch.empty(1, 3, cost.height, cost.width)
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Measured(params, *(count / 1e9 for count in multiply_adds(network, image)))


def multiply_adds(network: nn.Module, image: Tensor) -> tuple[float, float]:
    """Multiply-adds of one pass as the paper's tool counts them and as fvcore does, from one trace."""
    analysis = FlopCountAnalysis(network, image)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    fvcore: Mapping[str, _Handle] = analysis._op_handles
    operators = fvcore.keys() | _PAPER.keys()
    analysis.set_op_handle(**{name: _both(_PAPER.get(name, fvcore.get(name)), fvcore.get(name)) for name in operators})
    with _Traceable(), torch.no_grad():
        counts = analysis.by_operator()
    return float(counts["paper"]), float(counts["fvcore"])


def _both(paper: _Handle | None, fvcore: _Handle | None) -> _Handle:
    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for convention, handle in (("paper", paper), ("fvcore", fvcore)):
            if handle is not None:
                counted = handle(inputs, outputs)  # a number, or a Counter by fvcore's name of the operator
                counts[convention] = sum(counted.values()) if isinstance(counted, Counter) else counted
        return counts

    return count


def _per_output(inputs: list[Any], outputs: list[Any]) -> int:
    return math.prod(get_shape(outputs[0]))


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


# The paper counted with torchprofile 0.0.4 (tools/get_flops.py:9). It counts a multiply-add once, one per output
# element for products, normalisations and means, and nothing for einsum. Its counts of convolutions, matrix products
# and bilinear resizing (four per output element) agree with fvcore's.
_PAPER: dict[str, _Handle] = {
    "aten::mul": _per_output,
    "aten::batch_norm": _per_output,
    "aten::group_norm": _per_output,
    "aten::layer_norm": _per_output,
    "aten::mean": _per_output,
    "aten::einsum": _nothing,
}


class _Traceable(TorchFunctionMode):
    """Makes convolutions on the meta device visible to the tracer that fvcore uses.

    The tracer records `_convolution`, which `conv2d` calls on a CPU but not on the meta device. So this calls
    `_convolution` directly.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is not torch.conv2d:
            return function(*args, **(kwargs or {}))
        x, weight, bias, stride, padding, dilation, groups = args
        return torch._convolution(
            x, weight, bias, stride, padding, dilation, False, (0, 0), groups, False, False, False, False
        )


def _shape_alone(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *rest: Any,
) -> Tensor:
    """The output of a convolution on the meta device: its shape without values."""
    sides = [
        (int(x.shape[2 + i]) + 2 * padding[i] - dilation[i] * (int(weight.shape[2 + i]) - 1) - 1) // stride[i] + 1
        for i in range(2)
    ]
    return x.new_empty((int(x.shape[0]), int(weight.shape[0]), *sides))


_META = torch.library.Library("aten", "IMPL", "Meta")
try:
    with torch.device("meta"), _Traceable():
        torch.conv2d(torch.empty(1, 1, 1, 1), torch.empty(1, 1, 1, 1), None, (1, 1), (0, 0), (1, 1), 1)
except NotImplementedError:  # torch 2.11 implements it only for CPUs and GPUs
    _META.impl("convolution_overrideable", _shape_alone)


class _Undrawn(TorchFunctionMode):
    """Skips initialisers while a network is built on the meta device, which saves a quarter of the time."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init" or function in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)
