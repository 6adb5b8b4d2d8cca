"""`nn.Conv2d` with the fastest implementation that we know: on CUDA, and of gradients on a CPU; elsewhere itself."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.fast import depthwise_cpu
from segnext.fast.choice import is_fast


class DepthwiseConv2d(nn.Conv2d):
    """A depth-wise convolution with stride 1 that keeps the size: `(B, C, H, W) -> (B, C, H, W)`."""

    def __init__(self, channels: int, height: int, width: int, dilation: int = 1) -> None:
        padding = (height // 2 * dilation, width // 2 * dilation)
        super().__init__(channels, channels, (height, width), padding=padding, dilation=dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        if is_fast(x):
            return fast_depthwise(self, x)
        if self.dilation == (1, 1) and depthwise_cpu.helps(x, self.weight):
            return depthwise_cpu.depthwise(x, self.weight, self.bias)
        return super().forward(x)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution: `(B, C, H, W) -> (B, D, H, W)`."""

    def __init__(self, entering: int, leaving: int, bias: bool = True) -> None:
        super().__init__(entering, leaving, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return fast_pointwise(self, x) if is_fast(x) else super().forward(x)


def fast_depthwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A depth-wise convolution with stride 1 by our own kernel; it keeps the shape `(B, C, H, W)`."""
    from segnext.fast import depthwise as kernels  # imports Triton

    return kernels.depthwise(x, layer.weight, layer.bias, layer.dilation[0])


def fast_pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution as a matrix product that adds the bias in the same pass; `nn.Conv2d` needs a second one.

    If the bias is trained, our own kernel sums its gradient.
    """
    if layer.bias is not None and layer.bias.requires_grad and torch.is_grad_enabled():
        from segnext.fast.pointwise import pointwise  # imports Triton

        return pointwise(x, layer.weight, layer.bias)
    return F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


def strips_are_fast(local: Tensor, branches: int) -> bool:
    """Whether `fast_strips` can compute this many branches on `local`, `(B, C, H, W)`."""
    return is_fast(local) and 1 <= branches <= 3


def fast_strips(local: Tensor, rows: Iterable[nn.Module], columns: Iterable[nn.Module]) -> Tensor:
    """`sum_i Scale_i(local)` of Eq. 1 with all 1xK and Kx1 convolutions together; it keeps the shape `(B, C, H, W)`."""
    from segnext.fast.depthwise import strips  # imports Triton

    row_layers, column_layers = ([(layer.weight, layer.bias) for layer in part] for part in (rows, columns))
    return strips(local, row_layers, column_layers)  # type: ignore[arg-type]  # nn.Module has any attribute
