"""Metrics of segmentation from integer sums over a whole split: mean IoU, accuracies, boundary IoU.

Official code: mmseg/core/evaluation/metrics.py. Every sum is an int64 count of pixels, so results do not depend on the
order of images or the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor

from segnext.data.source import IGNORE

BOUNDARY_RATIO = 0.02  # Cheng et al. 2021: width of the band as a fraction of the image's diagonal


class _Counts:
    """Counts that add up over images, and so over processes."""

    counts: Tensor  # int64

    def all_reduce(self) -> None:
        """Sum the counts over the processes of torch's default group; all get the sum. Without a group, do nothing."""
        if distributed.is_available() and distributed.is_initialized():
            counts = self.counts.to("cuda" if distributed.get_backend() == "nccl" else "cpu")
            distributed.all_reduce(counts)
            self.counts = counts.to(self.counts.device)


class Confusion(_Counts):
    """Pixel counts by (label, prediction): `counts` is int64 `(classes + 1, classes)`.

    A label that is neither a class nor `IGNORE` does not count as a class, but its pixel is not ignored: the prediction
    there enters the union as a false positive (as measured on the release; `datasets.md`, section 3). The last row has
    such pixels.
    """

    def __init__(self, classes: int, device: torch.device | None = None) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes + 1, classes, dtype=torch.int64, device=device)

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Count an image or batch, integer tensors of one shape. Raises `ValueError` for a prediction out of range."""
        _check(prediction, label, self.classes)
        self.count(prediction, label)

    def count(self, prediction: Tensor, label: Tensor) -> None:
        """As `add`, without the check, so that the host does not wait for a GPU."""
        # Two rows more than classes: one for labels out of range, then one for ignored pixels.
        rows = _at_most(label, self.classes).int().masked_fill_(label == IGNORE, self.classes + 1)
        cells = rows.mul_(self.classes).add_(prediction).flatten()
        counts = _histogram(cells, (self.classes + 2) * self.classes).view(-1, self.classes)[:-1]
        self.counts += counts.to(self.counts.device)

    def score(self, boundary: Boundary | None = None) -> Score:
        """The metrics of everything counted so far, with boundary IoU if `boundary` counted it."""
        counts = self.counts.cpu()
        labelled = counts[:-1]
        hits = labelled.diagonal()
        iou = _percentages(hits, labelled.sum(1) + counts.sum(0) - hits)
        accuracy = _percentages(hits, labelled.sum(1))
        boundary_iou = boundary.iou() if boundary else None
        return Score(
            miou=mean(iou),
            iou=iou,
            pixel_accuracy=_percentages(hits.sum()[None], labelled.sum()[None])[0],
            mean_accuracy=mean(accuracy),
            accuracy=accuracy,
            boundary_miou=mean(boundary_iou or []),
            boundary_iou=boundary_iou,
            confusion=counts.tolist(),
        )


class Boundary(_Counts):
    """Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021, Eq. 3) of each class: how well contours match.

    `IoU(G_d & G, P_d & P)`: of a class's mask in the label, G, and in the prediction, P, only pixels within d pixels of
    the mask's own contour count. As in the authors' code, d is `ratio` times the image's diagonal, rounded, at least 1;
    the distance is that of d erosions by 3x3 (the larger of the row and the column distance); the image's border is a
    contour.

    Ours, as in mean IoU: intersections and unions are summed over the split before they are divided, and ignored pixels
    belong to no class in either map, so that a correct prediction scores 100, whatever it predicts there.
    `counts` is int64 `(3, classes)`: pixels in both bands, in the label's, in the prediction's.
    """

    def __init__(self, classes: int, ratio: float = BOUNDARY_RATIO, device: torch.device | None = None) -> None:
        self.classes = classes
        self.ratio = ratio
        self.counts = torch.zeros(3, classes, dtype=torch.int64, device=device)

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Count a batch, integer `(B, H, W)`. Raises `ValueError` for a prediction out of range."""
        _check(prediction, label, self.classes)
        self.count(prediction, label)

    def count(self, prediction: Tensor, label: Tensor) -> None:
        """As `add`, without the check, so that the host does not wait for a GPU."""
        distance = max(1, round(self.ratio * math.hypot(*label.shape[1:])))
        nothing = self.classes  # the value of pixels that count for no class
        if nothing > 255:
            prediction, label = prediction.int(), label.int()
        ignored = label == IGNORE
        maps = _at_most(label, nothing).masked_fill(ignored, nothing), prediction.masked_fill(ignored, nothing)
        bands = [band.masked_fill(~near_contour(band, distance), nothing) for band in maps]
        side = self.classes + 1
        cells = bands[0].int().mul_(side).add_(bands[1]).flatten()
        pairs = _histogram(cells, side * side).view(side, side)
        counts = torch.stack([pairs.diagonal(), pairs.sum(1), pairs.sum(0)])[:, :-1]
        self.counts += counts.to(self.counts.device)

    def iou(self) -> list[float | None]:
        """Boundary IoU of each class in percent; None if neither map has the class."""
        both, labels, predictions = self.counts.cpu()
        return _percentages(both, labels + predictions - both)


@dataclass(frozen=True)
class Score:
    """Percentages; None if there was nothing to score. Such a class does not enter the mean."""

    miou: float | None
    iou: list[float | None]  # per class; None: neither labelled nor predicted
    pixel_accuracy: float | None  # aAcc: labelled pixels predicted correctly
    mean_accuracy: float | None  # mAcc: mean of `accuracy`
    accuracy: list[float | None]  # per class: its labelled pixels predicted correctly; None: not labelled
    boundary_miou: float | None
    boundary_iou: list[float | None] | None  # per class; None instead of the list: not measured
    confusion: list[list[int]]  # pixels; rows are labels, columns predictions; last row: labels out of range


def near_contour(maps: Tensor, distance: int) -> Tensor:
    """Which pixels of integer maps `(B, H, W)` are within `distance` of another value or of the image's outside.

    A pixel is farther from its contour exactly if the square of side 2 distance + 1 around it has one value. So one
    pass over the map, with running sums, finds the pixels of all classes at once, whatever the distance.
    """
    near = torch.ones_like(maps, dtype=torch.bool)
    height, width = maps.shape[1:]
    if min(height, width) <= 2 * distance:
        return near
    middle = (slice(None), slice(distance, height - distance), slice(distance, width - distance))
    # First along rows: whether the value changes within the distance to the left or right.
    rows = _any_of(2 * distance, maps[:, :, 1:] != maps[:, :, :-1])
    # Then along columns: whether that holds for a row within the distance, or the value changes between two rows.
    centre = maps[:, :, middle[2]]
    columns = rows[:, :-1] | (centre[:, 1:] != centre[:, :-1])
    near[middle] = _any_of(2 * distance, columns.mT).mT | rows[:, 2 * distance :]
    return near


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None (official code: nanmean); None if there are none."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _any_of(count: int, flags: Tensor) -> Tensor:
    """Whether any of `count` consecutive flags is set: `(..., N) -> (..., N - count + 1)`."""
    sums = flags.contiguous().cumsum(-1, dtype=torch.int32)  # contiguous: along columns it is ten times slower
    sums = torch.cat([torch.zeros_like(sums[..., :1]), sums], -1)
    return sums[..., count:] != sums[..., :-count]


def _percentages(parts: Tensor, wholes: Tensor) -> list[float | None]:
    return [100 * part / whole if whole else None for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]


def _at_most(label: Tensor, most: int) -> Tensor:
    """Labels, with those outside 0 to `most` replaced by `most`."""
    if label.dtype == torch.uint8:
        return label.clamp(max=most) if most < 255 else label
    return label.masked_fill((label < 0) | (label > most), most)


def _histogram(cells: Tensor, size: int) -> Tensor:
    """How often each number from 0 to size - 1 occurs: int64 `(size,)`."""
    if cells.device.type == "cpu":
        return torch.bincount(cells, minlength=size)
    return _summed(cells, size)


def _summed(cells: Tensor, size: int) -> Tensor:
    """As `_histogram` without waiting for the device: bincount must read back the largest number."""
    counts = torch.zeros(size, dtype=torch.int64, device=cells.device)
    return counts.scatter_add_(0, cells.long(), torch.ones_like(counts[:1]).expand(len(cells)))


def _check(prediction: Tensor, label: Tensor, classes: int) -> None:
    if prediction.shape != label.shape:
        raise ValueError(f"a prediction of {tuple(prediction.shape)} for a label of {tuple(label.shape)}")
    if prediction.numel() == 0:
        return
    least, greatest = (int(value) for value in prediction.aminmax())
    if least < 0 or greatest >= classes:
        wrong = least if least < 0 else greatest
        raise ValueError(f"a prediction of {wrong}, where the classes are 0 to {classes - 1}")
