"""`Source`, the interface of every dataset, and `DataError`, which a damaged one raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from segnext.text import printable

IGNORE = 255  # Official code: pixels with this label are neither trained on nor scored, in any dataset

SHOWN = 5  # names that a message lists

Pixels: TypeAlias = npt.NDArray[np.uint8]


class DataError(ValueError):
    """A user's data is missing or damaged. The message names the file, or the path and the split, and the remedy."""


class DataNotFoundError(DataError):
    """The data root does not contain this dataset, or this split of it."""


class OtherData(DataError):
    """A training would continue with data other than those it started with."""


def some(names: Iterable[str]) -> str:
    """The first `SHOWN` names and the number of the others, for a message."""
    first = list(names)
    return ", ".join(map(printable, first[:SHOWN])) + (f" and {len(first) - SHOWN} more" if len(first) > SHOWN else "")


class Source(Protocol):
    """One split of a dataset: pairs of an RGB image and its label, in a fixed order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label k is `classes[k]`."""

    @property
    def labelled(self) -> bool:
        """False if only a test server has the split's labels; `load` then returns labels filled with 255."""

    def __len__(self) -> int:
        """The number of images."""

    def name(self, index: int) -> str:
        """A readable name of image `index`."""

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Image `index` as uint8 RGB (H, W, 3) and its label as uint8 (H, W), 255 = ignore. Raises `DataError`."""

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits for a record's provenance; for files, a digest of only their names and sizes."""

    def contents(self) -> str | None:
        """A digest of every byte, as `python -m segnext.data check` computed it; None if it is unknown."""


class _Cached:
    """A source that keeps loaded images in memory."""

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
            pixels.flags.writeable = False  # the same arrays are returned again: a caller that writes must copy
        if sum(pixels.nbytes for pixels in pair) <= self._room:
            self._room -= sum(pixels.nbytes for pixels in pair)
            self._loaded[index] = pair
        return pair


def cached(source: Source, limit: int = 1 << 30) -> Source:
    """The source with loaded images kept in memory, decoded and read-only.

    An image takes H * W * 4 bytes in each process; CamVid's train split takes 254 MB. Once `limit` bytes are used, no
    more images are kept. Old ones are not evicted, because each epoch needs every image once: evicting the oldest would
    drop every image before its next use.
    """
    return _Cached(source, limit)
