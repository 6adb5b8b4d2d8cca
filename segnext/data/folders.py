"""Datasets on disk with a folder of images and a folder of labels, paired by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segnext.config import digest
from segnext.data.classes import Colour
from segnext.data.contents import known_contents
from segnext.data.images import read_image, read_label
from segnext.data.listing import listed
from segnext.data.source import IGNORE, SHOWN, DataError, DataNotFoundError, Pixels, some

Classes = npt.NDArray[np.int16]
"""By value in a label file, (256,): its class, 255 = ignore, or -1 for a value that no label may hold."""


@dataclass(frozen=True)
class Layout:
    """Where a split is below the dataset's folder: frame `name` is images/name+ending and labels/name+ending."""

    images: str
    labels: str  # "": the split has no labels; only a test server does
    image_ending: str
    label_ending: str
    listing: str  # a file with one frame per line, which selects the split's frames; "": there is no list
    chosen: bool = False  # whether the list is required; otherwise, without it, all files in the folders are the split
    without: str = ""  # another list, whose frames are excluded
    suffixes: tuple[str, ...] = ()  # allowed image suffixes; if given, a frame's name includes its suffix
    nested: bool = False  # frames are one folder deeper, and their names begin with that folder (Cityscapes' cities)
    converted: bool = False  # whether `python -m segnext.data convert DATASET` makes the labels


@dataclass(frozen=True)
class Split:
    """One split: its own files in one of several layouts, or the union of other splits."""

    frames: int | None  # number of frames in the complete split; None: it depends on how the files were made
    layouts: tuple[Layout, ...] = ()
    parts: tuple[str, ...] = ()  # names of the splits whose union is this one
    paper: int | None = None  # number of frames that the paper prints, if it differs


@dataclass(frozen=True)
class FolderDataset:
    """The declaration of one dataset of paired folders."""

    name: str
    colours: Mapping[str, Colour]  # class name -> display colour, in the order of the labels
    values: Mapping[int, int]  # value in a label file -> class or IGNORE; any other value means damage
    splits: Mapping[str, Split]
    folders: tuple[str, ...]  # possible names of its folder below a data root
    other_folders: tuple[str, ...] = ()  # folders of other datasets with files of the same names, such as VOC2010
    size: tuple[int, int] | None = None  # (height, width) in pixels if all frames have the same; `check` verifies it
    spellings: tuple[str, ...] = ()  # other usual names

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label k is `classes[k]`."""
        return tuple(self.colours)

    def parts(self, split: str) -> tuple[str, ...]:
        """The splits with files of their own whose union is this one. Raises `ValueError` for an unknown split."""
        if split not in self.splits:
            raise ValueError(f"{self.name}: {split!r} is not one of its splits {', '.join(self.splits)}")
        return self.splits[split].parts or (split,)

    def places(self, root: Path) -> tuple[Path, ...]:
        """Where its folder may be: `root` itself, unless that has another dataset's name, and folders below it."""
        below = tuple(root / folder for folder in self.folders)
        return below if os.path.basename(os.path.abspath(root)) in self.other_folders else (root, *below)

    def classes_of_values(self) -> Classes:
        """The label map as a lookup table over the 256 values."""
        return np.array([self.values.get(value, -1) for value in range(256)], dtype=np.int16)


class Frame(NamedTuple):
    """One image and its label (None: unlabelled), as paths below the dataset's folder."""

    name: str
    folder: Path
    image: str
    label: str | None


class Inventory:
    """The files on disk of one split, whether they match or not. It reads only file names.

    `root` is the dataset's folder or its parent. Raises `DataNotFoundError` if neither contains the split.
    """

    def __init__(self, dataset: FolderDataset, split: str, root: Path | None) -> None:
        self.dataset = dataset
        self.title = f"{dataset.name} {split}"
        self.whole = dataset.splits[split].frames
        self.base, self.layout = self._find(dataset, split, root)
        layout = self.layout
        listing = self.base / layout.listing
        self.listed = listed(listing, layout.image_ending, layout.nested) if listing.is_file() else None
        if self.listed is not None and layout.without:
            self.listed -= listed(self.base / layout.without, layout.image_ending, layout.nested)
        self.images, self._doubled = self._files(layout.images, layout.image_ending)
        self.labels: dict[str, str] = {}
        if layout.labels:
            self.labels, doubled = self._files(layout.labels, layout.label_ending)
            self._doubled |= doubled
        self.present = len(self.images)
        if self.listed is not None:
            for files in (self.images, self.labels, self._doubled):
                for name in files.keys() - self.listed:
                    del files[name]

    def problems(self) -> dict[str, list[str]]:
        """Kind of problem -> sorted names of the frames that have it; empty if the files and the list agree."""
        images, labels = self.images.keys(), self.labels.keys()
        problems: dict[str, Iterable[str]] = {}
        if self.layout.labels:
            problems["images without a label"] = images - labels
            problems["labels without an image"] = labels - images
        if self.listed is not None:
            problems[f"names in {Path(self.layout.listing).name} without files"] = self.listed - images - labels
        problems["frames with two files"] = self._doubled.values()
        return {kind: sorted(names) for kind, names in problems.items() if names}

    def hint(self) -> str:
        """How to use an incomplete split: with a list of its frames. "" if it has a list or cannot have one."""
        if self.listed is not None or not self.layout.listing:
            return ""
        return f"a list {Path(self.layout.listing).name} that names its frames makes a part welcome"

    def frames(self) -> list[Frame]:
        """The frames whose files are all present, sorted by name."""
        if not self.layout.labels:
            return [Frame(name, self.base, image, None) for name, image in sorted(self.images.items())]
        names = sorted(self.images.keys() & self.labels.keys())
        return [Frame(name, self.base, self.images[name], self.labels[name]) for name in names]

    def require_agreement(self) -> None:
        """Raise `DataError` unless files and list agree and, without a list, the split is complete."""
        layout = self.layout
        found = [f"{len(names)} {kind} ({some(names)})" for kind, names in self.problems().items()]
        if self.listed is None and self.whole not in (None, len(self.images)):
            found.append(f"a part of the split only ({self.hint()})")
        if self.listed is not None and not self.listed:
            found = [f"{layout.listing} names no frame"]
        elif not self.present and not self.labels:
            labels = f" and no *{layout.label_ending} labels" if layout.labels else ""
            found = [f"no *{layout.image_ending} images{labels}"]
        if found:
            labels = f" and {len(self.labels)} labels" if layout.labels else ""
            whole = "" if self.whole is None else f", the whole split has {self.whole}"
            raise DataError(
                f"{self.title} in {self.base}: {'; '.join(found)}. Found are {len(self.images)} images{labels}{whole}; "
                "complete the copy, or make files and list agree"
                + (_conversion(self.dataset, layout) if len(self.labels) < len(self.images) else "")
            )

    def _files(self, folder: str, ending: str) -> tuple[dict[str, str], dict[str, str]]:
        """The files of a folder, name -> path below `base`; and, for names that occur as .jpg and .JPG, both paths."""
        found: dict[str, str] = {}
        doubled: dict[str, str] = {}
        suffixes = self.layout.suffixes or (ending.lower(),)
        for path in sorted(_visible(self.base, folder, suffixes, self.layout.nested)):
            name = path.removeprefix(f"{folder}/") if folder else path
            if not self.layout.suffixes:
                name = name[: -len(ending)]
            if found.setdefault(name, path) != path:
                doubled[name] = f"{found[name]} and {path}"
        return found, doubled

    def _find(self, dataset: FolderDataset, split: str, root: Path | None) -> tuple[Path, Layout]:
        if root is None:
            raise DataNotFoundError(
                f"{self.title}: no folder is given; name the one that holds {dataset.name} (--data-root)"
            )
        looked, conversion = [], ""
        places = dataset.places(root)
        for base in places:
            for layout in dataset.splits[split].layouts:
                folders = [base / folder for folder in (layout.images, layout.labels) if folder]
                missing = [str(folder) for folder in folders if not folder.is_dir()]
                lists = [base / name for name in (layout.listing, layout.without) if name and layout.chosen]
                missing += [str(path) for path in lists if not path.is_file()]
                if not missing:
                    return base, layout
                if folders[0].is_dir():
                    conversion = _conversion(dataset, layout)
                looked.append(" and ".join(missing))
        other = "" if root in places else ", which is another dataset's folder by its name"
        raise DataNotFoundError(
            f"{self.title}: not found under {root}{other}; missing are {', or '.join(looked)}; "
            f"correct the data root, or put the dataset there{conversion}"
        )


class FolderSource:
    """One split of a dataset of paired folders, sorted by name.

    `root` is the dataset's folder or its parent. Opening reads only file names: every image must have a label, and
    every label an image. A list file selects the frames, and every frame that it names must exist; without a list the
    split must be complete, so that half a copy is noticed. Pixels are checked when they are loaded.

    Raises `ValueError` for an unknown split and `DataError` if folders are missing, empty or do not match.
    """

    def __init__(self, dataset: FolderDataset, split: str, root: Path | None) -> None:
        parts = [Inventory(dataset, part, root) for part in dataset.parts(split)]
        for part in parts:
            part.require_agreement()
        self.classes = dataset.classes
        self.labelled = all(part.layout.labels for part in parts)
        self.base, self.split = parts[0].base, split
        self._dataset = dataset.name
        self._frames = sorted((frame for part in parts for frame in part.frames()), key=lambda frame: frame.name)
        repeated = {a.name for a, b in zip(self._frames, self._frames[1:], strict=False) if a.name == b.name}
        if repeated:
            lists = " and ".join(Path(part.layout.listing).name for part in parts)
            raise DataError(
                f"{dataset.name} {split} in {parts[0].base}: {lists} both name {len(repeated)} frames "
                f"({some(sorted(repeated))}); take them out of one"
            )
        self._classes_of_values = dataset.classes_of_values()

    def __len__(self) -> int:
        return len(self._frames)

    def name(self, index: int) -> str:
        """The file name without its ending; for nested splits the folder comes first: "aachen/aachen_000001"."""
        return self._frames[index].name

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Decode image `index`, uint8 RGB (H, W, 3), and its label, uint8 (H, W), 255 = ignore.

        Raises `DataError`, naming the file, if one is damaged, their sizes differ, or a label value has no class.
        """
        _, folder, image_path, label_path = self._frames[index]
        image = read_image(folder / image_path)
        if label_path is None:
            return image, np.full(image.shape[:2], IGNORE, dtype=np.uint8)
        label = read_label(folder / label_path)
        check_sizes(image, label, folder / label_path)
        return image, classes_of(label, self._classes_of_values, folder / label_path)

    def fingerprint(self) -> str:
        """Digest of the frames' relative paths and file sizes: fast, but blind to a change that keeps every size."""
        return digest([[path, os.stat(f"{folder}/{path}").st_size] for folder, path in self.files()])

    def files(self) -> list[tuple[Path, str]]:
        """All files of the frames, in order: the dataset's folder and the path below it."""
        return [(frame.folder, path) for frame in self._frames for path in frame[2:] if path is not None]

    def contents(self) -> str | None:
        """Digest of every byte as `check` computed it; None if it did not, or if names, sizes or times have changed.

        Looks at the size and the times of every file, without reading any.
        """
        return known_contents(self.base, self._dataset, self.split, self.files())


def check_sizes(image: Pixels, label: Pixels, path: Path) -> None:
    """Raise `DataError`, naming the label's file, if image (H, W, 3) and label (H, W) differ in size."""
    if image.shape[:2] != label.shape:
        sizes = f"{label.shape[1]}x{label.shape[0]}, but its image {image.shape[1]}x{image.shape[0]}"
        raise DataError(f"{path}: the label is {sizes}; put the original pair back")


def classes_of(label: Pixels, classes_of_values: Classes, path: Path) -> Pixels:
    """Map stored values to classes, 255 = ignore: (H, W) -> (H, W).

    Raises `DataError`, naming the file, for a value that has no class.
    """
    classes = classes_of_values[label]
    if classes.min() < 0:
        found = ", ".join(str(value) for value in np.unique(label[classes < 0])[:SHOWN])
        raise DataError(f"{path}: no class has the label value {found}; put the original back")
    return classes.astype(np.uint8)


def _visible(base: Path, folder: str, suffixes: tuple[str, ...], nested: bool) -> list[str]:
    """The files of a folder with one of these suffixes, as paths below `base`, without hidden files (.DS_Store)."""
    with os.scandir(base / folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    if nested:
        inner = [f"{folder}/{entry.name}" for entry in visible if entry.is_dir()]
        return [path for below in inner for path in _visible(base, below, suffixes, nested=False)]
    return [f"{folder}/{entry.name}" for entry in visible if entry.name.lower().endswith(suffixes)]


def _conversion(dataset: FolderDataset, layout: Layout) -> str:
    if not layout.converted:
        return ""
    return f". The labels are made by `python -m segnext.data convert {dataset.name} --data-root DIR`"
