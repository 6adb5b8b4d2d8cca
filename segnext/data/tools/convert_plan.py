"""The plan of a conversion, and what all converters share: finding files, decoding, and looking up values."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segnext.data.folders import FolderDataset
from segnext.data.images import read_label
from segnext.data.source import SHOWN, DataError, DataNotFoundError, Pixels

Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Made:
    """The result of converting one original: the files to write, produced lazily."""

    files: Iterable[tuple[Path, Pixels]]
    remark: str = ""


@dataclass(frozen=True)
class Job:
    """One original and the files made from it. `convert` raises `DataError` if the original is damaged."""

    targets: tuple[Path, ...]
    convert: Callable[[], Made]


@dataclass
class Plan:
    """Everything that a conversion will do."""

    dataset: str  # the converted dataset's name in `check`
    folder: Path  # the converted dataset's folder: the data root for `check`
    jobs: list[Job] = field(default_factory=list)
    lists: dict[Path, list[str]] = field(default_factory=dict)  # names, one per line; written after all labels
    problems: list[str] = field(default_factory=list)  # originals that are missing or do not match
    remarks: list[str] = field(default_factory=list)  # worth knowing, but no fault
    origin: tuple[Path, str] | None = None  # a note of the labels' origin, if there are two different ones

    def count(self, what: str, found: int, whole: int) -> None:
        """Compare a number with that of the complete dataset: fewer means a part (a remark), more is a problem."""
        if found > whole:
            self.problems.append(
                f"{what}: {found:,}, but the whole dataset has {whole:,}; take away what does not belong"
            )
        else:
            self.remarks.append(f"{what}: {found:,}" + (f" of {whole:,}, a part" if found < whole else ", all"))


def frames_of(dataset: FolderDataset, *splits: str) -> dict[str, int]:
    """The number of frames in the complete split, by split."""
    return {split: frames for split in splits if (frames := dataset.splits[split].frames) is not None}


def relabelled(label: Integers, classes: Mapping[int, int], name: str) -> Pixels:
    """Look up every value of a label (H, W) in `classes`: uint8 (H, W). Raises `DataError` for an unknown value."""
    if label.ndim != 2 or label.dtype.kind not in "ui":
        raise DataError(f"{name}: a label of {label.dtype} {label.shape} is not one; put the original back")
    table = np.full(max(256, max(classes) + 1), -1, dtype=np.int16)
    table[list(classes)] = list(classes.values())
    outside = (label < 0) | (label >= len(table))
    made = table[np.where(outside, 0, label)]
    if (bad := outside | (made < 0)).any():
        values = ", ".join(str(value) for value in np.unique(label[bad])[:SHOWN])
        raise DataError(f"{name}: no class has the label value {values}; put the original back")
    return made.astype(np.uint8)


def image_label(path: Path, classes: Mapping[int, int]) -> Pixels:
    """Read a label image, 8-bit grey or palette, and look it up in `classes`: uint8 (H, W). Raises `DataError`."""
    return relabelled(read_label(path), classes, str(path))


def relabel(path: Path, target: Path, classes: Mapping[int, int]) -> Job:
    """The job that makes `target` from a label image, value by value."""
    return single(target, functools.partial(image_label, path, classes))


def single(target: Path, decode: Callable[[], Pixels]) -> Job:
    """The job that writes what `decode` returns to one file; `decode` must be picklable for worker processes."""
    return Job((target,), functools.partial(_made, target, decode))


def _made(target: Path, decode: Callable[[], Pixels]) -> Made:
    return Made([(target, decode())])


def find(places: Iterable[Path], title: str, *parts: str) -> Path:
    """The first place that contains one of `parts`. Raises `DataNotFoundError` if none does."""
    places = list(places)
    for place in places:
        if any((place / part).exists() for part in parts):
            return place
    raise DataNotFoundError(f"{title}: not found; looked for {' or '.join(parts)} in {', '.join(map(str, places))}")


def files_of(folder: Path, suffix: str) -> list[Path]:
    """The sorted files with this suffix in a folder, without hidden files."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return [folder / name for name in names if name.endswith(suffix)]
