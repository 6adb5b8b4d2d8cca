"""RandAugment as VAN and DeiT use it: timm 0.4.12's `rand-m9-mstd0.5-inc1`, on Pillow images.

Cubuk et al., "RandAugment", take magnitudes from a grid. timm adds noise to the magnitude (mstd) and defines every
operation so that its effect increases with the magnitude (inc). The operations are Pillow's, as in timm; torchvision's
`RandAugment` has neither mstd nor inc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LAYERS = 2  # timm: operations per image, drawn with replacement
PROBABILITY = 0.5  # timm: probability that a drawn operation is applied
MAXIMUM = 10.0  # timm: the largest magnitude

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Colour: TypeAlias = tuple[int, int, int]


class _Filling(NamedTuple):
    """How a geometric operation resamples, and the colour with which it fills uncovered pixels."""

    resampling: Image.Resampling
    colour: Colour


class Operation(NamedTuple):
    """An operation: `parameter` maps a strength from -1 to 1 to the operation's parameter; `apply` applies it."""

    parameter: Callable[[float], float]
    apply: Callable[[Image.Image, float, _Filling], Image.Image]


def rand_augment(
    image: Image.Image,
    magnitude: float,
    deviation: float,
    interpolations: Sequence[str],
    colour: Colour,
    random: np.random.Generator,
) -> Image.Image:
    """Two operations, each applied with probability 1/2 at a magnitude from N(magnitude, deviation) within 0 .. 10.

    A geometric operation resamples with one of `interpolations`, drawn at random, and fills with `colour`. All
    randomness comes from `random`. The size stays the same.
    """
    for choice in random.integers(len(_OPERATIONS), size=LAYERS):
        if random.random() < PROBABILITY:
            strength = min(MAXIMUM, max(0.0, random.normal(magnitude, deviation))) / MAXIMUM
            sign = 1 if random.random() < 0.5 else -1
            resampling = RESAMPLING[interpolations[int(random.integers(len(interpolations)))]]
            operation = _OPERATIONS[choice]
            image = operation.apply(image, operation.parameter(sign * strength), _Filling(resampling, colour))
    return image


def _none(strength: float) -> float:
    return 0.0


def _factor(strength: float) -> float:
    return 1 + 0.9 * strength  # 0.1 .. 1.9; 1 leaves the image unchanged


def _affine(image: Image.Image, matrix: tuple[float, ...], filling: _Filling) -> Image.Image:
    method = Image.Transform.AFFINE
    return image.transform(image.size, method, matrix, filling.resampling, fillcolor=filling.colour)


def _solarize_add(image: Image.Image, value: float, filling: _Filling) -> Image.Image:
    return image.point([min(255, level + int(value)) if level < 128 else level for level in range(256)] * 3)


OPERATIONS = {
    "AutoContrast": Operation(_none, lambda image, value, filling: ImageOps.autocontrast(image)),
    "Equalize": Operation(_none, lambda image, value, filling: ImageOps.equalize(image)),
    "Invert": Operation(_none, lambda image, value, filling: ImageOps.invert(image)),
    "Rotate": Operation(  # degrees, about the centre
        lambda strength: 30 * strength,
        lambda image, value, filling: image.rotate(value, filling.resampling, fillcolor=filling.colour),
    ),
    "Posterize": Operation(  # number of bits kept; 0 at magnitude 10, which newer Pillows refuse
        lambda strength: 4 - int(4 * abs(strength)),
        lambda image, value, filling: image.point([level & 0xFF00 >> int(value) for level in range(256)] * 3),
    ),
    "Solarize": Operation(  # levels from this one on are inverted
        lambda strength: 256 - int(256 * abs(strength)),
        lambda image, value, filling: ImageOps.solarize(image, int(value)),
    ),
    "SolarizeAdd": Operation(lambda strength: int(110 * abs(strength)), _solarize_add),  # added to levels below 128
    "Color": Operation(_factor, lambda image, value, filling: ImageEnhance.Color(image).enhance(value)),
    "Contrast": Operation(_factor, lambda image, value, filling: ImageEnhance.Contrast(image).enhance(value)),
    "Brightness": Operation(_factor, lambda image, value, filling: ImageEnhance.Brightness(image).enhance(value)),
    "Sharpness": Operation(_factor, lambda image, value, filling: ImageEnhance.Sharpness(image).enhance(value)),
    "ShearX": Operation(  # about the upper left corner
        lambda strength: 0.3 * strength, lambda image, value, filling: _affine(image, (1, value, 0, 0, 1, 0), filling)
    ),
    "ShearY": Operation(
        lambda strength: 0.3 * strength, lambda image, value, filling: _affine(image, (1, 0, 0, value, 1, 0), filling)
    ),
    "TranslateX": Operation(  # by a fraction of the width
        lambda strength: 0.45 * strength,
        lambda image, value, filling: _affine(image, (1, 0, value * image.width, 0, 1, 0), filling),
    ),
    "TranslateY": Operation(
        lambda strength: 0.45 * strength,
        lambda image, value, filling: _affine(image, (1, 0, 0, 0, 1, value * image.height), filling),
    ),
}
_OPERATIONS = tuple(OPERATIONS.values())
