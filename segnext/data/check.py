"""Counting and validating what is on disk of a dataset: `python -m segnext.data check`.

Nothing is written, and nothing stops at the first fault: every file is read, and every problem is reported by kind.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segnext.data.datasets import IMAGENET
from segnext.data.folders import (
    Classes,
    FolderDataset,
    FolderSource,
    Frame,
    Inventory,
    Layout,
    Split,
    check_sizes,
    classes_of,
)
from segnext.data.images import read_image, read_label
from segnext.data.processes import in_processes
from segnext.data.progress import Progress
from segnext.data.source import IGNORE, DataError, DataNotFoundError

_CHUNK = 16  # frames that a process takes at a time

Counts = npt.NDArray[np.int64]
_Value = TypeVar("_Value")


@dataclass
class Findings:
    """What reading some frames found: messages by kind of problem, and pixels by label value, int64 (256,)."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    pixels: Counts = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))

    def add(self, kind: str, message: str) -> None:
        """One more problem."""
        self.problems.setdefault(kind, []).append(message)

    def join(self, other: Findings) -> None:
        """Take what another part found."""
        self.pixels += other.pixels
        for kind, messages in other.problems.items():
            self.problems.setdefault(kind, []).extend(messages)


@dataclass
class Report:
    """One split as it was found."""

    split: str
    declared: Split
    folder: Path
    labelled: bool
    images: int
    labels: int
    findings: Findings
    fingerprint: str | None = None  # None: the split cannot be opened as it is


def check(
    dataset: FolderDataset,
    root: Path | None,
    splits: Iterable[str] = (),
    *,
    processes: int = 1,
    names_only: bool = False,
) -> tuple[list[Report], dict[str, str]]:
    """The reports on `splits` (none named: all that are there), and why others of them are not there, by split.

    With `names_only`, files are counted and paired but not read. Raises `ValueError` for a split that there is not.
    """
    wanted = tuple(splits) or tuple(dataset.splits)
    found: dict[str, Inventory] = {}
    absent: dict[str, str] = {}
    for part in dict.fromkeys(part for split in wanted for part in dataset.parts(split)):
        try:
            found[part] = Inventory(dataset, part, root)
        except DataNotFoundError as error:
            absent[part] = str(error)
    frames = {part: inventory.frames() for part, inventory in found.items()}
    findings = {part: Findings() for part in found}
    if not names_only:
        tasks = [(part, chunk) for part in found for chunk in _chunks(frames[part])]
        inspected = partial(inspect, classes_of_values=dataset.classes_of_values(), size=dataset.size)
        with Progress(f"{dataset.name} frames read", sum(map(len, frames.values()))) as progress:
            results = in_processes(inspected, [chunk for _, chunk in tasks], processes)
            for (part, chunk), result in zip(tasks, results, strict=True):
                findings[part].join(result)
                progress.advance(len(chunk))
    reports = []
    for split in wanted:
        parts = dataset.parts(split)
        if missing := [part for part in parts if part in absent]:
            absent.setdefault(split, f"{dataset.name} {split}: its part {missing[0]} is not there")
            continue
        reports.append(_report(dataset, split, root, [found[part] for part in parts], [findings[p] for p in parts]))
    _add_shared_frames(dataset, reports, {part: {frame.name for frame in frames[part]} for part in found})
    return reports, {split: why for split, why in absent.items() if split in wanted}


def inspect(frames: list[Frame], classes_of_values: Classes, size: tuple[int, int] | None) -> Findings:
    """Reads images and labels to their ends, and looks for damage, values that no class has, and wrong sizes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ImageNet's damaged EXIF blocks, say, which nobody reads
        return _inspected(frames, classes_of_values, size)


def _inspected(frames: list[Frame], classes_of_values: Classes, size: tuple[int, int] | None) -> Findings:
    findings = Findings()

    def attempt(kind: str, path: Path, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except DataError as error:
            findings.add(kind, str(error))
        except Exception as error:  # whatever else a decoder may raise: the other files are read all the same
            findings.add(kind, f"{path}: {error!r}")
        return None

    for _, folder, image_path, label_path in frames:
        path = folder / image_path
        image = attempt("unreadable images", path, partial(read_image, path))
        if image is not None and size is not None and image.shape[:2] != size:
            found = f"{image.shape[1]}x{image.shape[0]}, where all are {size[1]}x{size[0]}"
            findings.add("images of another size than the dataset's", f"{path}: {found}")
        if label_path is None:
            continue
        path = folder / label_path
        label = attempt("unreadable labels", path, partial(read_label, path))
        if label is None:
            continue
        if image is not None:
            attempt("labels of another size than their image", path, partial(check_sizes, image, label, path))
        values = partial(classes_of, label, classes_of_values, path)
        classes = attempt("labels with values that no class has", path, values)
        if classes is not None:
            findings.pixels += np.bincount(classes.ravel(), minlength=IGNORE + 1)
    return findings


def imagenet() -> FolderDataset:
    """ImageNet-1K for counting and reading: images in a folder for each class, no labels of their own."""
    from segnext.data.imagenet import FOLDERS, IMAGES

    splits = {
        split: Split(frames, (Layout(split, "", ".jpeg", "", f"{split}.txt", nested=True),))
        for split, frames in IMAGES.items()
    }
    return FolderDataset(IMAGENET, colours={}, values={}, splits=splits, folders=FOLDERS)


def _report(
    dataset: FolderDataset, split: str, root: Path | None, parts: list[Inventory], findings: list[Findings]
) -> Report:
    joined = Findings()
    for inventory, found in zip(parts, findings, strict=True):
        joined.join(found)
        for kind, names in inventory.problems().items():
            joined.problems.setdefault(kind, []).extend(names)
    declared = dataset.splits[split]
    images = sum(len(part.images) for part in parts)
    if declared.frames is not None and images != declared.frames:
        joined.add("another number of images than the split has", f"{images} images, expected are {declared.frames}")
    report = Report(
        split,
        declared,
        parts[0].base,
        all(part.layout.labels for part in parts),
        images,
        sum(len(part.labels) for part in parts),
        joined,
    )
    try:
        report.fingerprint = _fingerprint(dataset, split, root)
    except (DataError, OSError) as error:
        if not joined.problems or dataset.name == IMAGENET:  # else the same in other words
            joined.add("the split cannot be opened", str(error))
    return report


def _fingerprint(dataset: FolderDataset, split: str, root: Path | None) -> str:
    if dataset.name == IMAGENET:
        from segnext.config import ClassificationData
        from segnext.data.imagenet import ClassFolderSource

        return ClassFolderSource(ClassificationData(), split, root).fingerprint()
    return FolderSource(dataset, split, root).fingerprint()


def _add_shared_frames(dataset: FolderDataset, reports: list[Report], names: dict[str, set[str]]) -> None:
    """A frame in two splits, of which neither is a part of the other, is trained and tested on."""
    for one, other in itertools.combinations(names, 2):
        shared = sorted(names[one] & names[other]) if dataset.name != IMAGENET else []
        for report in reports:
            if shared and {one, other} & set(dataset.parts(report.split)):
                kind = f"frames that are in both {one} and {other}"
                report.findings.problems.setdefault(kind, []).extend(shared)


def _chunks(frames: list[Frame]) -> Iterator[list[Frame]]:
    return (frames[start : start + _CHUNK] for start in range(0, len(frames), _CHUNK))
