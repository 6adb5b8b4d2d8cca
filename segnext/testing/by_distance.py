"""Accuracy by distance to the cue that decides a class; only generated data know that distance."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from segnext.data.generated.drawing import NOTHING
from segnext.data.source import IGNORE, Pixels


def by_distance(
    predicted: Iterable[tuple[list[int], Tensor, Tensor]], distances: Callable[[int], Pixels]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count labelled pixels, and those predicted correctly, by distance in pixels from 0 to 254: int64 (255,) each.

    `predicted` is what `segnext.testing.evaluate.predictions` yields: image numbers, predictions and labels (B, H, W).
    `distances(number)` returns the distances of an image, uint8 (H, W).
    """
    pixels, right = np.zeros((2, NOTHING + 1), np.int64)
    for numbers, maps, labels in predicted:
        for number, found, label in zip(numbers, maps.numpy(), labels.numpy(), strict=True):
            distance = distances(number)
            seen = label != IGNORE
            pixels += np.bincount(distance[seen], minlength=NOTHING + 1)
            right += np.bincount(distance[seen & (found == label)], minlength=NOTHING + 1)
    return pixels[:NOTHING], right[:NOTHING]
