"""Generated datasets, `diagnostic/<task>`: images with exact labels, made on the fly from (task, split, index) alone.

`scene` is a mixed task whose classes need different abilities. Objects of one kind look alike; what tells their classes
apart lies at a known distance: a disc's size, a mark at one end of a strip, a key somewhere in the image.
"""

from __future__ import annotations

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
    "box with cyan key",
    "box with orange key",
)
BACKGROUND, SMALL_DISC, LARGE_DISC, RED_STRIP, GREEN_STRIP, CYAN_BOX, ORANGE_BOX = range(len(CLASSES))

# Materials: what a pixel is made of, which is less than its class says.
GROUND, DISC, STRIP, BOX, RED, GREEN, CYAN, ORANGE = range(8)
_COLOURS = np.array(
    [
        (0.48, 0.48, 0.46),
        (0.36, 0.46, 0.64),
        (0.66, 0.62, 0.46),
        (0.56, 0.42, 0.56),
        (0.80, 0.22, 0.20),
        (0.20, 0.66, 0.28),
        (0.12, 0.74, 0.78),
        (0.92, 0.56, 0.10),
    ],
    dtype=np.float32,
)
_COLOUR_GAIN = 0.12  # each channel of an image is scaled by 1 +- this
_NOISE = 0.06  # standard deviation of the pixel noise

_SMALL_RADII, _LARGE_RADII = (4, 6), (9, 13)  # pixels, both ends included
_SMALL_COUNT, _LARGE_COUNT, _BOX_COUNT = 4, 2, 3
_BOX_SIDES = (12, 20)
_STRIP_LENGTHS, _STRIP_THICKNESS = (48, 76), 5
_MARK, _KEY = 6, 16  # pixels: the length of a mark along its strip, the side of a key
_TRIES = 64  # places drawn at once for an object; where none is free, the scene is drawn anew


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
        """Digest of task, generator version, split and number of images: these determine every pixel."""
        return digest([self._identity, len(self)])


def scene(random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """One image of the mixed task, uint8 RGB (96, 96, 3), and its label, uint8 (96, 96).

    Every image holds two strips of either mark (so that the mix of colours betrays nothing), small and large discs of
    one texture, and boxes whose class is the colour of the image's only key. Marks and key are never covered; the key
    itself is background, a mark is part of its strip.
    """
    shapes = None
    while shapes is None:
        shapes = _arrange(random)
    label = np.full((SIDE, SIDE), BACKGROUND, dtype=np.uint8)
    material = np.full((SIDE, SIDE), GROUND, dtype=np.uint8)
    for shape in shapes:
        shape.paint(label, material)
    colours = _COLOURS * random.uniform(1 - _COLOUR_GAIN, 1 + _COLOUR_GAIN, 3).astype(np.float32)
    texture = 0.75 + 0.3 * _value_noise(random, 6) + 0.2 * _value_noise(random, 24)
    noise = _NOISE * random.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    image = colours[material] * texture[..., None] + noise
    return (255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8), label


@dataclass(frozen=True)
class _Shape:
    """A rectangle, or the disc within it, with the class and the material of its pixels."""

    box: Box
    label: int
    material: int
    round: bool = False

    def paint(self, label: Pixels, material: Pixels) -> None:
        top, left, bottom, right = self.box
        window = (slice(top, bottom), slice(left, right))
        if self.round:
            inside = _disc(bottom - top)
            label[window][inside] = self.label
            material[window][inside] = self.material
        else:
            label[window] = self.label
            material[window] = self.material


def _arrange(random: np.random.Generator) -> list[_Shape] | None:
    """The shapes of one scene in the order they are painted; None where one found no place."""
    key_is_cyan = bool(random.integers(2))
    key = _place(random, _KEY, _KEY, [])
    if key is None:
        return None
    cues = [key]
    strips: list[tuple[Box, bool]] = []
    marks: list[_Shape] = []
    for number, is_red in enumerate(random.permutation([True, True, False, False])):
        horizontal = number < 2
        length = int(random.integers(_STRIP_LENGTHS[0], _STRIP_LENGTHS[1] + 1))
        height, width = (_STRIP_THICKNESS, length) if horizontal else (length, _STRIP_THICKNESS)
        parallel = [box for box, along in strips if along == horizontal]
        strip = _place(random, height, width, [*cues, *parallel])
        if strip is None:
            return None
        mark = _end(strip, horizontal, first=bool(random.integers(2)))
        if _touches(mark, [box for box, _ in strips]):
            return None
        cues.append(mark)
        strips.append((strip, horizontal))
        marks.append(_Shape(mark, RED_STRIP if is_red else GREEN_STRIP, RED if is_red else GREEN))
    bodies: list[_Shape] = []
    kinds = [
        (LARGE_DISC, _LARGE_RADII, _LARGE_COUNT),
        (CYAN_BOX if key_is_cyan else ORANGE_BOX, _BOX_SIDES, _BOX_COUNT),
        (SMALL_DISC, _SMALL_RADII, _SMALL_COUNT),
    ]
    for label, (least, most), count in kinds:
        is_disc = label in (SMALL_DISC, LARGE_DISC)
        for size in random.integers(least, most + 1, count):
            side = 2 * int(size) if is_disc else int(size)
            body = _place(random, side, side, [*cues, *(other.box for other in bodies)])
            if body is None:
                return None
            bodies.append(_Shape(body, label, DISC if is_disc else BOX, round=is_disc))
    bars = [_Shape(box, mark.label, STRIP) for (box, _), mark in zip(strips, marks, strict=True)]
    return [*bodies, *bars, *marks, _Shape(key, BACKGROUND, CYAN if key_is_cyan else ORANGE)]


def _end(strip: Box, horizontal: bool, first: bool) -> Box:
    top, left, bottom, right = strip
    if horizontal:
        return (top, left, bottom, left + _MARK) if first else (top, right - _MARK, bottom, right)
    return (top, left, top + _MARK, right) if first else (bottom - _MARK, left, bottom, right)


def _place(random: np.random.Generator, height: int, width: int, taken: list[Box]) -> Box | None:
    """A box of this size inside the image, a pixel or more from those taken; None where no try found one."""
    tops = random.integers(0, SIDE - height + 1, _TRIES)
    lefts = random.integers(0, SIDE - width + 1, _TRIES)
    if not taken:
        free = np.ones(_TRIES, dtype=bool)
    else:
        top, left, bottom, right = np.array(taken).T[:, :, None]
        apart = (tops > bottom) | (tops + height < top) | (lefts > right) | (lefts + width < left)
        free = apart.all(axis=0)
    if not free.any():
        return None
    chosen = int(free.argmax())
    return int(tops[chosen]), int(lefts[chosen]), int(tops[chosen]) + height, int(lefts[chosen]) + width


def _touches(box: Box, others: list[Box]) -> bool:
    top, left, bottom, right = box
    return any(top <= b and t <= bottom and left <= r and q <= right for t, q, b, r in others)


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
