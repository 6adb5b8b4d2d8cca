"""Class scores at full size, a block of rows at a time, so that 150 maps of 512x512 never exist at once.

The last step of every method here is a bilinear upsampling of low-resolution scores, followed by an operation per
pixel: a softmax, a maximum or a loss. A block of rows is computed, used while it is in the cache, and dropped. Results
equal those of `F.interpolate(mode="bilinear", align_corners=False)` to rounding, even for several resizings in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from segnext.data.source import IGNORE
from segnext.fast.choice import is_fast
from segnext.precision import full_precision

Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels, of every resizing that the scores go through, the last one last."""

BLOCK = {"cpu": 2 << 20, "cuda": 256 << 20}  # bytes of a block: fits a core's cache; makes a kernel worth its launch


HUGE = 1e30  # above every score, and far enough below the maximum of float32 for sums


class Rows(NamedTuple):
    """A block of upsampled rows: `values` (B, rows, W, C) is `weights` (rows, n) times n rows of the scores."""

    where: slice
    sources: slice
    weights: Tensor
    values: Tensor


def upsampled(scores: Tensor, sizes: Sizes) -> Iterator[Rows]:
    """Yield scores `(B, C, h, w)` at the last of the sizes, from top to bottom; finite even if the scores are not.

    Infinity times a weight of 0 is NaN, and would spread over a whole block. Here NaN counts as the highest score, as
    in `torch.max`, and affects only pixels that depend on it.
    """
    finite = scores.nan_to_num(HUGE, HUGE, -HUGE)
    yield from _rows(_widened(finite, sizes), sizes)


def likeliest(scores: Tensor, sizes: Sizes) -> Tensor:
    """The class with the highest score at every pixel, in a tie the first: `(B, C, h, w) -> (B, H, W)` int64."""
    found = torch.empty(len(scores), *sizes[-1], dtype=torch.int64, device=scores.device)
    for rows in upsampled(scores, sizes):
        found[:, rows.where] = rows.values.max(-1).indices  # twice as fast as argmax
    return found


def add_probabilities(total: Tensor, scores: Tensor, sizes: Sizes) -> None:
    """Upsample scores `(B, C, h, w)` and add their softmax to a total `(B, H, W, C)`, in place."""
    for rows in upsampled(scores, sizes):
        total[:, rows.where] += rows.values.softmax(-1)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the labelled pixels, in float32: `(B, C, h, w)`, uint8 `(B, H, W)` -> `()`.

    The forward pass also computes the gradient of the low-resolution scores, while the pixels are in the cache. On CUDA
    one kernel does everything if it supports the shapes.
    """
    if is_fast(scores):
        from segnext.fast import cross_entropy as kernels  # imports Triton

        if kernels.supported(scores, labels):
            return kernels.cross_entropy(scores, labels)
    with full_precision(scores):  # autocast would compute the products below in half precision
        summed: Tensor = _CrossEntropy.apply(scores.float(), labels)
    return summed


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> Tensor:
        sizes = [(labels.shape[1], labels.shape[2])]
        wide = _widened(scores, sizes)
        gradient = torch.zeros_like(wide)
        losses = []
        for rows in _rows(wide, sizes):
            target = labels[:, rows.where].long()
            labelled = (target != IGNORE).to(wide.dtype)
            index = target.where(target != IGNORE, 0).unsqueeze(-1)
            logarithms = F.log_softmax(rows.values, dim=-1)
            losses.append((logarithms.gather(-1, index).squeeze(-1) * labelled).sum())
            pixels = logarithms.exp_().scatter_add_(-1, index, torch.full_like(labelled, -1).unsqueeze(-1))
            pixels.mul_(labelled.unsqueeze(-1))
            # The transpose of upsampling: the gradient of a row goes to the rows of scores that it was mixed from.
            gradient[:, rows.sources].flatten(2).add_(rows.weights.mT @ pixels.flatten(2))
        columns = _matrix(tuple(width for _, width in sizes), scores.shape[3], scores.device, wide.dtype)
        ctx.save_for_backward((columns.mT @ gradient).permute(0, 3, 1, 2))
        return -torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (found,) = ctx.saved_tensors
        return found * gradient, None


def _widened(scores: Tensor, sizes: Sizes) -> Tensor:
    """`(B, C, h, w) -> (B, h, W, C)`, contiguous."""
    columns = _matrix(tuple(width for _, width in sizes), scores.shape[3], scores.device, scores.dtype)
    return columns @ scores.permute(0, 2, 3, 1)  # channels-last in memory: a view


def _rows(wide: Tensor, sizes: Sizes) -> Iterator[Rows]:
    heights = tuple(height for height, _ in sizes)
    matrix = _matrix(heights, wide.shape[1], wide.device, wide.dtype)
    count = max(1, BLOCK.get(wide.device.type, BLOCK["cpu"]) // (4 * wide[:, 0].numel()))
    for where, sources in _blocks(heights, wide.shape[1], count):
        weights = matrix[where, sources]
        values = (weights @ wide[:, sources].flatten(2)).unflatten(2, wide.shape[2:])
        yield Rows(where, sources, weights, values)


@lru_cache(maxsize=1024)
def _blocks(sizes: tuple[int, ...], source: int, count: int) -> list[tuple[slice, slice]]:
    """Blocks of `count` positions along a side, and the range of the `source` positions that each depends on."""
    taken = _weights(sizes, source) != 0
    blocks = [slice(start, min(start + count, sizes[-1])) for start in range(0, sizes[-1], count)]
    used = [taken[block].any(axis=0).nonzero()[0] for block in blocks]
    return [(block, slice(int(these[0]), int(these[-1]) + 1)) for block, these in zip(blocks, used, strict=True)]


@lru_cache(maxsize=256)
def _matrix(sizes: tuple[int, ...], source: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`_weights` on a device, cached there, so that after the first step nothing is copied to a GPU."""
    with torch.inference_mode(False):  # evaluation may call this first, and training then reuses the tensor
        matrix = torch.tensor(_weights(sizes, source), dtype=dtype)
        if device.type == "cuda" and torch.cuda.is_available():
            matrix = matrix.pin_memory()  # a copy from pageable memory waits until the GPU is idle
        return matrix.to(device, non_blocking=True)


@lru_cache(maxsize=256)
def _weights(sizes: tuple[int, ...], source: int) -> npt.NDArray[np.float32]:
    """The weight of each of the `source` positions in each position along a side: `(size, source)`."""
    product = np.eye(source)
    for size in sizes:
        product = _step(size, len(product)) @ product
    return product.astype(np.float32)


def _step(size: int, source: int) -> npt.NDArray[np.float64]:
    """The matrix of one bilinear resizing along a side; positions are computed in float32, as in PyTorch."""
    place = np.float32(source / size) * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    place = np.maximum(place, np.float32(0))
    low = np.minimum(place.astype(np.int64), source - 1)
    share = place - low.astype(np.float32)
    matrix = np.zeros((size, source))
    np.add.at(matrix, (np.arange(size), low), np.float32(1) - share)
    np.add.at(matrix, (np.arange(size), np.minimum(low + 1, source - 1)), share)
    return matrix
