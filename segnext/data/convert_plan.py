"""What a conversion is going to do, and what every dataset's converter shares: finding, decoding, looking up values."""

from __future__ import annotations

import functools
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segnext.data.source import DataError, Pixels

_SHOWN = 5  # offenders that a message names
# What Pillow and zipfile raise for a file that is not, or not wholly, an image.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
    Image.DecompressionBombError,
)

Integers = npt.NDArray[np.integer[Any]]


class NotFoundError(DataError):
    """The originals of a dataset are not where they were looked for."""


@dataclass(frozen=True)
class Made:
    """What one original becomes: files still to be encoded, made as they are asked for."""

    files: Iterable[tuple[Path, Pixels]]
    remark: str = ""


@dataclass(frozen=True)
class Job:
    """One original and the files it becomes. `convert` raises `DataError` where the original is damaged."""

    targets: tuple[Path, ...]
    convert: Callable[[], Made]


@dataclass
class Plan:
    """Everything that a conversion is going to do."""

    dataset: str  # what `check` calls the converted dataset
    folder: Path  # of the converted dataset: what `check` takes as its data root
    jobs: list[Job] = field(default_factory=list)
    lists: dict[Path, list[str]] = field(default_factory=dict)  # written once every label is there: names, one a line
    problems: list[str] = field(default_factory=list)  # originals that are missing or do not fit
    remarks: list[str] = field(default_factory=list)  # worth knowing, and nothing wrong
    origin: tuple[Path, str] | None = None  # a note of what the labels are made from, where two originals differ

    def count(self, what: str, found: int, whole: int) -> None:
        """Compare a number with that of the whole dataset: fewer is a part of it, more is a mistake."""
        if found > whole:
            self.problems.append(
                f"{what}: {found:,}, but the whole dataset has {whole:,}; take away what does not belong"
            )
        else:
            self.remarks.append(f"{what}: {found:,}" + (f" of {whole:,}, a part" if found < whole else ", all"))


@dataclass(frozen=True)
class Original:
    """A downloaded file, or a member of a downloaded zip archive, which need not be unpacked."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def open(self) -> IO[bytes]:
        """The stored bytes."""
        return archive(self.path).open(self.member) if self.member else open(self.path, "rb")


@functools.lru_cache(maxsize=8)
def archive(path: Path) -> zipfile.ZipFile:
    """A zip archive, kept open: to find one member, the names of all have to be read."""
    return zipfile.ZipFile(path)


def relabelled(label: Integers, classes: Mapping[int, int], name: str) -> Pixels:
    """Every value of a label (H, W) looked up in `classes`: uint8 (H, W). Raises `DataError` for a value it lacks."""
    if label.ndim != 2 or label.dtype.kind not in "ui":
        raise DataError(f"{name}: a label of {label.dtype} {label.shape} is not one; put the original back")
    table = np.full(max(256, max(classes) + 1), -1, dtype=np.int16)
    table[list(classes)] = list(classes.values())
    outside = (label < 0) | (label >= len(table))
    made = table[np.where(outside, 0, label)]
    if (bad := outside | (made < 0)).any():
        values = ", ".join(str(value) for value in np.unique(label[bad])[:_SHOWN])
        raise DataError(f"{name}: no class has the label value {values}; put the original back")
    return made.astype(np.uint8)


def image_label(path: Path, classes: Mapping[int, int]) -> Pixels:
    """A label image, 8-bit grey or palette, looked up in `classes`: uint8 (H, W). Raises `DataError`."""
    return relabelled(decoded(Original(path), label=True), classes, str(path))


def relabel(path: Path, target: Path, classes: Mapping[int, int]) -> Job:
    """The job that makes `target` of a label image, value by value."""
    return single(target, functools.partial(image_label, path, classes))


def single(target: Path, decode: Callable[[], Pixels]) -> Job:
    """The job that makes one file of what `decode` returns; a pool's processes need `decode` to be picklable."""
    return Job((target,), functools.partial(_made, target, decode))


def _made(target: Path, decode: Callable[[], Pixels]) -> Made:
    return Made([(target, decode())])


def decoded(original: Original, label: bool = False) -> Pixels:
    """The pixels as RGB, or those of a label: in grey and palette images the stored byte is the class."""
    try:
        with original.open() as file, Image.open(file) as image:
            if not label:
                return np.array(image.convert("RGB"))
            if image.mode in ("L", "P"):
                return np.array(image)
            mode = image.mode
    except UNREADABLE as error:
        raise DataError(unreadable(original, error)) from error
    raise DataError(f"{original}: a label of mode {mode}, where 8-bit grey or palette is meant; put the original back")


def unreadable(original: Original, error: BaseException) -> str:
    """What to say of a damaged image."""
    return f"{original}: cannot be read as an image ({error}); put the original back"


def find(places: Iterable[Path], title: str, *parts: str) -> Path:
    """The first place that holds one of `parts`."""
    places = list(places)
    for place in places:
        if any((place / part).exists() for part in parts):
            return place
    raise NotFoundError(f"{title}: not found; looked for {' or '.join(parts)} in {', '.join(map(str, places))}")


def files_of(folder: Path, suffix: str) -> list[Path]:
    """The files of this kind in a folder, sorted; hidden ones, as desktops leave behind, do not count."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return [folder / name for name in names if name.endswith(suffix)]


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    first = sorted(names)
    return ", ".join(first[:_SHOWN]) + (f" and {len(first) - _SHOWN} more" if len(first) > _SHOWN else "")
