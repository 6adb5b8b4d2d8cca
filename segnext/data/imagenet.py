"""ImageNet-1K, or a part of it: one folder of images per class (datasets.md, section 2)."""

from __future__ import annotations

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segnext.config import ClassificationData, digest
from segnext.data.contents import known_contents
from segnext.data.images import read_image
from segnext.data.source import DataError, Pixels, some

IMAGES = {"train": 1_281_167, "val": 50_000}  # in the complete dataset: datasets.md, section 2
FOLDERS = ("imagenet", "ImageNet", "imagenet1k", "ILSVRC2012", "ILSVRC/Data/CLS-LOC")  # names below a data root

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
_LISTERS = 16  # threads: a shared disk lists many folders in the time of one


class ClassFolderSource:
    """One split of a dataset with one folder of images per class: SPLIT/CLASS/*.JPEG.

    Class k is the k-th folder by name (ImageNet: by WNID), as in torchvision's `ImageFolder`, and images are sorted
    within a class. `root` is the dataset's folder or its parent (`FOLDERS`). A part of a dataset is accepted if every
    split on disk has the same `data.classes` class folders.

    Opening lists folders and touches no file: no stat, no decoding. 1.28 million names take 30 MB in one array, which
    loader processes share. Raises `DataError` if folders are missing, empty, or not the expected classes.
    """

    def __init__(self, data: ClassificationData, split: str, root: Path | None) -> None:
        self._title = f"{data.dataset} {split}"
        self._dataset, self._split = data.dataset, split
        self._base = self._find(data, split, root)
        self._folder = self._base / split
        self.classes = self._class_folders(data, split)
        with ThreadPoolExecutor(_LISTERS) as threads:
            names = list(threads.map(_images, (self._folder / name for name in self.classes)))
        if empty := [name for name, found in zip(self.classes, names, strict=True) if not found]:
            raise DataError(f"{self._title}: no image in {some(empty)} of {self._folder}; complete the copy")
        self._names = np.array([os.fsencode(name) for found in names for name in found])
        self._labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(found) for found in names])

    def __len__(self) -> int:
        return len(self._labels)

    def name(self, index: int) -> str:
        """The name of image `index`: CLASS/FILE."""
        return f"{self.classes[self.label(index)]}/{os.fsdecode(self._names[index])}"

    def label(self, index: int) -> int:
        """The class of image `index`, without reading the image."""
        return int(self._labels[index])

    def load(self, index: int) -> tuple[Pixels, int]:
        """Decode image `index`, uint8 RGB (H, W, 3), and return it with its class. Raises `DataError`, naming the file.

        The content decides the format, not the suffix (one .JPEG of ImageNet is a PNG). CMYK and grey become RGB; EXIF
        orientation is ignored. Official code: timm's and torchvision's loaders, `Image.open(...).convert("RGB")`.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # damaged EXIF blocks in ImageNet, which we do not use
            return read_image(self._folder / self.name(index)), self.label(index)

    def fingerprint(self) -> str:
        """Digest of the classes, the names of all images, and the size in bytes of one image per class.

        It is fast because it does not stat every file. It detects a different subset or a resized copy, but not a
        single damaged file.
        """
        _, first = np.unique(self._labels, return_index=True)
        sizes = [(self._folder / self.name(int(index))).stat().st_size for index in first]
        names = hashlib.sha256(self._labels.tobytes() + b"\n".join(self._names.tolist())).hexdigest()
        return digest([list(self.classes), names, sizes])

    def contents(self) -> str | None:
        """Digest of every byte as `check` computed it; None if it did not, or if names, sizes or times have changed.

        If there is one, this looks at the size and the times of every file, which takes minutes on a slow disk.
        """
        return known_contents(self._base, self._dataset, self._split, self.files())

    def files(self) -> list[tuple[Path, str]]:
        """All images in order: the dataset's folder and the path below it."""
        return [(self._base, f"{self._split}/{self.name(index)}") for index in range(len(self))]

    @property
    def base(self) -> Path:
        """The dataset's folder."""
        return self._base

    def _find(self, data: ClassificationData, split: str, root: Path | None) -> Path:
        if root is None:
            raise DataError(f"{self._title}: no folder is given; name the one that holds {data.dataset} (--data-root)")
        for base in (root, *(root / folder for folder in FOLDERS)):
            if (base / split).is_dir():
                return base
        raise DataError(
            f"{self._title}: no folder {split}/ in {root} or in its {', '.join(FOLDERS)}; "
            "correct the data root, or put the dataset there"
        )

    def _class_folders(self, data: ClassificationData, split: str) -> tuple[str, ...]:
        classes = _folders(self._folder)
        if not classes and _images(self._folder):
            raise DataError(
                f"{self._title}: the images lie in {self._folder} itself; sort them into one folder for each class, "
                "named by its WNID (for ImageNet's val, PyTorch's examples/imagenet/extract_ILSVRC.sh does it)"
            )
        if len(classes) != data.classes:
            raise DataError(
                f"{self._title}: {self._folder} has {len(classes)} class folders, but ClassificationData.classes is "
                f"{data.classes}; complete the copy, or set the number of classes"
            )
        for other in {data.train_split, data.test_split} - {split}:  # class k must mean the same class in all splits
            if (self._base / other).is_dir() and (theirs := _folders(self._base / other)):
                only = [f"{name} only in {split}/" for name in sorted(set(classes) - set(theirs))]
                only += [f"{name} only in {other}/" for name in sorted(set(theirs) - set(classes))]
                if only:
                    raise DataError(
                        f"{self._title}: {self._base} has different class folders in {split}/ and {other}/: "
                        f"{some(only)}; a class's number is its place among them: make them the same"
                    )
        return classes


def _folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def _images(folder: Path) -> list[str]:
    """The sorted names of a folder's images, without hidden files (._NAME.JPEG)."""
    try:
        names = os.listdir(folder)  # no stat, which would take minutes on a shared disk
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); make it readable") from error
    return sorted(name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
