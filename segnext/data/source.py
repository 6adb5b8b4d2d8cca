"""What every dataset looks like to the rest of the package: `Source`; and `DataError`, what a damaged one raises."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

IGNORE = 255  # Official code: the label of pixels that neither train nor count, in every dataset

Pixels: TypeAlias = npt.NDArray[np.uint8]


class DataError(ValueError):
    """A user's data is missing or damaged. The message names the path and the split, or the file, and the remedy."""


class Source(Protocol):
    """One split of a dataset: pairs of an RGB image and its label, in an order that never changes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label k is `classes[k]`."""

    def __len__(self) -> int:
        """The number of images."""

    def name(self, index: int) -> str:
        """The name of image `index`, for people."""

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Image `index` as uint8 RGB (H, W, 3) and its label as uint8 (H, W), 255 = ignore. Raises `DataError`."""

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that differ when the data differ: provenance of a record."""


class _Cached:
    """A source that remembers what it has loaded."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._loaded: dict[int, tuple[Pixels, Pixels]] = {}
        self.classes = source.classes
        self.name = source.name
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return len(self._source)

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        if index not in self._loaded:
            pair = self._source.load(index)
            for pixels in pair:
                pixels.flags.writeable = False  # these arrays are handed out again: a writer must copy
            self._loaded[index] = pair
        return self._loaded[index]


def cached(source: Source) -> Source:
    """The same source with every image kept in memory, decoded and read-only, once it has been loaded.

    Costs H * W * 4 bytes an image, in each process: CamVid's train split takes 254 MB.
    """
    return _Cached(source)
