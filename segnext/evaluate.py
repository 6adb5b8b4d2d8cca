"""Single-scale and multi-scale evaluation of a model over a split (Sec. 4; the released test pipeline)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from segnext.config import Data
from segnext.data import Source
from segnext.data.transforms import test_image, test_size
from segnext.folded import folded
from segnext.ham import NMF
from segnext.metrics import Boundary, Confusion, Score
from segnext.model import SegNeXt
from segnext.upsampling import Sizes, add_probabilities, likeliest

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

SCORES_LIMIT = 2 << 30  # bytes of class scores that are computed at once, if more than one image's


def evaluate(
    model: nn.Module,
    source: Source,
    data: Data,
    *,
    multi_scale: bool = False,
    batch: int = 1,
    device: torch.device | None = None,
    ham_seed: int = 0,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Score:
    """Score the model on every image of a split at the labels' own size; arguments as those of `predictions`.

    With `share` = (rank, world) this process evaluates the images rank, rank + world, ..., and the int64 counts are
    summed over torch's default process group: each image counts once, and every process returns the whole split's
    score. Raises `ValueError` where there is no such group.
    """
    _check_group(*share)
    confusion, boundary = Confusion(data.classes), Boundary(data.classes)
    for _, predicted, labels in predictions(
        model,
        source,
        data,
        multi_scale=multi_scale,
        batch=batch,
        device=device,
        ham_seed=ham_seed,
        share=share,
        progress=progress,
    ):
        confusion.add(predicted, labels)
        boundary.add(predicted, labels)
    if share[1] > 1:
        confusion.all_reduce()
        boundary.all_reduce()
    return confusion.score(boundary)


def predictions(
    model: nn.Module,
    source: Source,
    data: Data,
    *,
    multi_scale: bool = False,
    batch: int = 1,
    device: torch.device | None = None,
    ham_seed: int = 0,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """The likeliest class of every pixel: image numbers, predictions and labels, uint8 `(B, H, W)` on the CPU.

    Single-scale: one pass. Multi-scale (MS): every ratio of `data.test_scales`, each also flipped. Up to `batch` images
    that follow each other and have the same size are passed together, fewer where their scores would need more than
    `SCORES_LIMIT`, which changes nothing beyond rounding. Ham starts from the bases of `ham_seed`, for every image the
    same. The model is left in evaluation mode.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, NMF):
            module.reseed(ham_seed)
    device = device or torch.device("cpu")
    ratios, flips = (data.test_scales, (False, True)) if multi_scale else ((1.0,), (False,))
    rank, world = share
    mine = range(rank, len(source), world)
    done = 0
    network = folded(model) if isinstance(model, SegNeXt) else model
    for numbers, images, labels in _groups(source, mine, data, max(ratios), batch):
        if multi_scale:
            found = probabilities(network, images, data, ratios, flips, device).movedim(1, -1).max(-1).indices
        else:
            found = _likeliest(network, images, data, device)
        yield numbers, found.to(torch.uint8).cpu(), labels
        done += len(numbers)
        if progress:
            progress(done, len(mine))


@torch.inference_mode()
def probabilities(
    model: nn.Module, images: Tensor, data: Data, ratios: Sequence[float], flips: Sequence[bool], device: torch.device
) -> Tensor:
    """Class probabilities `(B, classes, H, W)` of `(B, H, W, 3)` uint8 images, averaged over ratios and flips.

    Official code: scores resized to the image's own size, softmax, flipped back, mean over the passes. Ours: flips are
    passed together, and turned back before the resizing, which is the same.
    """
    size = (images.shape[1], images.shape[2])
    total = torch.zeros(len(images), *size, data.classes, device=device)
    for ratio in ratios:
        pictures = torch.cat([test_image(image.numpy(), data, ratio, flip) for flip in flips for image in images])
        found, sizes = _scores(model, pictures.to(device), data)
        for flip, part in zip(flips, found.split(len(images)), strict=True):
            add_probabilities(total, part.flip(3) if flip else part, [*sizes, size])
    return total.div_(len(ratios) * len(flips)).permute(0, 3, 1, 2)


@torch.inference_mode()
def _likeliest(model: nn.Module, images: Tensor, data: Data, device: torch.device) -> Tensor:
    """The likeliest class `(B, H, W)` in one pass: that with the highest score, before any softmax."""
    pictures = torch.cat([test_image(image.numpy(), data) for image in images])
    found, sizes = _scores(model, pictures.to(device), data)
    return likeliest(found, [*sizes, (images.shape[1], images.shape[2])])


def _scores(model: nn.Module, pictures: Tensor, data: Data) -> tuple[Tensor, Sizes]:
    """Scores in full precision, as small as they are to be had, and the size that they belong to if it is another."""
    if data.window is None and isinstance(model, SegNeXt):
        return model.logits(pictures).float(), [(pictures.shape[2], pictures.shape[3])]
    return scores(model, pictures, data).float(), []


def scores(model: nn.Module, pictures: Tensor, data: Data) -> Tensor:
    """Class scores `(B, classes, H, W)` of `(B, 3, H, W)` pictures, whole or window by window.

    Official code: slide_inference, the mean of the scores of all windows that see a pixel, before any softmax.
    """
    if data.window is None or data.stride is None:
        return model(pictures)
    size = (pictures.shape[2], pictures.shape[3])
    rows, columns = (windows(*sides) for sides in zip(size, data.window, data.stride, strict=True))
    shape = (len(pictures), data.classes, *size)
    total = torch.empty(shape, device=pictures.device, memory_format=torch.channels_last).zero_()
    seen = torch.zeros(size, device=pictures.device)
    for row in rows:
        for column in columns:
            total[:, :, row, column] += model(pictures[:, :, row, column])
            seen[row, column] += 1
    return total.div_(seen)


def windows(side: int, window: int, stride: int) -> list[slice]:
    """The windows along one side, in pixels: ceil((side - window) / stride) + 1, the last shifted back to the edge.

    Official code: slide_inference; a side smaller than the window is one smaller window, without padding. Raises
    `ValueError` for a stride that would leave pixels out.
    """
    if not 0 < stride <= window:
        raise ValueError(f"Data.stride: {stride} with a window of {window}; it must lie between 1 and the window")
    starts = range(0, max(side - window, 0) + stride, stride)
    ends = [min(start + window, side) for start in starts]
    return [slice(max(end - window, 0), end) for end in ends]


def _groups(
    source: Source, numbers: Sequence[int], data: Data, ratio: float, batch: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Runs of at most `batch` images of one size: their numbers, `(B, H, W, 3)` and `(B, H, W)`, uint8."""
    group: list[tuple[int, np.ndarray, np.ndarray]] = []
    most = batch
    for number in numbers:
        image, label = source.load(number)
        if group and (len(group) >= most or label.shape != group[0][2].shape):
            yield _stacked(group)
            group = []
        if not group:
            height, width = test_size(label.shape[0], label.shape[1], data, ratio)
            most = min(batch, SCORES_LIMIT // (4 * data.classes * height * width))
        group.append((number, image, label))
    if group:
        yield _stacked(group)


def _stacked(group: list[tuple[int, np.ndarray, np.ndarray]]) -> tuple[list[int], Tensor, Tensor]:
    numbers, images, labels = zip(*group, strict=True)
    return list(numbers), torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


def _check_group(rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise ValueError(f"share: {(rank, world)} is not a rank below a number of processes")
    if world > 1:
        group = distributed.is_available() and distributed.is_initialized()
        found = (distributed.get_rank(), distributed.get_world_size()) if group else None
        if found != (rank, world):
            raise ValueError(
                f"share: process {rank} of {world}, but torch.distributed has {found or 'no group'}; "
                "start the group before an evaluation is shared"
            )
