"""The segmentation loss on low-resolution scores, for CUDA: upsampling, softmax, cross-entropy and their gradient.

PyTorch's operators would write and read 150 maps of 512x512 about ten times per step; here these maps never exist. The
scores of a pixel are a mixture of four low-resolution neighbours. One program handles all pixels between the same four
neighbours: it reads the four once, computes each pixel's softmax in registers, and sums the gradients that the pixels
contribute to each of the four. So scores and labels are read once, and four sums per cell are written. The backward
pass adds the four sums that meet in a cell, in a fixed order, and multiplies by the incoming gradient. All arithmetic
is in float32; scores may be stored in half precision.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from segnext.data.source import IGNORE
from segnext.fast.tensors import on_device_of

IGNORED = tl.constexpr(IGNORE)
CELL = 4096  # most pixels in a cell, because one warp processes them
CLASSES = 512  # most classes; with so many a warp takes two pixels at a time


@triton.jit
def _between(pixel, scale):
    """The position of a pixel among the scores, as in PyTorch (align_corners=False), in float32."""
    return tl.maximum(tl.fma(scale, pixel.to(tl.float32) + 0.5, -0.5), 0.0)


@triton.jit
def _first(cell, scale, cells, size):
    """The first pixel at or after a cell's position; for cell 0 and for the end it is the border.

    It starts from a guess that is at most two too low, because every pixel must belong to exactly one cell, whatever
    the rounding.
    """
    pixel = tl.maximum(tl.ceil((cell.to(tl.float32) + 0.5) / scale - 0.5).to(tl.int32) - 1, 0)
    pixel += tl.where(_between(pixel, scale) < cell.to(tl.float32), 1, 0)
    pixel += tl.where(_between(pixel, scale) < cell.to(tl.float32), 1, 0)
    pixel = tl.where(cell == 0, 0, tl.minimum(pixel, size))
    return tl.where(cell >= cells, size, pixel)


@triton.jit(do_not_specialize=["h", "w", "H", "W"])
def _cells(
    scores, labels, losses, corners, C, h, w, H, W, sb, sc, sh, sw, down, across,
    P: tl.constexpr, CP: tl.constexpr,
):  # fmt: skip
    """The loss of a cell, and the gradients that its pixels add to its four corners: (B h w,) and (B h w, 4, C)."""
    cell = tl.program_id(0)
    i, j, image = cell // w % h, cell % w, (cell // w // h).to(tl.int64)
    top, left = _first(i, down, h, H), _first(j, across, w, W)
    columns = _first(j + 1, across, w, W) - left
    pixels = (_first(i + 1, down, h, H) - top) * columns
    c = tl.arange(0, CP)
    inside = c < C
    # Beyond the last row or column PyTorch uses the last one twice; here the second one has weight 0.
    below, right = tl.where(i + 1 < h, 1, 0), tl.where(j + 1 < w, 1, 0)
    here = scores + image * sb + i.to(tl.int64) * sh + j.to(tl.int64) * sw + c * sc
    s00 = tl.load(here, mask=inside, other=0.0).to(tl.float32)[None, :]
    s01 = tl.load(here + right * sw, mask=inside, other=0.0).to(tl.float32)[None, :]
    s10 = tl.load(here + below * sh, mask=inside, other=0.0).to(tl.float32)[None, :]
    s11 = tl.load(here + below * sh + right * sw, mask=inside, other=0.0).to(tl.float32)[None, :]
    c00, c01 = tl.zeros([CP], tl.float32), tl.zeros([CP], tl.float32)
    c10, c11 = tl.zeros([CP], tl.float32), tl.zeros([CP], tl.float32)
    loss = tl.zeros([P], tl.float32)
    for first in range(0, pixels, P):
        p = first + tl.arange(0, P)
        y, x = top + p // columns, left + p % columns
        label = tl.load(labels + image * H * W + y.to(tl.int64) * W + x, mask=p < pixels, other=IGNORED).to(tl.int32)
        ty = (_between(y, down) - i.to(tl.float32)) * below.to(tl.float32)
        tx = (_between(x, across) - j.to(tl.float32)) * right.to(tl.float32)
        w00, w01 = ((1 - ty) * (1 - tx))[:, None], ((1 - ty) * tx)[:, None]
        w10, w11 = (ty * (1 - tx))[:, None], (ty * tx)[:, None]
        v = tl.where(inside[None, :], w00 * s00 + w01 * s01 + w10 * s10 + w11 * s11, float("-inf"))
        most = tl.max(v, axis=1)
        v -= most[:, None]
        e = tl.exp(v)
        total = tl.sum(e, axis=1)
        labelled = label != IGNORED
        own = (c[None, :] == label[:, None]) & labelled[:, None]
        found = tl.log(total) - tl.sum(tl.where(own, v, 0.0), axis=1)
        # A label that is no class must not read memory; it gives NaN, at which the trainer stops.
        found = tl.where((label < 0) | (label >= C), float("nan"), found)
        loss += tl.where(labelled, found, 0.0)
        d = e * tl.where(labelled, 1 / total, 0.0)[:, None] - tl.where(own, 1.0, 0.0)
        c00 += tl.sum(w00 * d, axis=0)
        c01 += tl.sum(w01 * d, axis=0)
        c10 += tl.sum(w10 * d, axis=0)
        c11 += tl.sum(w11 * d, axis=0)
    tl.store(losses + cell, tl.sum(loss, axis=0))
    there = corners + cell.to(tl.int64) * 4 * C + c
    tl.store(there, c00, mask=inside)
    tl.store(there + C, c01, mask=inside)
    tl.store(there + 2 * C, c10, mask=inside)
    tl.store(there + 3 * C, c11, mask=inside)


@triton.jit(do_not_specialize=["cells", "h", "w"])
def _nodes(corners, gradient, out, cells, C, h, w, N: tl.constexpr, CP: tl.constexpr):
    """The sum of the gradients that meet in a cell, times the incoming one, in the scores' dtype.

    (B h w, 4, C) -> (B h w, C).
    """
    cell = tl.program_id(0) * N + tl.arange(0, N)
    c = tl.arange(0, CP)
    mask = (cell < cells)[:, None] & (c < C)[None, :]
    below, right = (cell // w % h > 0)[:, None], (cell % w > 0)[:, None]
    where = cell.to(tl.int64)[:, None] * 4 * C + c[None, :]
    row = 4 * C * w.to(tl.int64)
    total = tl.load(corners + where, mask=mask, other=0.0)
    total += tl.load(corners + where - 4 * C + C, mask=mask & right, other=0.0)
    total += tl.load(corners + where - row + 2 * C, mask=mask & below, other=0.0)
    total += tl.load(corners + where - row - 4 * C + 3 * C, mask=mask & below & right, other=0.0)
    total *= tl.load(gradient)
    tl.store(out + cell.to(tl.int64)[:, None] * C + c[None, :], total.to(out.dtype.element_ty), mask=mask)


def supported(scores: Tensor, labels: Tensor) -> bool:
    """Whether `cross_entropy` accepts these scores `(B, C, h, w)` and labels `(B, H, W)`; otherwise use PyTorch's."""
    cells, pixels = scores.shape[2] * scores.shape[3], labels.shape[1] * labels.shape[2]
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    return scores.dtype in dtypes and scores.shape[1] <= CLASSES and cells > 0 and pixels <= CELL * cells


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the labelled pixels, float32 `()`: scores `(B, C, h, w)`, labels uint8 `(B, H, W)`.

    The scores, with any strides, are resized as by `F.interpolate(mode="bilinear", align_corners=False)`. The result is
    NaN if a label is neither a class nor `IGNORE`. The gradient has the scores' dtype and is channels-last.
    """
    return _cross_entropy(scores, labels)[0]


def _pixels(padded: int) -> int:
    """The pixels that a warp takes at a time: pixels x classes fill at most 32 registers per thread."""
    return min(1024 // padded, 16) if padded >= 32 else min(512 // padded, 64)


def _corners(scores: Tensor) -> Tensor:
    batch, classes, h, w = scores.shape
    return scores.new_empty(batch, h, w, 4, classes, dtype=torch.float32)


def _gradient(corners: Tensor, dtype: torch.dtype) -> Tensor:
    batch, h, w, _, classes = corners.shape
    return corners.new_empty(batch, h, w, classes, dtype=dtype).permute(0, 3, 1, 2)


@torch.library.custom_op("segnext::cross_entropy", mutates_args=())
def _cross_entropy(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    (_, classes, h, w), (batch, height, width) = scores.shape, labels.shape
    labels, corners = labels.contiguous(), _corners(scores)
    losses = scores.new_empty(batch * h * w, dtype=torch.float32)
    padded = max(2, triton.next_power_of_2(classes))
    if len(losses):
        with on_device_of(scores):
            _cells[(len(losses),)](
                scores, labels, losses, corners, classes, h, w, height, width, *scores.stride(), h / height, w / width,
                P=_pixels(padded), CP=padded, num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip
    return losses.sum(), corners


@torch.library.custom_op("segnext::cross_entropy_backward", mutates_args=())
def _cross_entropy_backward(corners: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    batch, h, w, _, classes = corners.shape
    corners = corners.contiguous()
    out, cells, padded = _gradient(corners, dtype), batch * h * w, max(2, triton.next_power_of_2(classes))
    rows = max(1, 1024 // padded)
    if cells:
        with on_device_of(corners):
            _nodes[(triton.cdiv(cells, rows),)](
                corners, gradient.float().contiguous(), out, cells, classes, h, w, N=rows, CP=padded
            )
    return out


@_cross_entropy.register_fake
def _(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return scores.new_empty((), dtype=torch.float32), _corners(scores)


@_cross_entropy_backward.register_fake
def _(corners: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    return _gradient(corners, dtype)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, gradient: Tensor, unused: Tensor | None) -> tuple[Tensor, None]:
    (corners,) = ctx.saved_tensors
    return _cross_entropy_backward(corners, gradient, ctx.dtype), None


_cross_entropy.register_autograd(_backward, setup_context=_keep)
