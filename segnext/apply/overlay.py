"""A segmentation drawn: class colours over the picture, and beside it what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segnext.data.source import Pixels

LONGEST = 2000  # pixels of an overlay's longer side: it is for looking at, the label map has every pixel


def shares(labels: Pixels, names: Sequence[str]) -> dict[str, float]:
    """Percent of the pixels by class, of those that are there, the largest first."""
    counted = np.bincount(labels.ravel(), minlength=len(names))
    order = sorted(np.flatnonzero(counted), key=lambda label: (-counted[label], label))
    return {names[label]: 100 * float(counted[label]) / labels.size for label in map(int, order)}


def label_image(labels: Pixels, table: Pixels) -> Image.Image:
    """Labels `(H, W)` as a palette picture: the bytes are the classes, and a viewer shows their colours `(256, 3)`."""
    picture = Image.fromarray(labels)
    picture.putpalette(table.tobytes())
    return picture


def overlay(picture: Pixels, labels: Pixels, names: Sequence[str], table: Pixels, opacity: float) -> Image.Image:
    """The picture `(H, W, 3)` under its classes' colours, and a legend at its right: class, percent of the pixels.

    `opacity` is the colours' part, from 0 (the picture) to 1 (the colours alone). It is fitted into 2000 pixels.
    """
    height, width = labels.shape
    factor = min(1.0, LONGEST / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if factor < 1:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    mixed = picture * np.float32(1 - opacity) + table[labels] * np.float32(opacity)
    drawn = Image.fromarray(np.rint(mixed).astype(np.uint8))
    present = shares(labels, names)
    return _beside(drawn, present, {name: table[names.index(name)] for name in present})


def _beside(picture: Image.Image, present: Mapping[str, float], colours: Mapping[str, Pixels]) -> Image.Image:
    """A picture and its legend; as many columns as its classes take in the picture's height, two at most."""
    line = int(min(60, max(16, picture.height / 26)))
    font = ImageFont.load_default(0.72 * line)
    height = max(picture.height, 4 * line)
    room = (height - line) // line
    entries = [(name, f"{percent:.1f} %" if percent >= 0.05 else "< 0.1 %") for name, percent in present.items()]
    columns = min(2, -(-len(entries) // room))
    if len(entries) > columns * room:
        kept = columns * room - 1
        rest = sum(list(present.values())[kept:])
        entries = [*entries[:kept], (f"{len(entries) - kept} more", f"{rest:.1f} %")]
    names, numbers = (max(font.getlength(entry[k]) for entry in entries) for k in (0, 1))
    wide = int(2 * line + names + line + numbers)
    page = Image.new("RGB", (picture.width + columns * wide + line, height), "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    for number, (name, percent) in enumerate(entries):
        left, top = picture.width + line + number // room * wide, line // 2 + number % room * line
        if name in colours:
            box = (left, top + line // 6, left + 2 * line // 3, top + 5 * line // 6)
            draw.rectangle(box, fill=tuple(colours[name].tolist()), outline="black")
        draw.text((left + line, top + line // 2), name, "black", font, anchor="lm")
        draw.text((left + wide - line, top + line // 2), percent, "black", font, anchor="rm")
    return page
