"""Weight gradients of depth-wise convolutions on a CPU, where oneDNN is slow for the shapes of MSCA.

oneDNN's kernel for weight gradients takes at most three columns, and no more rows than the image has. Anything else
goes to one that is 3 to 40 times slower: MSCA's 5x5, every 1xK, and Kx1 on small images. Here the fast kernel computes
the same sums: a 1xK gradient is that of Kx1 on the transposed image, a wide one is put together of three columns each,
and a small image gets its padding as pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from segnext.fast.choice import PLAIN

COLUMNS = 3  # at most, for oneDNN's fast kernel


def helps(x: Tensor, weight: Tensor) -> bool:
    """Whether `depthwise` trains faster than `F.conv2d` on x, `(B, C, H, W)`, with weights (C, 1, kh, kw)."""
    height, width = weight.shape[2:]
    return (
        not PLAIN
        and weight.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        and (width > COLUMNS or height > x.shape[2])
    )


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.conv2d` of `(B, C, H, W)` with weights (C, 1, kh, kw), kh and kw odd, with stride 1; the size is kept.

    The output and the gradient for x have the bits of `F.conv2d`, the gradients for weight and bias are equal to
    rounding. It can be differentiated once.
    """
    output: Tensor = _Depthwise.apply(x, weight, bias)
    return output


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=_padding(weight), groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _gradients(x, gradient, weight, _padding(weight), (True, False))[0] if for_x else None,
            _weights(x, gradient, weight) if for_weight else None,
            gradient.sum((0, 2, 3)) if for_bias else None,
        )


def _padding(weight: Tensor) -> list[int]:
    return [side // 2 for side in weight.shape[2:]]


def _weights(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient for the weights, (C, 1, kh, kw)."""
    height, width = weight.shape[2:]
    if width > height:
        return _weights(x.transpose(2, 3), gradient.transpose(2, 3), weight.transpose(2, 3)).transpose(2, 3)
    rows = height // 2 if height > x.shape[2] else 0  # of padding that become pixels
    columns = width // 2 if width > COLUMNS else 0
    if rows or columns:
        x = F.pad(x, (columns, columns, rows, rows))
    padding = [height // 2 - rows, width // 2 - columns]
    if not columns:
        return _gradients(x, gradient, weight, padding, (False, True))[1]
    parts = []
    for left in range(0, width, COLUMNS):
        part = weight[..., left : left + COLUMNS]
        over = width - left - part.shape[3]  # columns to the right that this part does not see
        parts.append(_gradients(x[..., left : x.shape[3] - over], gradient, part, padding, (False, True))[1])
    return torch.cat(parts, 3)


def _gradients(
    x: Tensor, gradient: Tensor, weight: Tensor, padding: list[int], wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """The gradients for x and for the weights, where wanted."""
    x, gradient = (each.contiguous(memory_format=torch.channels_last) for each in (x, gradient))
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], x.shape[1], [*wanted, False]
    )
    return found[0], found[1]
