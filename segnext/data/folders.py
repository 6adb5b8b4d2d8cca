"""Datasets that lie on disk as a folder of images beside a folder of labels, paired by name."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from segnext.config import digest
from segnext.data.source import DataError, Pixels

# What Pillow raises for a file that is not, or not wholly, an image: OSError mostly, the others from inside a decoder.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

_SHOWN = 5  # offenders that a message names


@dataclass(frozen=True)
class Layout:
    """Where a split lies below the dataset's folder; "{split}" stands for its name."""

    images: str
    labels: str
    image_suffix: str
    label_suffix: str
    listing: str  # a file that names one frame a line, which may be absent


@dataclass(frozen=True)
class FolderDataset:
    """All that sets one dataset of paired folders apart from another."""

    name: str
    classes: tuple[str, ...]
    values: Mapping[int, int]  # value in a label file -> class or IGNORE; any other value is damage
    frames: Mapping[str, int]  # split -> number of frames of the whole dataset
    folders: tuple[str, ...]  # the names that its folder may have below a data root
    layouts: tuple[Layout, ...]


class FolderSource:
    """One split of a dataset of paired folders, sorted by name.

    `root` is the dataset's own folder or one that holds it. Opening looks at names alone: every image must have its
    label, every label its image, and the list file, where there is one, must name exactly these; without a list the
    split must have all its frames, so that half a copy is noticed. Pixels are checked as they are loaded.

    Raises `ValueError` for an unknown split and `DataError` for folders that are missing, empty or do not match.
    """

    def __init__(self, dataset: FolderDataset, split: str, root: Path | None) -> None:
        if split not in dataset.frames:
            raise ValueError(f"{dataset.name}: {split!r} is not one of its splits {', '.join(dataset.frames)}")
        self.classes = dataset.classes
        self._title = f"{dataset.name} {split}"
        self._base, layout = self._find(dataset, split, root)
        self._images = _files(self._base / layout.images.format(split=split), layout.image_suffix)
        self._labels = _files(self._base / layout.labels.format(split=split), layout.label_suffix)
        self._check_pairs(self._base / layout.listing.format(split=split), dataset.frames[split], layout)
        self._names = sorted(self._images)
        # Looked up by value: the class, IGNORE, or -1 for a value that no label may hold.
        self._classes_of_values = np.array([dataset.values.get(value, -1) for value in range(256)], dtype=np.int16)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The file name without its suffix."""
        return self._names[index]

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Decodes image `index`, uint8 RGB (H, W, 3), and its label, uint8 (H, W), 255 = ignore.

        Raises `DataError`, naming the file, where one is damaged, their sizes differ, or a value has no class.
        """
        name = self._names[index]
        image = _decode(self._images[name], index_image=False)
        label = _decode(self._labels[name], index_image=True)
        if image.shape[:2] != label.shape:
            sizes = f"{label.shape[1]}x{label.shape[0]}, but its image {image.shape[1]}x{image.shape[0]}"
            raise DataError(f"{self._labels[name]}: the label is {sizes}; put the original pair back")
        classes = self._classes_of_values[label]
        if classes.min() < 0:
            found = ", ".join(str(value) for value in np.unique(label[classes < 0])[:_SHOWN])
            raise DataError(f"{self._labels[name]}: no class has the label value {found}; put the original back")
        return image, classes.astype(np.uint8)

    def fingerprint(self) -> str:
        """Digest of the frames' relative paths and file sizes: fast, and blind to a change that keeps every size."""
        paths = [path for name in self._names for path in (self._images[name], self._labels[name])]
        return digest([[path.relative_to(self._base).as_posix(), path.stat().st_size] for path in paths])

    def _find(self, dataset: FolderDataset, split: str, root: Path | None) -> tuple[Path, Layout]:
        if root is None:
            raise DataError(f"{self._title}: no folder is given; name the one that holds {dataset.name} (--data-root)")
        looked = []
        for base in (root, *(root / folder for folder in dataset.folders)):
            for layout in dataset.layouts:
                folders = [base / pattern.format(split=split) for pattern in (layout.images, layout.labels)]
                missing = [str(folder) for folder in folders if not folder.is_dir()]
                if not missing:
                    return base, layout
                looked.append(" and ".join(missing))
        raise DataError(
            f"{self._title}: not found under {root}; missing are {', or '.join(looked)}; "
            "correct the data root, or put the dataset there"
        )

    def _check_pairs(self, listing: Path, whole: int, layout: Layout) -> None:
        images, labels = self._images.keys(), self._labels.keys()
        problems = {"images without a label": images - labels, "labels without an image": labels - images}
        if listing.is_file():
            listed = _listed(listing)
            present = images | labels
            problems[f"names in {listing.name} without files"] = listed - present
            problems[f"frames that {listing.name} does not name"] = present - listed
        found = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
        if not listing.is_file() and len(images) != whole:
            found.append(f"a part of the split only (a list {listing.name} that names its frames makes a part welcome)")
        if not images and not labels:
            found = [f"no *{layout.image_suffix} images and no *{layout.label_suffix} labels"]
        if found:
            raise DataError(
                f"{self._title} in {self._base}: {'; '.join(found)}. Found are {len(images)} images and {len(labels)} "
                f"labels, the whole split has {whole}; complete the copy, or make files and list agree"
            )


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """The files of this kind in a folder, by stem; hidden ones, as desktops leave behind, do not count."""
    with os.scandir(folder) as entries:
        paths = [Path(entry.path) for entry in entries if not entry.name.startswith(".")]
    return {path.stem: path for path in paths if path.suffix.lower() == suffix}


def _listed(listing: Path) -> set[str]:
    """The stems that a list file names: the first word of each line, whatever folder it is said to lie in."""
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    return {PurePosixPath(line.split()[0]).stem for line in lines if line.strip()}


def _some(names: Iterable[str]) -> str:
    first = sorted(names)
    return ", ".join(first[:_SHOWN]) + (", ..." if len(first) > _SHOWN else "")


def _decode(path: Path, index_image: bool) -> Pixels:
    try:
        with Image.open(path) as file:
            if not index_image:
                return np.array(file.convert("RGB"))
            if file.mode in ("L", "P"):  # grey or palette: in both, the stored byte is the class
                return np.array(file)
            mode = file.mode
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); put the original back") from error
    raise DataError(f"{path}: a label of mode {mode}, where 8-bit grey or palette is meant; put the original back")
