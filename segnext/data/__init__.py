"""Datasets, and how their images reach the model.

`open_split` opens one split of the dataset that a `Data` value names. Opening and reading need no torch, so that
checking a data folder before a run is instant; `segnext.data.transforms` and `segnext.data.stream` need it.
"""

from __future__ import annotations

from pathlib import Path

from segnext.config import Data
from segnext.data.camvid import CAMVID
from segnext.data.diagnostic import GeneratedSource
from segnext.data.folders import FolderSource
from segnext.data.source import DataError, Source, cached

__all__ = ["DataError", "Source", "cached", "open_dataset", "open_split"]

_FOLDERS = {dataset.name: dataset for dataset in (CAMVID,)}
_GENERATED = "diagnostic/"


def open_dataset(dataset: str, split: str, root: Path | None = None, generator: str | None = None) -> Source:
    """The source of one split of a dataset by name; `generator` is the version wanted of a generated one, None: any.

    Raises `ValueError` for a dataset, split or generator version that this code cannot read, and `DataError` where the
    files under `root` are missing or do not match.
    """
    if dataset in _FOLDERS:
        return FolderSource(_FOLDERS[dataset], split, root)
    if dataset.startswith(_GENERATED):
        return GeneratedSource(dataset.removeprefix(_GENERATED), split, generator)
    readable = ", ".join([*_FOLDERS, f"{_GENERATED}<task>"])
    raise ValueError(f"Data.dataset: {dataset!r} is not readable yet; readable are {readable}")


def open_split(data: Data, split: str, root: Path | None) -> Source:
    """The source of one split of `data.dataset`, read from under `root`; generated datasets need no root.

    Raises what `open_dataset` raises, and `ValueError` where `data.classes` is not the dataset's number of classes.
    """
    source = open_dataset(data.dataset, split, root, data.generator)
    if data.classes != len(source.classes):
        raise ValueError(f"Data.classes: {data.classes}, but {data.dataset} has {len(source.classes)} classes")
    return source
