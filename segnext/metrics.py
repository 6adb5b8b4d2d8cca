"""Mean IoU from integer sums over a whole split (official code: mmseg/core/evaluation/metrics.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = 255


class Confusion:
    """Pixel counts by (label, prediction), summed in int64: the order of images never matters.

    A label outside the classes and not `IGNORE` is no class of its own, but its pixel is not excused either: the
    prediction there enters the union as a false positive (as measured on the release; `datasets.md`, section 3).
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes + 1, classes, dtype=torch.int64)  # the last row: labels out of range

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Count one image or batch: integer tensors of equal shape, predictions in 0 .. classes - 1."""
        valid = label != IGNORE
        rows = label[valid].long().clamp(max=self.classes)
        cells = torch.bincount(rows * self.classes + prediction[valid].long(), minlength=self.counts.numel())
        self.counts += cells.view_as(self.counts).cpu()

    def score(self) -> Score:
        """The metrics of everything counted so far."""
        labelled = self.counts[:-1]
        hits = labelled.diagonal()
        union = labelled.sum(1) + self.counts.sum(0) - hits
        iou = [100 * int(h) / int(u) if u else None for h, u in zip(hits, union, strict=True)]
        present = [value for value in iou if value is not None]
        total = int(labelled.sum())
        return Score(
            miou=sum(present) / len(present) if present else None,
            iou=iou,
            pixel_accuracy=100 * int(hits.sum()) / total if total else None,
        )


@dataclass(frozen=True)
class Score:
    """Percentages; None where nothing was there to score: a class without union does not enter the mean."""

    miou: float | None
    iou: list[float | None]
    pixel_accuracy: float | None
