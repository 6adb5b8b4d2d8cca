"""What all generated pictures share: their size and parts, uneven light, and distances to a cue."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segnext.data.source import Pixels

SIDE = 96  # pixels of an image's edges
NOTHING = 255  # the distance of a background pixel, which no cue decides

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """An image, uint8 RGB (96, 96, 3); its label, uint8 (96, 96); and its distances, uint8 (96, 96).

    The distance of a labelled pixel is measured in pixels to the nearest pixel of the cue that decides its class: 0 on
    the cue itself, `NOTHING` on the background.
    """

    image: Pixels
    label: Pixels
    distance: Pixels


def nearest(pixels: tuple[npt.NDArray[Any], ...], cue: tuple[npt.NDArray[Any], ...]) -> Pixels:
    """The rounded distance of each pixel, given as (rows, columns), to the nearest pixel of a cue: uint8 (N,)."""
    squares = sum((of[:, None] - to).astype(np.int32) ** 2 for of, to in zip(pixels, cue, strict=True))
    assert not isinstance(squares, int)
    return np.rint(np.sqrt(squares.min(axis=1))).astype(np.uint8)


def value_noise(random: np.random.Generator, cells: int) -> Floats:
    """Random heights in [0, 1) on a lattice of `cells` x `cells`, interpolated smoothly: float32 (96, 96)."""
    lattice = random.random((cells + 1, cells + 1), dtype=np.float32)
    first, weight = _lattice(cells)
    rows = lattice[first] + (lattice[first + 1] - lattice[first]) * weight[:, None]
    heights: Floats = rows[:, first] + (rows[:, first + 1] - rows[:, first]) * weight
    return heights


@functools.cache
def _lattice(cells: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """For every pixel along an edge: the lattice point before it, and the smoothed weight of the point after it."""
    position = (np.arange(SIDE) + 0.5) * cells / SIDE
    first = position.astype(np.intp)
    fraction = position - first
    return first, (fraction * fraction * (3 - 2 * fraction)).astype(np.float32)
