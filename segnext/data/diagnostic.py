"""Generated datasets, `diagnostic/<task>`: images with exact labels, made on the fly from (task, split, index) alone.

`scene` is a mixed task whose classes need different abilities. Objects of one kind look alike; what tells their classes
apart lies at a known distance: a disc's size, a mark at one end of a strip, keys somewhere in the image.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segnext.config import digest
from segnext.data.source import Pixels

VERSION = "1"  # of the generator; a change of any pixel or label raises it
SIDE = 96  # pixels of an image's edges
FRAMES = {"train": 2000, "val": 200}

Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]  # top, left, bottom, right: pixels, the last two excluded

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

# Materials: what a pixel is made of, which is less than its class says.
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
_COLOUR_GAIN = 0.12  # each channel of an image is scaled by 1 +- this
_NOISE = 0.05  # standard deviation of the pixel noise

# Sizes in pixels, ranges with both ends included.
_SMALL_DIAMETERS, _SMALL_COUNT = (10, 15), 4
_LARGE_DIAMETERS, _LARGE_COUNT = (19, 26), 2
_BOX_SIDES, _BOX_COUNT = (12, 20), 3
_STRIP_LENGTHS, _STRIP_THICKNESS = (28, 48), 8
_MARK = 10  # length along the strip
_KEY, _KEY_COUNT = 12, 3
_TRIES = 64  # places drawn for an object; where none is free, the scene is drawn anew


class GeneratedSource:
    """One split of a generated dataset: the same images wherever and whenever they are asked for.

    Raises `ValueError` for a task, split or generator version that this code does not have.
    """

    def __init__(self, task: str, split: str, version: str | None = None) -> None:
        if task != "scene":
            raise ValueError(f"Data.dataset: there is no diagnostic task {task!r}; there is scene")
        if split not in FRAMES:
            raise ValueError(f"diagnostic/{task}: {split!r} is not one of its splits {', '.join(FRAMES)}")
        if version not in (None, VERSION):
            raise ValueError(
                f"Data.generator: this code generates version {VERSION!r} of diagnostic/{task}, not {version!r}"
            )
        self.classes = CLASSES
        self.labelled = True
        self._identity = f"diagnostic/{task} {VERSION} {split}"
        self._split = split

    def __len__(self) -> int:
        return FRAMES[self._split]

    def name(self, index: int) -> str:
        """Split and number."""
        return f"{self._split}/{index:05d}"

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Generates image `index`, uint8 RGB (96, 96, 3), and its label, uint8 (96, 96)."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self._identity}: no image {index}, there are {len(self)}")
        seeds = np.random.SeedSequence(int.from_bytes(self._identity.encode(), "big"), spawn_key=(index,))
        return scene(np.random.Generator(np.random.PCG64(seeds)))

    def fingerprint(self) -> str:
        """Digest of task, generator version, split, number of images, and the pixels of the first.

        The pixels tell of a generator that changed without its version, or of another numpy's random numbers.
        """
        return digest([self._identity, len(self), *(pixels.tobytes().hex() for pixels in self.load(0))])


def scene(random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """One image of the mixed task, uint8 RGB (96, 96, 3), and its label, uint8 (96, 96).

    Every image holds two strips of either mark (so that the mix of colours betrays nothing), small and large discs of
    one texture, and boxes whose class is the colour of the image's keys, which are all of one colour. Marks and keys
    have the class that they tell, so that part of each of these classes is easy; they are never covered.
    """
    label = np.full((SIDE, SIDE), BACKGROUND, dtype=np.uint8)
    material = np.full((SIDE, SIDE), GROUND, dtype=np.uint8)
    for shape in arrange(random):
        shape.paint(label, material)
    colours = _COLOURS * random.uniform(1 - _COLOUR_GAIN, 1 + _COLOUR_GAIN, 3).astype(np.float32)
    texture = 0.75 + 0.3 * _value_noise(random, 6) + 0.2 * _value_noise(random, 24)
    noise = _NOISE * random.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    image = colours[material] * texture[..., None] + noise
    return (255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8), label


@dataclass(frozen=True)
class Shape:
    """A rectangle, or the disc within it, with the class and the material of its pixels."""

    box: Box
    label: int
    material: int
    round: bool = False

    def paint(self, label: Pixels, material: Pixels) -> None:
        """Writes the shape over what an image's label and material hold, both uint8 (96, 96)."""
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
    """An object found no place among those before it."""


def arrange(random: np.random.Generator) -> list[Shape]:
    """The shapes of one scene in the order they are painted: bodies, strips across them, then the cues."""
    while True:
        with contextlib.suppress(_NoRoomError):
            keys = _keys(random)
            strips, marks = _strips(random, keys)
            return [*_bodies(random, [*keys, *marks], keys[0].label), *strips, *marks, *keys]


def _keys(random: np.random.Generator) -> list[Shape]:
    """Squares of one colour, which is the class of every box of the image."""
    label, material = ((CYAN_BOX, CYAN), (ORANGE_BOX, ORANGE))[random.integers(2)]
    keys: list[Shape] = []
    for _ in range(_KEY_COUNT):
        keys.append(Shape(_place(random, _KEY, _KEY, keys), label, material))
    return keys


def _strips(random: np.random.Generator, keys: list[Shape]) -> tuple[list[Shape], list[Shape]]:
    """Two horizontal and two vertical strips, which may cross, and the mark at one end of each; two marks are red."""
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
    """Discs of two sizes, and boxes of the class that the keys tell."""
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
    """A box of this size inside the image, apart from the shapes given. Raises `_NoRoomError`."""
    for top, left in random.integers(0, (SIDE - height + 1, SIDE - width + 1), (_TRIES, 2)).tolist():
        box = (top, left, top + height, left + width)
        if _apart(box, taken):
            return box
    raise _NoRoomError


def _apart(box: Box, others: list[Shape]) -> bool:
    """Whether a pixel or more lies between a box and each of the others."""
    top, left, bottom, right = box
    return not any(
        top <= other.box[2] and other.box[0] <= bottom and left <= other.box[3] and other.box[1] <= right
        for other in others
    )


@functools.cache
def _disc(diameter: int) -> npt.NDArray[np.bool_]:
    """The pixels of a square whose centres lie in its inscribed disc."""
    offset = np.arange(diameter) - (diameter - 1) / 2
    inside: npt.NDArray[np.bool_] = offset[:, None] ** 2 + offset**2 <= (diameter / 2) ** 2
    return inside


def _value_noise(random: np.random.Generator, cells: int) -> Floats:
    """Random heights in [0, 1) on a lattice of cells x cells, smoothly interpolated: float32 (96, 96)."""
    lattice = random.random((cells + 1, cells + 1), dtype=np.float32)
    first, weight = _lattice(cells)
    rows = lattice[first] + (lattice[first + 1] - lattice[first]) * weight[:, None]
    heights: Floats = rows[:, first] + (rows[:, first + 1] - rows[:, first]) * weight
    return heights


@functools.cache
def _lattice(cells: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """For every pixel along an edge: the lattice point before it, and the smoothed weight of the one behind it."""
    position = (np.arange(SIDE) + 0.5) * cells / SIDE
    first = position.astype(np.intp)
    fraction = position - first
    return first, (fraction * fraction * (3 - 2 * fraction)).astype(np.float32)
