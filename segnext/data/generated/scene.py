"""`diagnostic/scene`: the mixed task of `make demo`, whose classes need different abilities.

Objects of one kind look alike. A cue at a known distance decides their class: the size of a disc, a mark at one end of
a strip, or keys somewhere in the image.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segnext.data.generated.drawing import NOTHING, SIDE, Picture, value_noise
from segnext.data.source import Pixels

VERSION = "1"  # raise it if any pixel or label changes

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; bottom and right are exclusive

CLASSES = (
    "background",
    "small disc",
    "large disc",
    "red-marked strip",
    "green-marked strip",
    "cyan key or its box",
    "orange key or its box",
)
BACKGROUND, SMALL_DISC, LARGE_DISC, RED_STRIP, GREEN_STRIP, CYAN_BOX, ORANGE_BOX = range(len(CLASSES))

# Materials: what a pixel looks like. Several classes share a material.
GROUND, DISC, STRIP, BOX, RED, GREEN, CYAN, ORANGE = range(8)
_COLOURS = np.array(
    [
        (0.48, 0.48, 0.46),  # ground: grey
        (0.36, 0.46, 0.64),  # disc: slate
        (0.66, 0.62, 0.46),  # strip: sand
        (0.56, 0.42, 0.56),  # box: mauve
        (0.80, 0.22, 0.20),  # red mark
        (0.20, 0.66, 0.28),  # green mark
        (0.12, 0.74, 0.78),  # cyan key
        (0.92, 0.56, 0.10),  # orange key
    ],
    dtype=np.float32,
)
_COLOUR_GAIN = 0.12  # each channel of an image is scaled by a factor within 1 +- this
_NOISE = 0.05  # standard deviation of the pixel noise

# Sizes in pixels, ranges with both ends included.
_SMALL_DIAMETERS, _SMALL_COUNT = (10, 15), 4
_LARGE_DIAMETERS, _LARGE_COUNT = (19, 26), 2
_BOX_SIDES, _BOX_COUNT = (12, 20), 3
_STRIP_LENGTHS, _STRIP_THICKNESS = (28, 48), 8
_MARK = 10  # length along the strip
_KEY, _KEY_COUNT = 12, 3
_TRIES = 64  # places tried for an object; if none is free, the whole scene is drawn again


def scene(random: np.random.Generator) -> Picture:
    """One picture of the mixed task.

    Every image has two strips with each mark (so that the mix of colours reveals nothing), small and large discs of one
    texture, and boxes whose class is the colour of the image's keys, which all have the same colour. Marks and keys are
    labelled with the class that they decide, so part of each of these classes is easy; they are never covered.
    """
    label = np.full((SIDE, SIDE), BACKGROUND, dtype=np.uint8)
    material = np.full((SIDE, SIDE), GROUND, dtype=np.uint8)
    shapes = arrange(random)
    for shape in shapes:
        shape.paint(label, material)
    colours = _COLOURS * random.uniform(1 - _COLOUR_GAIN, 1 + _COLOUR_GAIN, 3).astype(np.float32)
    texture = 0.75 + 0.3 * value_noise(random, 6) + 0.2 * value_noise(random, 24)
    noise = _NOISE * random.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    image = colours[material] * texture[..., None] + noise
    return Picture((255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8), label, _distances(shapes, material))


def _distances(shapes: list[Shape], material: Pixels) -> Pixels:
    """Distances of a strip to its mark, of a box to the nearest key, and of a disc as `_across` measures it."""
    distance = np.full((SIDE, SIDE), NOTHING, dtype=np.uint8)
    keys = [shape.box for shape in shapes if shape.material in (CYAN, ORANGE)]
    marks = [shape.box for shape in shapes if shape.material in (RED, GREEN)]
    for shape in shapes:
        top, left, bottom, right = shape.box
        here = (slice(top, bottom), slice(left, right))
        if shape.material == DISC:
            inside = _disc(bottom - top)
            distance[here][inside] = _across(bottom - top)[inside]
        elif shape.material == BOX:
            distance[here] = np.minimum.reduce([_from(key, shape.box) for key in keys])
        elif shape.material == STRIP:
            distance[here] = _from(next(mark for mark in marks if _within(mark, shape.box)), shape.box)
    distance[material >= RED] = 0
    return distance


def _from(cue: Box, box: Box) -> Pixels:
    """The rounded distance of every pixel of `box` to the nearest pixel of `cue`: uint8 (height, width)."""
    rows, columns = (
        np.maximum(np.maximum(cue[side] - at, at - (cue[side + 2] - 1)), 0)
        for side, at in ((0, np.arange(box[0], box[2])), (1, np.arange(box[1], box[3])))
    )
    return np.rint(np.hypot(rows[:, None], columns)).astype(np.uint8)


@functools.cache
def _across(side: int) -> Pixels:
    """How far each pixel of a square must see to have two opposite edges in sight."""
    away = np.maximum(np.arange(side), np.arange(side)[::-1])
    return np.minimum(away[:, None], away).astype(np.uint8)


def _within(inner: Box, outer: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


@dataclass(frozen=True)
class Shape:
    """A rectangle, or the disc within it, with the class and the material of its pixels."""

    box: Box
    label: int
    material: int
    round: bool = False

    def paint(self, label: Pixels, material: Pixels) -> None:
        """Paint the shape over an image's label and material, both uint8 (96, 96)."""
        top, left, bottom, right = self.box
        window = (slice(top, bottom), slice(left, right))
        if self.round:
            inside = _disc(bottom - top)
            label[window][inside] = self.label
            material[window][inside] = self.material
        else:
            label[window] = self.label
            material[window] = self.material


class _NoRoomError(Exception):
    """There is no free place for an object among those before it."""


def arrange(random: np.random.Generator) -> list[Shape]:
    """The shapes of one scene in the order of painting: bodies, strips across them, then the cues."""
    while True:
        with contextlib.suppress(_NoRoomError):
            keys = _keys(random)
            strips, marks = _strips(random, keys)
            return [*_bodies(random, [*keys, *marks], keys[0].label), *strips, *marks, *keys]


def _keys(random: np.random.Generator) -> list[Shape]:
    """Squares of one colour, which decides the class of every box in the image."""
    label, material = ((CYAN_BOX, CYAN), (ORANGE_BOX, ORANGE))[random.integers(2)]
    keys: list[Shape] = []
    for _ in range(_KEY_COUNT):
        keys.append(Shape(_place(random, _KEY, _KEY, keys), label, material))
    return keys


def _strips(random: np.random.Generator, keys: list[Shape]) -> tuple[list[Shape], list[Shape]]:
    """Two horizontal and two vertical strips, which may cross, with a mark at one end of each; two marks are red."""
    strips: list[Shape] = []
    marks: list[Shape] = []
    for number, is_red in enumerate(random.permutation([True, True, False, False])):
        horizontal = number < 2
        parallel = strips if horizontal else strips[2:]
        length = int(random.integers(*_STRIP_LENGTHS, endpoint=True))
        sides = (_STRIP_THICKNESS, length) if horizontal else (length, _STRIP_THICKNESS)
        top, left, bottom, right = box = _place(random, *sides, [*keys, *marks, *parallel])
        if random.integers(2):
            end = (top, left, min(bottom, top + _MARK), min(right, left + _MARK))
        else:
            end = (max(top, bottom - _MARK), max(left, right - _MARK), bottom, right)
        if not _apart(end, strips):
            raise _NoRoomError
        label, material = (RED_STRIP, RED) if is_red else (GREEN_STRIP, GREEN)
        strips.append(Shape(box, label, STRIP))
        marks.append(Shape(end, label, material))
    return strips, marks


def _bodies(random: np.random.Generator, cues: list[Shape], boxed: int) -> list[Shape]:
    """Discs of two sizes, and boxes of the class that the keys decide."""
    bodies: list[Shape] = []
    for label, material, sides, count in (
        (LARGE_DISC, DISC, _LARGE_DIAMETERS, _LARGE_COUNT),
        (boxed, BOX, _BOX_SIDES, _BOX_COUNT),
        (SMALL_DISC, DISC, _SMALL_DIAMETERS, _SMALL_COUNT),
    ):
        for side in random.integers(*sides, count, endpoint=True).tolist():
            bodies.append(Shape(_place(random, side, side, [*cues, *bodies]), label, material, material == DISC))
    return bodies


def _place(random: np.random.Generator, height: int, width: int, taken: list[Shape]) -> Box:
    """A box of this size inside the image that touches none of the given shapes. Raises `_NoRoomError`."""
    for top, left in random.integers(0, (SIDE - height + 1, SIDE - width + 1), (_TRIES, 2)).tolist():
        box = (top, left, top + height, left + width)
        if _apart(box, taken):
            return box
    raise _NoRoomError


def _apart(box: Box, others: list[Shape]) -> bool:
    """Whether at least one pixel separates a box from each of the others."""
    top, left, bottom, right = box
    return not any(
        top <= other.box[2] and other.box[0] <= bottom and left <= other.box[3] and other.box[1] <= right
        for other in others
    )


@functools.cache
def _disc(diameter: int) -> npt.NDArray[np.bool_]:
    """Mask of the pixels of a square whose centres lie in its inscribed disc."""
    offset = np.arange(diameter) - (diameter - 1) / 2
    inside: npt.NDArray[np.bool_] = offset[:, None] ** 2 + offset**2 <= (diameter / 2) ** 2
    return inside
