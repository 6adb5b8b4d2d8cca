"""1x1 convolutions for CUDA: matrix products by cuBLAS, and the gradients of biases by our own kernel.

The gradient of a bias is the sum over the rows of a tall matrix, for which PyTorch's kernel reaches a seventh of the
bandwidth. Here a program owns rows x TC channels; threads hold neighbouring channels, so that a load takes 16 bytes,
and each has four loads in flight. Sums are in float32, and the sums of the programs are added in a fixed order, which
gives the same bits every time.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from segnext.fast.tensors import autocast_as, channel_tile, channels_last, on_device_of

PROGRAMS = 528  # about 4 for each of an H100's 132 multiprocessors; not more, because their sums are read again


@triton.jit(do_not_specialize=["N", "chunk"])
def _sums(x, partial, N, C, chunk, TR: tl.constexpr, TC: tl.constexpr):
    """Sums over the rows of (N, C) that belong to a place: `partial` is (places, C)."""
    channels = tl.cdiv(C, TC)
    place = tl.program_id(0) // channels
    channel = tl.program_id(0) % channels * TC + tl.arange(0, TC)
    first = place * chunk * TR
    here = x + first.to(tl.int64) * C
    total = tl.zeros([TR, TC], tl.float32)
    for block in range(chunk):
        row = block * TR + tl.arange(0, TR)
        mask = (row < N - first)[:, None] & (channel < C)[None, :]
        total += tl.load(here + row[:, None] * C + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    tl.store(partial + place.to(tl.int64) * C + channel, tl.sum(total, axis=0), mask=channel < C)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.conv2d` of `(B, C, H, W)` with weights (D, C, 1, 1) and biases (D): `(B, D, H, W)`, channels-last.

    Computed in x's dtype, or autocast's if that is on. The gradient of the bias is summed in float32.
    """
    x = autocast_as(x)
    return _pointwise(x, weight.flatten(1).to(x.dtype), bias)


def _tiles(rows: int, channels: int, size: int) -> tuple[int, int]:
    """Rows and channels of a tile: four loads of 16 bytes per thread of four warps."""
    tc = channel_tile(channels)
    return min(4 * 128 * 16 // size // tc, triton.next_power_of_2(rows)), tc


@torch.library.custom_op("segnext::column_sums", mutates_args=())
def _column_sums(x: Tensor) -> Tensor:
    rows, channels = x.shape
    if not x.numel():
        return x.new_zeros(channels, dtype=torch.float32)
    tr, tc = _tiles(rows, channels, x.element_size())
    parts, blocks = triton.cdiv(channels, tc), triton.cdiv(rows, tr)
    chunk = min(blocks, max(1, blocks * parts // PROGRAMS))
    places = triton.cdiv(blocks, chunk)
    partial = x.new_empty(places, channels, dtype=torch.float32)
    with on_device_of(x):
        _sums[(places * parts,)](x.contiguous(), partial, rows, channels, chunk, TR=tr, TC=tc, num_warps=4)
    return partial.sum(0)


@_column_sums.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[1], dtype=torch.float32)


def _matrix(x: Tensor) -> Tensor:
    """x as a matrix (B H W, C), a view of channels-last memory."""
    return channels_last(x).permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    found = F.linear(_matrix(x), weight, bias.to(x.dtype))  # cuBLAS adds the bias in the same pass
    return found.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)


_pointwise = torch.library.custom_op("segnext::pointwise", _product, mutates_args=())
_pointwise.register_fake(_product)  # propagates shapes and devices


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.dtype = bias.dtype
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    arrived = _matrix(gradient)
    to_x = to_weight = to_bias = None
    if ctx.needs_input_grad[0]:
        to_x = (arrived @ weight).view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)
    if ctx.needs_input_grad[1]:
        to_weight = arrived.t() @ _matrix(x)
    if ctx.needs_input_grad[2]:
        to_bias = _column_sums(arrived).to(ctx.dtype)
    return to_x, to_weight, to_bias


_pointwise.register_autograd(_backward, setup_context=_keep)
