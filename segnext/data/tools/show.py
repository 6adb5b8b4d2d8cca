"""A picture of a dataset: every image above its label, in the dataset's display colours."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from segnext.data.classes import Colour
from segnext.data.source import IGNORE, Pixels, Source

_GAP = 6  # pixels between pictures
_LINE = 16  # pixels: height of a line in the legend
_LETTER = 7  # pixels: width of a letter in the legend, at most
_GOLDEN = 0.618034  # steps of this fraction of the hue circle keep neighbouring classes distinct
_NAMED: dict[str, Colour] = {
    "red": (214, 51, 51),
    "green": (51, 168, 71),
    "cyan": (31, 189, 199),
    "orange": (235, 143, 26),
}


def palette(classes: Sequence[str], colours: Sequence[Colour] | None = None) -> Pixels:
    """A display colour for every label value: uint8 (256, 3). Classes have the given colours; ignored is white.

    Without given colours a class named `red-marked strip` is red; otherwise class 0 is grey, and the others are spread
    over the hue circle.
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    if colours is not None:
        table[: len(classes)] = colours
    else:
        table[0] = 60
        for label, name in enumerate(classes):
            if (word := re.split(r"\W", name)[0]) in _NAMED:
                table[label] = _NAMED[word]
            elif label:
                hue, brightness = (label * _GOLDEN) % 1, (0.95, 0.7)[label % 2]
                table[label] = [int(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.7, brightness)]
    table[IGNORE] = 255
    return table


def sheet(
    source: Source,
    columns: int,
    rows: int,
    magnify: int = 1,
    colours: Sequence[Colour] | None = None,
    largest: int = 640,
) -> Image.Image:
    """The first columns x rows images, each above its coloured label, with a legend of the classes.

    If there are fewer images than columns, the sheet has one column per image. Pictures are magnified by a whole
    number, and shrunk if an edge is longer than `largest` pixels.
    """
    table = palette(source.classes, colours)
    pairs = [_fitted(*source.load(index), table, magnify, largest) for index in range(min(columns * rows, len(source)))]
    columns = min(columns, len(pairs))
    width, height = (max(image.size[axis] for image, _ in pairs) for axis in (0, 1))
    down, across = 2 * height + 2 * _GAP, width + _GAP
    wide = columns * across + _GAP
    entry = 40 + _LETTER * max(map(len, source.classes))  # pixels: width of a class in the legend
    beside = max(1, (wide - _GAP) // entry)
    lines = -(-len(source.classes) // beside)
    legend = _LINE * lines
    page = Image.new("RGB", (wide, -(-len(pairs) // columns) * down + 2 * _GAP + legend), "white")
    for position, pictures in enumerate(pairs):
        left, top = _GAP + (position % columns) * across, _GAP + (position // columns) * down
        for picture, shift in zip(pictures, (0, height), strict=True):
            page.paste(picture, (left, top + shift))
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(source.classes):
        left, top = _GAP + number // lines * entry, page.height - _GAP - legend + number % lines * _LINE
        draw.rectangle((left, top, left + 12, top + 12), fill=tuple(table[number].tolist()), outline="black")
        draw.text((left + 20, top), f"{number}  {name}", fill="black")
    return page


def _fitted(image: Pixels, label: Pixels, table: Pixels, magnify: int, largest: int) -> tuple[Image.Image, Image.Image]:
    height, width = (magnify * side for side in label.shape)
    factor = min(1.0, largest / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    smooth = Image.Resampling.NEAREST if factor == 1 else Image.Resampling.BOX
    return (
        Image.fromarray(image).resize(size, smooth),
        Image.fromarray(table[label]).resize(size, Image.Resampling.NEAREST),
    )
