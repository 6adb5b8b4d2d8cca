"""Reading images and labels from files and from members of zip archives."""

from __future__ import annotations

import functools
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from segnext.data.source import DataError, Pixels

# What Pillow and zipfile raise for a file that is no complete image: mostly OSError, the others from their internals.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
    Image.DecompressionBombError,
)

# Formats that we open, by content. Some of Pillow's others lose bits, and EPS starts Ghostscript.
_IMAGE_FORMATS = ("PNG", "JPEG")
_LABEL_FORMATS = ("PNG",)
_CONVERTED = ("1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr")  # modes that Pillow converts to RGB correctly


_Taken = TypeVar("_Taken")


class _UnfitError(Exception):
    """An undamaged image whose pixel format is not the expected one."""


@dataclass(frozen=True)
class Original:
    """A downloaded file, or a member of a downloaded zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def open(self, _: Literal["rb"] = "rb") -> IO[bytes]:
        """Open the stored bytes for reading, as `Path.open` does."""
        return archive(self.path).open(self.member) if self.member else open(self.path, "rb")


@functools.lru_cache(maxsize=8)
def archive(path: Path) -> zipfile.ZipFile:
    """A zip archive, kept open because finding a member needs the names of all to be read."""
    return zipfile.ZipFile(path)


def read_image(file: Path | Original) -> Pixels:
    """Read a PNG or JPEG file as uint8 RGB (H, W, 3). The content decides the format, not the name.

    Transparency is dropped, and 16 bits are cut to their upper 8, as by OpenCV's IMREAD_COLOR, with which the release
    reads. Ours: EXIF orientation is ignored in images and labels. The release applies it to images only (mmcv's
    `imfrombytes(flag="color")` is IMREAD_COLOR, which rotates; Pillow, which reads the labels, does not), so that a
    rotated image no longer matches its label.

    Raises `DataError`, naming the file, if it cannot be decoded completely or does not have 8 or 16 bits per channel.
    """
    return _decoded(file, _IMAGE_FORMATS, _rgb)


def read_oriented(file: Path | Original) -> tuple[Pixels, int]:
    """The image as `read_image` returns it, and its EXIF orientation (1 if it has none), which is not applied."""
    return _decoded(file, _IMAGE_FORMATS, lambda image: (_rgb(image), _orientation(image)))


def read_colours(file: Path | Original) -> Pixels:
    """Read a label drawn in colours from a PNG file as uint8 RGB (H, W, 3). Raises as `read_image` does."""
    return _decoded(file, _LABEL_FORMATS, _rgb)


def read_label(file: Path | Original) -> Pixels:
    """Read the stored bytes of a grey or palette PNG file, uint8 (H, W); a byte is a class.

    Raises `DataError` if the content has another format (JPEG would change classes) or mode, or is damaged.
    """
    return _decoded(file, _LABEL_FORMATS, _stored)


def read_size(file: Path | Original) -> tuple[int, int]:
    """(H, W) of an image from its header. Raises `DataError`, naming the file, if the header is damaged."""
    try:
        with file.open("rb") as opened, Image.open(opened, formats=_IMAGE_FORMATS) as image:
            return image.height, image.width
    except UNREADABLE as error:
        raise _damaged(file, error, _IMAGE_FORMATS) from error


def _decoded(file: Path | Original, formats: tuple[str, ...], take: Callable[[Image.Image], _Taken]) -> _Taken:
    try:
        with file.open("rb") as opened, Image.open(opened, formats=formats) as image:
            return take(image)
    except _UnfitError as error:
        raise DataError(f"{file}: {error}; put the original back") from error
    except UNREADABLE as error:
        raise _damaged(file, error, formats) from error


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255, which leaves white
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in _CONVERTED:
        raise _UnfitError(f"an image of mode {image.mode}, where 8 or 16 bits a channel are meant")
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image; 1 if it has none."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE:  # a damaged EXIF block, which does not affect the pixels
        return 1
    return turned if turned in range(1, 9) else 1


def _stored(image: Image.Image) -> Pixels:
    if image.mode not in ("L", "P"):
        raise _UnfitError(f"a label of mode {image.mode}, where 8-bit grey or palette is meant")
    # Pillow scales the values of a grey PNG with 2 or 4 bits, so they could be classes or grey levels.
    assert isinstance(image, ImageFile.ImageFile)
    if (stored := image.tile[0].args) in ("L;2", "L;4"):
        raise _UnfitError(f"a grey label of {stored[2:]} bits a pixel, where 8 bits or a palette are meant")
    return np.asarray(image)


def _damaged(file: Path | Original, error: BaseException, formats: tuple[str, ...]) -> DataError:
    if isinstance(error, UnidentifiedImageError):
        return DataError(
            f"{file}: cannot be read as an image (it is no {' or '.join(formats)} file); put the original back"
        )
    return DataError(f"{file}: cannot be read as an image ({error}); put the original back")
