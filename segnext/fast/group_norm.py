"""Group normalisation for CUDA that keeps channels-last memory. PyTorch's does not, which slows down all later layers.

Forward and backward have the same two passes: sums over the pixels of each sample and channel, then an affine map with
factors per sample and channel; the computation in between handles only (B, C) values. A shift (the first pixel, then
the mean) is subtracted before summing, so that a large mean does not cancel the variance. Everything is in float32, and
the sums of the programs are added in a fixed order, which gives the same bits every time.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from segnext.fast.residual import _place, _rows
from segnext.fast.tensors import channels_last, empty_like, on_device_of

PROGRAMS = 528  # about 4 for each of an H100's 132 multiprocessors; not more, because their sums are read again


@triton.jit(do_not_specialize=["P", "chunk"])
def _sums(g, x, shift, partial, P, C, chunk, SQUARE: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr):
    """Sums of v and v u over the pixels of a place, with u = x - shift and v = u or g: `partial` is (places, 2, C)."""
    channel, first, sample, place = _place(P, C, chunk, TR, TC)
    base = sample.to(tl.int64) * P * C
    k = tl.load(shift + sample * C + channel, mask=channel < C, other=0.0)[None, :]
    once, twice = tl.zeros([TR, TC], tl.float32), tl.zeros([TR, TC], tl.float32)
    for block in range(chunk):
        row = first + block * TR + tl.arange(0, TR)
        mask = (row < P)[:, None] & (channel < C)[None, :]
        where = row[:, None] * C + channel[None, :]
        u = tl.where(mask, tl.load(x + base + where, mask=mask, other=0.0).to(tl.float32) - k, 0.0)
        v = u
        if not SQUARE:
            v = tl.load(g + base + where, mask=mask, other=0.0).to(tl.float32)
        once += v
        twice += v * u
    here = partial + place.to(tl.int64) * 2 * C + channel
    tl.store(here, tl.sum(once, axis=0), mask=channel < C)
    tl.store(here + C, tl.sum(twice, axis=0), mask=channel < C)


@triton.jit(do_not_specialize=["P"])
def _affine(g, x, factors, out, P, C, batch, PLUS: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr):
    """`p x + q`, with PLUS also `+ r g`: (B, P, C); `factors` are p, q and r, (2 or 3, B, C)."""
    channel, first, sample, _ = _place(P, C, 1, TR, TC)
    row = first + tl.arange(0, TR)
    mask = (row < P)[:, None] & (channel < C)[None, :]
    base = sample.to(tl.int64) * P * C
    where = row[:, None] * C + channel[None, :]
    here = factors + sample * C + channel
    p = tl.load(here, mask=channel < C, other=0.0)[None, :]
    q = tl.load(here + batch * C, mask=channel < C, other=0.0)[None, :]
    found = tl.load(x + base + where, mask=mask, other=0.0).to(tl.float32) * p + q
    if PLUS:
        r = tl.load(here + 2 * batch * C, mask=channel < C, other=0.0)[None, :]
        found += tl.load(g + base + where, mask=mask, other=0.0).to(tl.float32) * r
    tl.store(out + base + where, found.to(out.dtype.element_ty), mask=mask)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """`F.group_norm` of `(B, C, H, W)` with weight and bias (C): `(B, C, H, W)`, channels-last.

    The result has x's dtype, or float32 under autocast, as in PyTorch.
    """
    device = x.device.type
    dtype = torch.float32 if torch.is_autocast_enabled(device) else x.dtype
    return _group_norm(x, weight, bias, groups, epsilon, dtype)[0]


def _summed(g: Tensor, x: Tensor, shift: Tensor, square: bool) -> tuple[Tensor, Tensor]:
    """Both sums of `_sums` over all pixels, (B, C) each."""
    batch, channels, height, width = x.shape
    pixels = height * width
    tr, tc = _rows(pixels, channels)
    parts, blocks = triton.cdiv(channels, tc), triton.cdiv(pixels, tr)
    chunk = min(blocks, max(1, batch * blocks * parts // PROGRAMS))
    chunks = triton.cdiv(blocks, chunk)
    partial = x.new_empty(batch, chunks, 2, channels, dtype=torch.float32)
    with on_device_of(x):
        _sums[(batch * chunks * parts,)](
            g, x, shift, partial, pixels, channels, chunk, SQUARE=square, TR=tr, TC=tc, num_warps=4
        )
    once, twice = partial.sum(1).unbind(1)
    return once, twice


def _scaled(g: Tensor, x: Tensor, factors: list[Tensor], out: Tensor) -> None:
    batch, channels, height, width = x.shape
    tr, tc = _rows(height * width, channels)
    with on_device_of(x):
        _affine[(batch * triton.cdiv(height * width, tr) * triton.cdiv(channels, tc),)](
            g, x, torch.stack(factors), out, height * width, channels, batch,
            PLUS=len(factors) == 3, TR=tr, TC=tc, num_warps=4,
        )  # fmt: skip


def _spread(of_groups: Tensor, channels: int) -> Tensor:
    """Repeat values of groups for their channels: (B, G) -> (B, C)."""
    return of_groups.repeat_interleave(channels // of_groups.shape[1], dim=1)


@torch.library.custom_op("segnext::group_norm", mutates_args=())
def _group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    x, pixels, channels = channels_last(x), x.shape[2] * x.shape[3], x.shape[1]
    shift = x[:, :, 0, 0].float().contiguous()
    once, twice = _summed(x, x, shift, square=True)
    means = (shift + once / pixels).unflatten(1, (groups, -1))  # (B, G, C/G)
    squares = (twice - once * once / pixels).unflatten(1, (groups, -1))
    mean = means.mean(2)
    between = (means - mean[:, :, None]).square().sum(2)
    variance = (squares.sum(2) / pixels + between) / means.shape[2]
    rstd = torch.rsqrt(variance.clamp_min(0) + epsilon)
    factor = _spread(rstd, channels) * weight.float()
    out = torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)
    _scaled(x, x, [factor, bias.float() - _spread(mean, channels) * factor], out)
    return out, mean, rstd


@torch.library.custom_op("segnext::group_norm_backward", mutates_args=())
def _group_norm_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    x, gradient, channels, groups = channels_last(x), channels_last(gradient), x.shape[1], mean.shape[1]
    means, rstds = _spread(mean, channels), _spread(rstd, channels)
    to_bias, to_factor = _summed(gradient, x, means, square=False)
    share = channels // groups * x.shape[2] * x.shape[3]
    weight = weight.float()
    along = _spread((to_factor * weight).unflatten(1, (groups, -1)).sum(2), channels) / share
    level = _spread((to_bias * weight).unflatten(1, (groups, -1)).sum(2), channels) / share
    p = -rstds * rstds * rstds * along
    out = empty_like(x)
    _scaled(gradient, x, [p, -p * means - rstds * level, rstds * weight], out)
    return out, (to_factor * rstds).sum(0), to_bias.sum(0)


@_group_norm.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    out = channels_last(
        F.group_norm(x.float(), groups, weight.float(), bias.float()).to(dtype)
    )  # propagates shapes and devices
    mean = x.new_empty(x.shape[0], groups, dtype=torch.float32)
    return out, mean, torch.empty_like(mean)


@_group_norm_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[1], dtype=torch.float32)
    return empty_like(x), sums, torch.empty_like(sums)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, *_ = inputs
    ctx.dtype = bias.dtype
    ctx.save_for_backward(x, weight, *output[1:])


def _backward(ctx: Any, gradient: Tensor, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
    x, weight, mean, rstd = ctx.saved_tensors
    to_x, to_weight, to_bias = _group_norm_backward(gradient, x, weight, mean, rstd)
    return to_x, to_weight.to(weight.dtype), to_bias.to(ctx.dtype), None, None, None


_group_norm.register_autograd(_backward, setup_context=_keep)
