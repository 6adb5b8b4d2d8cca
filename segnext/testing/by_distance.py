"""How right a segmentation is by the distance to the cue that decides a class: for generated data, which know it."""

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
    """Labelled pixels, and those of them predicted right, by whole distance from 0 to 254 pixels: int64 (255,) each.

    `predicted` is what `segnext.testing.evaluate.predictions` yields: image numbers, predictions and labels (B, H, W);
    `distances(number)` is an image's, uint8 (H, W).
    """
    pixels, right = np.zeros((2, NOTHING + 1), np.int64)
    for numbers, maps, labels in predicted:
        for number, found, label in zip(numbers, maps.numpy(), labels.numpy(), strict=True):
            distance = distances(number)
            seen = label != IGNORE
            pixels += np.bincount(distance[seen], minlength=NOTHING + 1)
            right += np.bincount(distance[seen & (found == label)], minlength=NOTHING + 1)
    return pixels[:NOTHING], right[:NOTHING]
