"""Depth-wise convolutions in channels-last memory, and the sum of MSCA's strips (Eq. 1), for CUDA.

On a GPU they are bound by memory: each value takes part in 9 to 39 products per branch. So every kernel reads its
inputs once from memory and writes its outputs once; neighbouring values come from registers or from L1.

Sums and weights are in float32: rounding the weights to half precision, as autocast does for PyTorch's convolutions,
costs a pass and gains nothing. For weight gradients each program writes the sum over its pixels, and these sums are
added in a fixed order, which gives the same bits every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from segnext.fast.depthwise_kernels import gather, spread, weight_sums
from segnext.fast.tensors import autocast_as, channel_tile, channels_last, empty_like, on_device_of

R = 4  # consecutive outputs that share a window of inputs
PROGRAMS = 1056  # at least, if the size allows: 8 for each of an H100's 132 multiprocessors
TAPS = 25  # most accumulators of a program for weight gradients; larger kernels are split over programs


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """`F.conv2d` of `(B, C, H, W)` with weights (C, 1, kh, kw), kh and kw odd, with stride 1; the size is kept.

    The result is channels-last and has x's dtype, or autocast's if that is on; sums are in float32.
    """
    height, width = weight.shape[2:]
    return _depthwise(autocast_as(x), _taps([weight]), _biases([bias]), height, width, dilation)


def strips(
    local: Tensor,
    rows: Sequence[tuple[Tensor, Tensor | None]],
    columns: Sequence[tuple[Tensor, Tensor | None]],
) -> Tensor:
    """`local + sum_i column_i(row_i(local))`, the bracket of Eq. 1: `(B, C, H, W) -> (B, C, H, W)`.

    One to three branches; rows and columns are weights (C, 1, 1, k) and (C, 1, k, 1) with their biases. One pass
    computes all rows (one read, and a write per branch), another all columns (a read per branch, one of `local`, one
    write): 9 tensors for three branches instead of 21. The result is as that of `depthwise`. Raises `ValueError` for
    other shapes.
    """
    sizes = [weight.shape[3] for weight, _ in rows]
    if not 1 <= len(rows) <= 3 or sizes != [weight.shape[2] for weight, _ in columns]:
        found = [tuple(weight.shape[2:]) for weight, _ in (*rows, *columns)]
        raise ValueError(f"strips: one to three pairs of 1xK and Kx1 are computed together, not {found}")
    row_taps, column_taps = (_taps([weight for weight, _ in part]) for part in (rows, columns))
    row_biases, column_biases = (_biases([bias for _, bias in part]) for part in (rows, columns))
    return _strips(autocast_as(local), row_taps, row_biases, column_taps, column_biases, sizes)[0]


def _taps(weights: list[Tensor]) -> Tensor:
    """All weights as (taps, C), so that neighbouring threads read neighbouring channels; one small kernel per call."""
    return torch.cat([weight.flatten(1).t() for weight in weights]).float()


def _biases(biases: list[Tensor | None]) -> Tensor | None:
    """All biases as (branches, C); None if no branch has one. Raises `ValueError` if only some have one."""
    if any(bias is None for bias in biases):
        if not all(bias is None for bias in biases):
            raise ValueError("strips: either every branch has a bias or none")
        return None
    return torch.stack([bias for bias in biases if bias is not None]).float()


def _halves(x: Tensor, branches: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.new_empty(branches, batch, height, width, channels)


def _launch(
    kernel: Any, tensors: Sequence[Any], x: Tensor, along: str, kx: int, dilation: int, ks: Sequence[int], **more: Any
) -> None:
    """Launch a convolution kernel on x, `(B, C, H, W)`; a simple rule derives the tiles from the shape."""
    batch, channels, height, width = x.shape
    if not x.numel():
        return
    strides = {"H": width * channels, "W": channels}
    across = "W" if along == "H" else "H"
    sizes = {"H": height, "W": width}
    tc = channel_tile(channels)
    warps, tx = _shape(sizes[across], tc, 16 // x.element_size())
    places = batch * triton.cdiv(sizes[across], tx) * triton.cdiv(channels, tc)
    blocks = triton.cdiv(sizes[along], R * dilation)
    chunk = min(blocks, max(1, places * blocks // PROGRAMS))
    k0, k1, k2 = [*ks, 0, 0][:3]
    with on_device_of(x):
        kernel[(places * triton.cdiv(blocks, chunk),)](
            *tensors, sizes[along], sizes[across], channels, height * width * channels, strides[along],
            strides[across], x.numel(), chunk,
            KX=kx, DIL=dilation, K0=k0, K1=k1, K2=k2, R=R, TX=tx, TC=tc, num_warps=warps, enable_fp_fusion=True, **more,
        )  # fmt: skip


def _shape(across: int, tc: int, vector: int) -> tuple[int, int]:
    """Warps, and pixels across: each thread has `vector` channels of one pixel, and no half of a tile is empty.

    But a program keeps more threads than channels; otherwise Triton would pass the taps through shared memory.
    """
    warps = 4
    while warps > 1 and 2 * tc <= 16 * warps and warps * 32 * vector // tc >= 2 * across:
        warps //= 2
    return warps, max(1, warps * 32 * vector // tc)


def _convolve(
    x: Tensor, taps: Tensor, biases: Tensor | None, out: Tensor, like: Tensor, along: str, kx: int, dilation: int,
    ks: Sequence[int], flip: bool,
) -> None:  # fmt: skip
    """Convolve one input into one output per branch."""
    taps, biases = _packed(taps, biases)
    tensors = (x, taps, taps if biases is None else biases, out)
    _launch(spread, tensors, like, along, kx, dilation, ks, FLIP=flip, BIAS=biases is not None)


def _sum(
    x: Tensor, taps: Tensor, biases: Tensor | None, plus: Tensor, out: Tensor, along: str, ks: Sequence[int], flip: bool
) -> None:
    """Convolve one input per branch and add them and `plus` into one output."""
    taps, biases = _packed(taps, biases)
    tensors = (x.contiguous(), taps, taps if biases is None else biases, plus, out)
    _launch(gather, tensors, plus, along, 1, 1, ks, FLIP=flip, BIAS=biases is not None, PLUS=True)


def _packed(taps: Tensor, biases: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Make taps and biases contiguous for the kernels: Inductor passes tensors with strides of its choice."""
    return taps.contiguous(), None if biases is None else biases.contiguous()


def _sums(x: Tensor, gradient: Tensor, like: Tensor, along: str, kx: int, dilation: int, ks: Sequence[int]) -> Tensor:
    """Gradients of taps, then of biases: float32 (taps + biases, C). Either x or the gradient has the branches."""
    batch, channels, height, width = like.shape
    rows = sum(ks) * kx + len(ks)
    x, gradient = (each.contiguous() if each.dim() == 5 else each for each in (x, gradient))
    if not like.numel():
        return like.new_zeros(rows, channels, dtype=torch.float32)
    strides, sizes = {"H": width * channels, "W": channels}, {"H": height, "W": width}
    across = "W" if along == "H" else "H"
    tc = channel_tile(channels)
    warps, tx = _shape(sizes[across], tc, 4)
    columns = kx if kx * ks[0] <= TAPS else 1
    places = batch * triton.cdiv(sizes[across], tx)
    blocks = triton.cdiv(sizes[along], R * dilation)
    parts = len(ks) * (kx // columns) * triton.cdiv(channels, tc)
    # Fewer programs than elsewhere, because each writes its sums, and these are read again.
    chunk = min(blocks, max(1, 2 * places * blocks * parts // PROGRAMS))
    places *= triton.cdiv(blocks, chunk)
    partial = like.new_empty(places, rows, channels, dtype=torch.float32)
    k0, k1, k2 = [*ks, 0, 0][:3]
    with on_device_of(like):
        weight_sums[(places * parts,)](
            x, gradient, partial, sizes[along], sizes[across], channels, height * width * channels, strides[along],
            strides[across], like.numel() if x.dim() == 5 else 0, like.numel() if gradient.dim() == 5 else 0, chunk,
            KX=kx, JG=columns, DIL=dilation, K0=k0, K1=k1, K2=k2, R=R, TX=tx, TC=tc, num_warps=warps,
            enable_fp_fusion=True,
        )  # fmt: skip
    return partial.sum(0)


def _axes(height: int, width: int) -> tuple[str, int, int]:
    """The axis along which to march, and the taps along and across it: W for 1xK, H for all others."""
    return ("H", height, width) if height > 1 else ("W", width, 1)


@torch.library.custom_op("segnext::depthwise", mutates_args=())
def _depthwise(x: Tensor, taps: Tensor, biases: Tensor | None, height: int, width: int, dilation: int) -> Tensor:
    along, k, kx = _axes(height, width)
    x, out = channels_last(x), empty_like(x)
    _convolve(x, taps, biases, out, x, along, kx, dilation, [k], flip=False)
    return out


@torch.library.custom_op("segnext::depthwise_input", mutates_args=())
def _depthwise_input(gradient: Tensor, taps: Tensor, height: int, width: int, dilation: int) -> Tensor:
    along, k, kx = _axes(height, width)
    gradient, out = channels_last(gradient), empty_like(gradient)
    _convolve(gradient, taps, None, out, gradient, along, kx, dilation, [k], flip=True)
    return out


@torch.library.custom_op("segnext::depthwise_weights", mutates_args=())
def _depthwise_weights(x: Tensor, gradient: Tensor, height: int, width: int, dilation: int) -> Tensor:
    along, k, kx = _axes(height, width)
    return _sums(channels_last(x), channels_last(gradient), x, along, kx, dilation, [k])


@torch.library.custom_op("segnext::strips", mutates_args=())
def _strips(
    local: Tensor,
    row_taps: Tensor,
    row_biases: Tensor | None,
    column_taps: Tensor,
    column_biases: Tensor | None,
    ks: list[int],
) -> tuple[Tensor, Tensor]:
    local, out, halves = channels_last(local), empty_like(local), _halves(local, len(ks))
    _convolve(local, row_taps, row_biases, halves, local, "W", 1, 1, ks, flip=False)
    _sum(halves, column_taps, column_biases, local, out, "H", ks, flip=False)
    return out, halves


@torch.library.custom_op("segnext::strips_backward", mutates_args=())
def _strips_backward(
    gradient: Tensor, local: Tensor, halves: Tensor, row_taps: Tensor, column_taps: Tensor, ks: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, local, out, below = (
        channels_last(gradient),
        channels_last(local),
        empty_like(local),
        _halves(local, len(ks)),
    )
    _convolve(gradient, column_taps, None, below, gradient, "H", 1, 1, ks, flip=True)
    columns = _sums(halves, gradient, local, "H", 1, 1, ks)
    _sum(below, row_taps, None, gradient, out, "W", ks, flip=True)
    return out, _sums(local, below, local, "W", 1, 1, ks), columns


@_depthwise.register_fake
def _(x: Tensor, taps: Tensor, biases: Tensor | None, height: int, width: int, dilation: int) -> Tensor:
    return empty_like(x)


@_depthwise_input.register_fake
def _(gradient: Tensor, taps: Tensor, height: int, width: int, dilation: int) -> Tensor:
    return empty_like(gradient)


@_depthwise_weights.register_fake
def _(x: Tensor, gradient: Tensor, height: int, width: int, dilation: int) -> Tensor:
    return x.new_empty(height * width + 1, x.shape[1], dtype=torch.float32)


@_strips.register_fake
def _(
    local: Tensor,
    row_taps: Tensor,
    row_biases: Tensor | None,
    column_taps: Tensor,
    column_biases: Tensor | None,
    ks: list[int],
) -> tuple[Tensor, Tensor]:
    return empty_like(local), _halves(local, len(ks))


@_strips_backward.register_fake
def _(
    gradient: Tensor, local: Tensor, halves: Tensor, row_taps: Tensor, column_taps: Tensor, ks: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    sums = local.new_empty(sum(ks) + len(ks), local.shape[1], dtype=torch.float32)
    return empty_like(local), sums, torch.empty_like(sums)


def _keep_depthwise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, taps, biases, *ctx.shape = inputs
    ctx.biased = biases is not None
    ctx.save_for_backward(x, taps)


def _depthwise_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, taps = ctx.saved_tensors
    to_x = to_taps = to_biases = None
    if ctx.needs_input_grad[0]:
        to_x = _depthwise_input(gradient, taps, *ctx.shape)
    if any(ctx.needs_input_grad[1:3]):
        sums = _depthwise_weights(x, gradient, *ctx.shape)
        to_taps, to_biases = sums[:-1], sums[-1:] if ctx.biased else None
    return to_x, to_taps, to_biases, None, None, None


def _keep_strips(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    local, row_taps, row_biases, column_taps, column_biases, ctx.ks = inputs
    ctx.row_biased, ctx.column_biased = row_biases is not None, column_biases is not None
    ctx.save_for_backward(local, output[1], row_taps, column_taps)


def _strips_gradients(ctx: Any, gradient: Tensor, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    to_local, rows, columns = _strips_backward(gradient, *ctx.saved_tensors, ctx.ks)
    taps = sum(ctx.ks)
    row_biases = rows[taps:] if ctx.row_biased else None
    column_biases = columns[taps:] if ctx.column_biased else None
    return to_local, rows[:taps], row_biases, columns[:taps], column_biases, None


_depthwise.register_autograd(_depthwise_backward, setup_context=_keep_depthwise)
_strips.register_autograd(_strips_gradients, setup_context=_keep_strips)
