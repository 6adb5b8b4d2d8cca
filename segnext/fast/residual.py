"""The shortcut of a block for CUDA: layer scale, drop path and the sum in one pass, and one pass for their gradients.

PyTorch's operators need about ten passes over memory in float32. Here the forward pass reads both inputs and writes
their sum. The backward pass reads the gradient and y and writes y's gradient, while each program sums its part of the
scale's gradient. These parts are added in a fixed order, which gives the same bits every time. The gradient of x is the
incoming one.

A program owns rows (pixels of one sample) x TC channels; threads hold neighbouring channels, so that a load takes 16
bytes. All arithmetic is in float32.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from segnext.fast.tensors import channel_tile, channels_last, empty_like, on_device_of

TILE = 2048  # values that the four warps of a program hold at a time
PROGRAMS = 1056  # about, in the backward pass; not more, because their sums are read again


@triton.jit
def _place(P, C, chunk, TR: tl.constexpr, TC: tl.constexpr):
    """The channels, first pixel, sample and place number of a program."""
    channels, chunks = tl.cdiv(C, TC), tl.cdiv(P, chunk * TR)
    place = tl.program_id(0) // channels
    channel = tl.program_id(0) % channels * TC + tl.arange(0, TC)
    return channel, place % chunks * (chunk * TR), place // chunks, place


@triton.jit
def _kept(keep, sample, KEEP: tl.constexpr):
    kept = 1.0
    if KEEP:
        kept = tl.load(keep + sample).to(tl.float32)
    return kept


@triton.jit(do_not_specialize=["P"])
def _forward(x, y, scale, keep, out, P, C, KEEP: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr):
    """`x + scale * y * keep`: (B, P, C)."""
    channel, first, sample, _ = _place(P, C, 1, TR, TC)
    row = first + tl.arange(0, TR)
    mask = (row < P)[:, None] & (channel < C)[None, :]
    base = sample.to(tl.int64) * P * C
    where = row[:, None] * C + channel[None, :]
    s = tl.load(scale + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
    added = tl.load(y + base + where, mask=mask, other=0.0).to(tl.float32) * s * _kept(keep, sample, KEEP)
    found = tl.load(x + base + where, mask=mask, other=0.0).to(tl.float32) + added
    tl.store(out + base + where, found.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["P", "chunk"])
def _gradients(g, y, scale, keep, out, partial, P, C, chunk, KEEP: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr):
    """The gradient of y, (B, P, C), and the part of the scale's that belongs to a place: `partial` is (places, C)."""
    channel, first, sample, place = _place(P, C, chunk, TR, TC)
    base = sample.to(tl.int64) * P * C
    s = tl.load(scale + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
    kept = _kept(keep, sample, KEEP)
    total = tl.zeros([TR, TC], tl.float32)
    for block in range(chunk):
        row = first + block * TR + tl.arange(0, TR)
        mask = (row < P)[:, None] & (channel < C)[None, :]
        where = row[:, None] * C + channel[None, :]
        arrived = tl.load(g + base + where, mask=mask, other=0.0).to(tl.float32) * kept
        total += arrived * tl.load(y + base + where, mask=mask, other=0.0).to(tl.float32)
        tl.store(out + base + where, (arrived * s).to(out.dtype.element_ty), mask=mask)
    tl.store(partial + place.to(tl.int64) * C + channel, tl.sum(total, axis=0), mask=channel < C)


def scaled_residual(x: Tensor, y: Tensor, scale: Tensor, keep: Tensor | None) -> Tensor:
    """`x + scale * y * keep`: x, y `(B, C, H, W)`, scale (C), keep (B, 1) or None for ones -> `(B, C, H, W)`.

    The result is channels-last and has the dtype of the plain formula. `keep` gets no gradient.
    """
    return _residual(x, y, scale, keep)


def _rows(pixels: int, channels: int) -> tuple[int, int]:
    """Pixels and channels of a tile."""
    tc = channel_tile(channels)
    return min(TILE // tc, triton.next_power_of_2(pixels)), tc


def _sum(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.promote_types(y.dtype, scale.dtype))
    return torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)


@torch.library.custom_op("segnext::scaled_residual", mutates_args=())
def _residual(x: Tensor, y: Tensor, scale: Tensor, keep: Tensor | None) -> Tensor:
    batch, channels, height, width = x.shape
    out, pixels = _sum(x, y, scale), height * width
    if x.numel():
        tr, tc = _rows(pixels, channels)
        kept = scale if keep is None else keep.contiguous()
        with on_device_of(x):
            _forward[(batch * triton.cdiv(pixels, tr) * triton.cdiv(channels, tc),)](
                channels_last(x), channels_last(y), scale.contiguous(), kept, out, pixels, channels,
                KEEP=keep is not None, TR=tr, TC=tc, num_warps=4,
            )  # fmt: skip
    return out


@torch.library.custom_op("segnext::scaled_residual_backward", mutates_args=())
def _residual_backward(gradient: Tensor, y: Tensor, scale: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = y.shape
    out, pixels = empty_like(y), height * width
    if not y.numel():
        return out, scale.new_zeros(channels, dtype=torch.float32)
    tr, tc = _rows(pixels, channels)
    parts, blocks = triton.cdiv(channels, tc), triton.cdiv(pixels, tr)
    chunk = min(blocks, max(1, batch * blocks * parts // PROGRAMS))
    places = batch * triton.cdiv(blocks, chunk)
    partial = y.new_empty(places, channels, dtype=torch.float32)
    kept = scale if keep is None else keep.contiguous()
    with on_device_of(y):
        _gradients[(places * parts,)](
            channels_last(gradient), channels_last(y), scale.contiguous(), kept, out, partial, pixels, channels, chunk,
            KEEP=keep is not None, TR=tr, TC=tc, num_warps=4,
        )  # fmt: skip
    return out, partial.sum(0)


@_residual.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, keep: Tensor | None) -> Tensor:
    added = scale[:, None, None] * y  # the plain formula propagates shapes and devices
    return channels_last(x + (added if keep is None else added * keep[:, :, None, None]))


@_residual_backward.register_fake
def _(gradient: Tensor, y: Tensor, scale: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    return empty_like(y), scale.new_empty(scale.shape, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, scale, keep = inputs
    ctx.dtype = x.dtype
    ctx.save_for_backward(y, scale, keep)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    y, scale, keep = ctx.saved_tensors
    to_y = to_scale = None
    if any(ctx.needs_input_grad[1:3]):
        to_y, to_scale = _residual_backward(gradient, y, scale, keep)
        to_scale = to_scale.to(scale.dtype)
    return gradient.to(ctx.dtype), to_y, to_scale, None


_residual.register_autograd(_backward, setup_context=_keep)
