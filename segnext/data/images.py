"""Reading images and labels from files, and from zip archives that need not be unpacked."""

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

# What Pillow and zipfile raise for a file that is not, or not wholly, an image: OSError mostly, the others from inside.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
    Image.DecompressionBombError,
)

# What may be opened at all, by content: of Pillow's other formats some lose bits, and EPS starts Ghostscript.
_IMAGE_FORMATS = ("PNG", "JPEG")
_LABEL_FORMATS = ("PNG",)
_CONVERTED = ("1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr")  # modes that Pillow makes right RGB of


_Taken = TypeVar("_Taken")


class _UnfitError(Exception):
    """A whole image whose pixels are not what is meant."""


@dataclass(frozen=True)
class Original:
    """A downloaded file, or a member of a downloaded zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def open(self, _: Literal["rb"] = "rb") -> IO[bytes]:
        """The stored bytes, as `Path.open` has them."""
        return archive(self.path).open(self.member) if self.member else open(self.path, "rb")


@functools.lru_cache(maxsize=8)
def archive(path: Path) -> zipfile.ZipFile:
    """A zip archive, kept open: to find one member, the names of all have to be read."""
    return zipfile.ZipFile(path)


def read_image(file: Path | Original) -> Pixels:
    """An image as uint8 RGB (H, W, 3), from a PNG or JPEG file: its content counts, whatever its name ends with.

    Transparency is left out, and 16 bits are cut to their upper 8: OpenCV's IMREAD_COLOR, which the release reads with,
    does the same. Ours: an EXIF orientation is not followed, in images and labels alike. The release follows it in
    images alone (mmcv's `imfrombytes(flag="color")` is IMREAD_COLOR, which turns them; labels are read by Pillow, which
    does not), so that a turned image loses its label.

    Raises `DataError`, naming the file, where it cannot be decoded to its end or has no range of 8 or 16 bits.
    """
    return _decoded(file, _IMAGE_FORMATS, _rgb)


def read_oriented(file: Path | Original) -> tuple[Pixels, int]:
    """An image as `read_image` has it, and its EXIF orientation, which that leaves alone: 1 where there is none."""
    return _decoded(file, _IMAGE_FORMATS, lambda image: (_rgb(image), _orientation(image)))


def read_colours(file: Path | Original) -> Pixels:
    """A label that is drawn in colours, as uint8 RGB (H, W, 3), from a PNG file; raises as `read_image` does."""
    return _decoded(file, _LABEL_FORMATS, _rgb)


def read_label(file: Path | Original) -> Pixels:
    """The stored bytes of a grey or palette PNG file, uint8 (H, W): in both, the byte is the class.

    Raises `DataError` for another format by content (JPEG changes the classes), another mode, or a damaged file.
    """
    return _decoded(file, _LABEL_FORMATS, _stored)


def read_size(file: Path | Original) -> tuple[int, int]:
    """(H, W) of an image, from its header alone; `DataError`, naming the file, where that is damaged."""
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
    if image.mode.startswith("I;16"):  # Pillow's own conversion cuts off what is above 255, and leaves white
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in _CONVERTED:
        raise _UnfitError(f"an image of mode {image.mode}, where 8 or 16 bits a channel are meant")
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """Of an image that is loaded."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE:  # a damaged EXIF block, which nothing else reads
        return 1
    return turned if turned in range(1, 9) else 1


def _stored(image: Image.Image) -> Pixels:
    if image.mode not in ("L", "P"):
        raise _UnfitError(f"a label of mode {image.mode}, where 8-bit grey or palette is meant")
    # A grey PNG of 2 or 4 bits, whose values Pillow multiplies: whether they are classes or grey levels, nobody knows.
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
