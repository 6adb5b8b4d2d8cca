"""What every dataset looks like to the rest of the package: `Source`; and `DataError`, what a damaged one raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from segnext.text import printable

IGNORE = 255  # Official code: the label of pixels that neither train nor count, in every dataset

SHOWN = 5  # offenders that a message names

Pixels: TypeAlias = npt.NDArray[np.uint8]


class DataError(ValueError):
    """A user's data is missing or damaged. The message names the path and the split, or the file, and the remedy."""


class DataNotFoundError(DataError):
    """There is no such dataset, or no such split of it, where the data root says."""


class OtherData(DataError):
    """A training would go on with other data than those it began with."""


def some(names: Iterable[str]) -> str:
    """The first few of many names and how many more there are, for a message."""
    first = list(names)
    return ", ".join(map(printable, first[:SHOWN])) + (f" and {len(first) - SHOWN} more" if len(first) > SHOWN else "")


class Source(Protocol):
    """One split of a dataset: pairs of an RGB image and its label, in an order that never changes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label k is `classes[k]`."""

    @property
    def labelled(self) -> bool:
        """False for a split whose labels only a test server has: `load` then gives labels of 255 alone."""

    def __len__(self) -> int:
        """The number of images."""

    def name(self, index: int) -> str:
        """The name of image `index`, for people."""

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Image `index` as uint8 RGB (H, W, 3) and its label as uint8 (H, W), 255 = ignore. Raises `DataError`."""

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits, provenance of a record: of files, a digest of their names and sizes alone."""

    def contents(self) -> str | None:
        """A digest of every byte, which `python -m segnext.data check` computes; None where that is not known."""


class _Cached:
    """A source that remembers what it has loaded."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._loaded: dict[int, tuple[Pixels, Pixels]] = {}
        self._room = limit
        self.classes = source.classes
        self.labelled = source.labelled
        self.name = source.name
        self.fingerprint = source.fingerprint
        self.contents = source.contents

    def __len__(self) -> int:
        return len(self._source)

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        if index in self._loaded:
            return self._loaded[index]
        pair = self._source.load(index)
        for pixels in pair:
            pixels.flags.writeable = False  # these arrays are handed out again: a writer must copy
        if sum(pixels.nbytes for pixels in pair) <= self._room:
            self._room -= sum(pixels.nbytes for pixels in pair)
            self._loaded[index] = pair
        return pair


def cached(source: Source, limit: int = 1 << 30) -> Source:
    """The same source with images kept in memory, decoded and read-only, once they have been loaded.

    Costs H * W * 4 bytes an image, in each process: CamVid's train split takes 254 MB. At `limit` bytes no more are
    kept: every epoch asks for every image once, so that to forget the oldest would forget each before its next use.
    """
    return _Cached(source, limit)
