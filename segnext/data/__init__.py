"""Datasets: reading, preprocessing and the stream of training samples.

`open_split` opens one split of the dataset that a `Data` value names. Opening and reading need no torch, so that a data
folder is checked at once before a run; only `segnext.data.transforms` and `segnext.data.stream` import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import overload

from segnext.config import ClassificationData, Data
from segnext.data.datasets import DATASETS, IMAGENET, unknown_dataset
from segnext.data.folders import FolderSource
from segnext.data.generated.diagnostic import GeneratedSource
from segnext.data.imagenet import ClassFolderSource
from segnext.data.source import DataError, DataNotFoundError, Source, cached

__all__ = ["ClassFolderSource", "DataError", "DataNotFoundError", "Source", "cached", "open_dataset", "open_split"]

_GENERATED = "diagnostic/"


def open_dataset(dataset: str, split: str, root: Path | None = None, generator: str | None = None) -> Source:
    """Open one split of a dataset by name. `generator` is the wanted version of a generated dataset; None: any.

    Raises `ValueError` for a dataset, split or generator version that this code cannot read, and `DataError` if files
    under `root` are missing or do not match.
    """
    if dataset in DATASETS:
        return FolderSource(DATASETS[dataset], split, root)
    if dataset.startswith(_GENERATED):
        return GeneratedSource(dataset.removeprefix(_GENERATED), split, generator)
    if dataset == IMAGENET:
        raise ValueError(f"Data.dataset: {dataset} has no labels for each pixel; segnext.data.imagenet reads it")
    raise ValueError(f"Data.dataset: {unknown_dataset(dataset)}")


@overload
def open_split(data: Data, split: str, root: Path | None) -> Source: ...


@overload
def open_split(data: ClassificationData, split: str, root: Path | None) -> ClassFolderSource: ...


def open_split(data: Data | ClassificationData, split: str, root: Path | None) -> Source | ClassFolderSource:
    """Open one split of `data.dataset` below the folder `root`, which generated datasets do not need.

    Raises what `open_dataset` raises, and `ValueError` if `data.classes` is not the dataset's number of classes.
    """
    if isinstance(data, ClassificationData):
        return ClassFolderSource(data, split, root)
    source = open_dataset(data.dataset, split, root, data.generator)
    if data.classes != len(source.classes):
        raise ValueError(f"Data.classes: {data.classes}, but {data.dataset} has {len(source.classes)} classes")
    return source
