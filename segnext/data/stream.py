"""The stream of training batches: a pure function of (seed, iteration), whatever loads it and wherever it starts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segnext.config import Data
from segnext.data.source import Source
from segnext.data.transforms import train_sample

_ORDER, AUGMENTATION, MIXING = 0, 1, 2  # which use of a seed: no two share random numbers


@dataclass
class Batch:
    """What one iteration trains on."""

    iteration: int
    samples: Tensor  # int64 (B,): the samples' numbers, counted from the start of the run
    images: Tensor  # float32 (B, 3, h, w)
    labels: Tensor  # what the task's loss takes; for segmentation uint8 (B, h, w), 255 = ignore


@dataclass(frozen=True)
class Share:
    """What one of `size` processes takes of every batch: the samples in place `rank`, of equally many in a row."""

    rank: int = 0
    size: int = 1

    def of(self, samples: range) -> range:
        """This share of a batch's samples. Raises `ValueError` where they have no equal shares."""
        each, rest = divmod(len(samples), self.size)
        if rest:
            raise ValueError(f"{len(samples)} samples that are passed together have no {self.size} equal shares")
        return samples[self.rank * each : (self.rank + 1) * each]


def stream(
    data: Data,
    source: Source,
    seed: int,
    batch: int,
    start: int,
    iterations: int,
    workers: int = 0,
    share: Share = Share(),  # frozen
) -> Iterator[Batch]:
    """The batches of iterations `start` .. `iterations` - 1, this process's share of `batch` samples each.

    Sample k = iteration * batch + j is image k % N of epoch k // N in an order of that epoch, augmented with chance
    that belongs to (seed, k). So samples depend neither on the number of `workers` (processes that load ahead; 0: none)
    nor on how a batch is shared nor on where a run restarts, they flow over the end of an epoch, and torch's random
    state is left alone. Images are float32 (B, 3, h, w), labels uint8 (B, h, w), where (h, w) is `data.crop`. Raises
    `DataError` as images are loaded.
    """
    yield from loaded(_Batches(data, source, seed, batch, share), start, iterations, workers)


def loaded(batches: Dataset[Batch], start: int, iterations: int, workers: int) -> Iterator[Batch]:
    """The items `start` .. `iterations` - 1 of a data set of whole batches, in order, loaded ahead by `workers`."""
    # One pass over all iterations, a whole batch at a time: workers start once and never wait for an epoch to end. The
    # loader draws a seed for its workers, which need none: from a generator of its own, for the model's may not notice.
    loader: DataLoader[Batch] = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, iterations),
        num_workers=workers,
        generator=torch.Generator(),
    )
    yield from loader


def image_index(seed: int, number: int, count: int) -> int:
    """The image of `count` that sample `number` of a run shows: in every epoch each one once."""
    epoch, position = divmod(number, count)
    return int(_order(seed, epoch, count)[position])


def generator(seed: int, use: int, number: int) -> np.random.Generator:
    """The chance that belongs to a number (of a sample, say) in one use of a seed."""
    # The bit generator is named, so that no later default of numpy's changes what a seed means.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(use, number))))


class _Batches(Dataset[Batch]):
    """The batches by iteration."""

    def __init__(self, data: Data, source: Source, seed: int, batch: int, share: Share) -> None:
        self._data, self._source, self._seed, self._batch, self._share = data, source, seed, batch, share

    def __getitem__(self, iteration: int) -> Batch:
        numbers = self._share.of(range(iteration * self._batch, (iteration + 1) * self._batch))
        images, labels = zip(*(self._sample(number) for number in numbers), strict=True)
        stacked = torch.stack([image.movedim(0, -1) for image in images]).movedim(-1, 1)  # channels-last, as they are
        return Batch(iteration, torch.tensor(numbers), stacked, torch.stack(labels))

    def _sample(self, number: int) -> tuple[Tensor, Tensor]:
        pair = self._source.load(image_index(self._seed, number, len(self._source)))
        return train_sample(*pair, self._data, generator(self._seed, AUGMENTATION, number))


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The images in the order that an epoch shows them."""
    return generator(seed, _ORDER, epoch).permutation(count)
