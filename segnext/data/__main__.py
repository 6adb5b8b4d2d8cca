"""`python -m segnext.data show DATASET --out sheet.png`: a picture of a dataset, every image above its label."""

from __future__ import annotations

import argparse
import colorsys
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from segnext.data import Source, convert, open_dataset
from segnext.data.source import IGNORE, Pixels

_GAP = 6  # pixels between pictures
_LINE = 16  # pixels of a legend's line
_GOLDEN = 0.618034  # steps of this part of the colour circle keep neighbouring classes apart


def palette(classes: int) -> Pixels:
    """A display colour for every label value: uint8 (256, 3); class 0 is grey, ignored pixels are white."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    for label in range(1, classes):
        hue, brightness = (label * _GOLDEN) % 1, (0.95, 0.7)[label % 2]
        colours[label] = [int(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.7, brightness)]
    colours[0] = 60
    colours[IGNORE] = 255
    return colours


def sheet(source: Source, columns: int, rows: int, magnify: int = 1) -> Image.Image:
    """The first columns x rows images, each above its coloured label, with a legend of the classes."""
    colours = palette(len(source.classes))
    count = min(columns * rows, len(source))
    pairs = [source.load(index) for index in range(count)]
    height = magnify * max(label.shape[0] for _, label in pairs)
    width = magnify * max(label.shape[1] for _, label in pairs)
    down, across = 2 * height + 2 * _GAP, width + _GAP
    legend = _LINE * len(source.classes)
    page = Image.new("RGB", (columns * across + _GAP, -(-count // columns) * down + 2 * _GAP + legend), "white")
    for position, (image, label) in enumerate(pairs):
        left, top = _GAP + (position % columns) * across, _GAP + (position // columns) * down
        size = (magnify * label.shape[1], magnify * label.shape[0])
        for picture, shift in ((image, 0), (colours[label], height)):
            page.paste(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST), (left, top + shift))
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(source.classes):
        top = page.height - _GAP - legend + _LINE * number
        draw.rectangle((_GAP, top, _GAP + 12, top + 12), fill=tuple(colours[number].tolist()))
        draw.text((_GAP + 20, top), f"{number}  {name}", fill="black")
    return page


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m segnext.data", description="Look at a dataset.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="write a picture of a split: every image above its label")
    show.add_argument("dataset", help="camvid, or diagnostic/<task>")
    show.add_argument("--split", default="train")
    show.add_argument("--data-root", type=Path, help="the folder that holds the dataset; generated ones need none")
    show.add_argument("--out", type=Path, default=Path("sheet.png"))
    show.add_argument("--columns", type=int, default=6)
    show.add_argument("--rows", type=int, default=3)
    show.add_argument("--magnify", type=int, default=1, help="screen pixels for each pixel")
    convert.add_arguments(verbs.add_parser("convert", help="make the labels that training reads from a download"))
    chosen = parser.parse_args(arguments)
    if chosen.verb == "convert":
        return convert.main(chosen)
    try:
        source = open_dataset(chosen.dataset, chosen.split, chosen.data_root)
        sheet(source, chosen.columns, chosen.rows, chosen.magnify).save(chosen.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{chosen.out}: {chosen.dataset} {chosen.split}, {len(source)} images, fingerprint {source.fingerprint()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
