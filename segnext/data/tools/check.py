"""Counting and validating the files of a dataset: `python -m segnext.data check`.

It does not stop at the first fault: it reads every file and reports all problems by kind. A fault is a problem; what
may be intended, for example a list that selects a part of a split, is a remark.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segnext.config import ClassificationData
from segnext.data.contents import Files, digest_of
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
from segnext.data.imagenet import FOLDERS, IMAGES, SUFFIXES, ClassFolderSource
from segnext.data.images import read_label, read_oriented
from segnext.data.processes import in_processes
from segnext.data.source import IGNORE, DataError, DataNotFoundError
from segnext.data.tools.progress import Progress

_CHUNK = 16  # frames that a process takes at a time
_TESTED = ("val", "test")  # splits that no run trains on
_TURNED = (
    "images with an EXIF orientation, read as they are stored, like their labels (the release rotates only images)"
)

Counts = npt.NDArray[np.int64]
_Value = TypeVar("_Value")


@dataclass
class Findings:
    """The result of reading some frames: messages by kind of problem or remark, and counts of pixels, int64 (256,)."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)  # worth knowing, but possibly intended
    pixels: Counts = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))  # by class
    values: Counts = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))  # by value in the files
    digests: dict[str, bytes] = field(default_factory=dict)  # of every file that was read, by FOLDER/PATH

    def add(self, kind: str, message: str) -> None:
        """Add a problem."""
        self.problems.setdefault(kind, []).append(message)

    def remark(self, kind: str, message: str) -> None:
        """Add a remark."""
        self.remarks.setdefault(kind, []).append(message)

    def join(self, other: Findings) -> None:
        """Add the findings of another part."""
        self.pixels += other.pixels
        self.values += other.values
        self.digests |= other.digests
        for own, found in ((self.problems, other.problems), (self.remarks, other.remarks)):
            for kind, messages in found.items():
                own.setdefault(kind, []).extend(messages)


@dataclass
class Report:
    """The result of checking one split."""

    split: str
    declared: Split
    folder: Path
    labelled: bool
    images: int
    labels: int
    findings: Findings
    fingerprint: str | None = None  # digest of names and sizes; None: the split cannot be opened as it is
    files: Files = ()  # files of the split, if it can be opened


def check(
    dataset: FolderDataset,
    root: Path | None,
    splits: Iterable[str] = (),
    *,
    processes: int = 1,
    names_only: bool = False,
) -> tuple[list[Report], dict[str, str]]:
    """Check `splits` (default: all that are on disk); returns their reports and, by split, why others are missing.

    With `names_only`, files are counted and paired but not read. Raises `ValueError` for an unknown split.
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
    """Read images and labels completely, and look for damage, label values without a class, and wrong sizes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for example damaged EXIF blocks in ImageNet, which we do not use
        return _inspected(frames, classes_of_values, size)


def _inspected(frames: list[Frame], classes_of_values: Classes, size: tuple[int, int] | None) -> Findings:
    findings = Findings()

    def attempt(kind: str, path: Path, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except DataError as error:
            findings.add(kind, str(error))
        except Exception as error:  # whatever a decoder raises, continue with the other files
            findings.add(kind, f"{path}: {error!r}")
        return None

    for _, folder, image_path, label_path in frames:
        for name in filter(None, (image_path, label_path)):
            with suppress(OSError):  # the readers below report it
                findings.digests[f"{folder}/{name}"] = digest_of(folder, name)
        path = folder / image_path
        image, orientation = attempt("unreadable images", path, partial(read_oriented, path)) or (None, 1)
        if orientation != 1:
            findings.remark(_TURNED, f"{path} (orientation {orientation})")
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
            findings.values += np.bincount(label.ravel(), minlength=IGNORE + 1)
    return findings


def imagenet() -> FolderDataset:
    """ImageNet-1K as a `FolderDataset` for counting and reading: one folder of images per class, no label files."""
    splits = {
        split: Split(frames, (Layout(split, "", ", *".join(SUFFIXES), "", "", nested=True, suffixes=SUFFIXES),))
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
    _add_counts(joined, declared, parts, images)
    labelled = all(part.layout.labels for part in parts)
    if labelled:
        _add_classes(joined, dataset, split, whole=images == declared.frames)
    labels = sum(len(part.labels) for part in parts)
    report = Report(split, declared, parts[0].base, labelled, images, labels, joined)
    try:
        source = _opened(dataset, split, root)
        report.fingerprint, report.files = source.fingerprint(), source.files()
    except (DataError, OSError) as error:
        if not joined.problems or dataset.name == IMAGENET:  # otherwise it repeats a known problem
            joined.add("the split cannot be opened", str(error))
    return report


def _add_counts(found: Findings, declared: Split, parts: list[Inventory], images: int) -> None:
    """Judge the number of images: a part of a split is a remark if lists name its frames, otherwise a problem."""
    for part in parts:
        beside = 0 if part.layout.chosen or part.listed is None else part.present - len(part.images)
        if beside:
            listing = Path(part.layout.listing).name
            found.remark(f"list {listing} that leaves images out", f"{beside} of {part.present} are not read")
    if declared.frames in (None, images):
        return
    said = f"{images} images, expected are {declared.frames}"
    hints = [hint for part in parts if (hint := part.hint())]
    if all(part.listed is not None for part in parts) and images < declared.frames:
        found.remark("list of a part of the split", said)
    else:
        said += (
            f" ({hints[0]}: {parts[0].base / parts[0].layout.listing})" if hints and images < declared.frames else ""
        )
        found.add("another number of images than the split has", said)


def _add_classes(found: Findings, dataset: FolderDataset, split: str, whole: bool) -> None:
    """Judge classes that no label shows: a problem in a complete split for training, a remark in a part of one."""
    if not found.values.any():
        return
    if not found.pixels[:IGNORE].any():
        found.add("split of labels without any class", "every pixel is ignored; put the original labels back")
        return
    last = max(value for value, label in dataset.values.items() if label != IGNORE)
    if dataset.values.get(0) == IGNORE and found.values[IGNORE] and not found.values[last]:
        said = (
            f"{found.values[IGNORE]} pixels are 255, which its own labels are not, and none is {last}, its last class: "
            "read as they are, every class would be the one before it; put the original labels back"
        )
        found.add("split of labels that are shifted already", said)
    empty = [f"{label} {name}" for label, name in enumerate(dataset.classes) if not found.pixels[label]]
    if empty and split not in _TESTED:
        add = found.add if whole else found.remark
        for name in empty:
            add("classes without a pixel in any label", name)


def _opened(dataset: FolderDataset, split: str, root: Path | None) -> FolderSource | ClassFolderSource:
    if dataset.name == IMAGENET:
        return ClassFolderSource(ClassificationData(), split, root)
    return FolderSource(dataset, split, root)


def _add_shared_frames(dataset: FolderDataset, reports: list[Report], names: dict[str, set[str]]) -> None:
    """Report frames that are in two disjoint splits, because a run would train and test on them."""
    for one, other in itertools.combinations(names, 2):
        shared = sorted(names[one] & names[other]) if dataset.name != IMAGENET else []
        for report in reports:
            if shared and {one, other} & set(dataset.parts(report.split)):
                kind = f"frames that are in both {one} and {other}"
                report.findings.problems.setdefault(kind, []).extend(shared)


def _chunks(frames: list[Frame]) -> Iterator[list[Frame]]:
    return (frames[start : start + _CHUNK] for start in range(0, len(frames), _CHUNK))
