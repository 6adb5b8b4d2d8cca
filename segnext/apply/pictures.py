"""Anybody's pictures as the network sees them: upright, in RGB, of every format and mode that Pillow reads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from segnext.data.images import UNREADABLE
from segnext.data.source import DataError, Pixels
from segnext.text import printable

# EPS starts Ghostscript; PDF is written alone; the others are streams whose frames other programs decode.
_NOT_READ = ("EPS", "PDF", "MPEG", "HDF5", "BUFR", "GRIB", "WMF")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_SCHEMES = ("1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX")  # that Pillow turns into RGB as it should


def read_picture(file: Path | str) -> Pixels:
    """A picture as uint8 RGB (H, W, 3), as a viewer shows it.

    Its EXIF orientation is followed, unlike in a data set, whose labels lie as the pixels are stored. Of an animation
    it is the first frame; what is transparent lies on white; 16 bits are cut to their upper 8; floats are 0 to 1 or
    0 to 255. Raises `DataError`, naming the file, where it cannot be read to its end or has another range.
    """
    name = printable(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow about what a stranger's file holds: it is judged here
            with Image.open(file, formats=_formats()) as opened:
                return _rgb(_upright(opened))
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file") from None
    except UNREADABLE as error:
        why = "it is no picture that Pillow reads" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{name}: cannot be read as a picture ({printable(why)})") from None


def picture_of(given: Image.Image | Pixels) -> Pixels:
    """One of Pillow's images as `read_picture` has a file's, or an array that is uint8 RGB (H, W, 3) already.

    Raises `ValueError` for another array.
    """
    if isinstance(given, Image.Image):
        return _rgb(_upright(given))
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3 or 0 in given.shape:
        raise ValueError(f"an array {given.dtype} {given.shape}, where uint8 RGB (H, W, 3) is meant")
    return np.ascontiguousarray(given)


def found(inputs: Iterable[Path], apart: Path) -> Iterator[tuple[Path, Path]]:
    """The pictures that a person named, and of a folder all that lie in it: (file, where its output lies below OUT).

    Of a folder, files whose name ends like a picture's, hidden ones and those below `apart` left out. Raises
    `DataError` where there is no such file or folder, or no picture in it.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in _formats()}
    for named in inputs:
        if not named.is_dir():
            if not named.exists():
                raise DataError(f"{printable(named)}: there is no such picture or folder")
            yield named, Path(named.name)
            continue
        inside = [path for path in _files(named, apart.resolve()) if path.suffix.lower() in endings]
        if not inside:
            raise DataError(f"{printable(named)}: no file in this folder is named like a picture")
        yield from ((path, path.relative_to(named)) for path in inside)


def _files(folder: Path, apart: Path) -> list[Path]:
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and Path(place, name).resolve() != apart)
        files += [Path(place, name) for name in sorted(names) if name[0] != "."]
    return files


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _NOT_READ]


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE:  # a damaged EXIF block
        return image
    return ImageOps.exif_transpose(image) if turned in range(2, 9) else image


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return np.repeat(_levels(np.asarray(image), image.format == "PPM")[..., None], 3, axis=2)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        shown = image.convert("RGBA") if image.mode != "La" else image.convert("LA").convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        return np.asarray(Image.alpha_composite(white, shown).convert("RGB"))
    if image.mode not in _SCHEMES:
        raise ValueError(f"mode {image.mode} has no RGB here; save it as PNG or JPEG")
    return np.asarray(image.convert("RGB"))


def _levels(values: np.ndarray, sixteen: bool) -> Pixels:
    """Grey of more than 8 bits: (H, W) -> uint8 (H, W)."""
    least, most = values.min(), values.max()
    if values.dtype == np.uint16 or sixteen:
        return (values.astype(np.int64) >> 8).astype(np.uint8)
    if not (np.isfinite(least) and np.isfinite(most)) or least < 0 or most > 65535:
        raise ValueError(f"its values go from {least:g} to {most:g}, which is no range of grey levels; save it as PNG")
    if values.dtype.kind == "f" and most <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if most <= 255:
        return np.rint(values).astype(np.uint8)
    if values.dtype.kind == "f":
        raise ValueError(f"its values go from {least:g} to {most:g}, neither to 1 nor to 255; save it as PNG")
    return (values.astype(np.int64) >> 8).astype(np.uint8)
