"""Reading images and labels from files, and from zip archives that need not be unpacked."""

from __future__ import annotations

import functools
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from PIL import Image

from segnext.data.source import DataError, Pixels

# What Pillow and zipfile raise for a file that is not, or not wholly, an image: OSError mostly, the others from inside.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
    Image.DecompressionBombError,
)


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
    """An image as uint8 RGB (H, W, 3); `DataError`, naming the file, where it cannot be decoded to its end."""
    return _decoded(file, label=False)


def read_label(file: Path | Original) -> Pixels:
    """The stored bytes of a grey or palette image, uint8 (H, W); `DataError` for another mode or a damaged file."""
    return _decoded(file, label=True)


def read_size(file: Path | Original) -> tuple[int, int]:
    """(H, W) of an image, from its header alone; `DataError`, naming the file, where that is damaged."""
    try:
        with file.open("rb") as opened, Image.open(opened) as image:
            return image.height, image.width
    except UNREADABLE as error:
        raise _damaged(file, error) from error


def _decoded(file: Path | Original, label: bool) -> Pixels:
    try:
        with file.open("rb") as opened, Image.open(opened) as image:
            if not label:
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
            if image.mode in ("L", "P"):  # grey or palette: in both, the stored byte is the class
                return np.asarray(image)
            mode = image.mode
    except UNREADABLE as error:
        raise _damaged(file, error) from error
    raise DataError(f"{file}: a label of mode {mode}, where 8-bit grey or palette is meant; put the original back")


def _damaged(file: Path | Original, error: BaseException) -> DataError:
    return DataError(f"{file}: cannot be read as an image ({error}); put the original back")
