"""The stream of training batches: a pure function of (seed, iteration), whatever loads it and wherever it starts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segnext.config import Data
from segnext.data.ahead import in_order
from segnext.data.source import Source
from segnext.data.transforms import train_sample
from segnext.stochastic import per_sample_numbers

_ORDER, AUGMENTATION, MIXING = 0, 1, 2  # which use of a seed: no two share random numbers


@dataclass
class Batch:
    """What one iteration trains on."""

    iteration: int
    samples: Tensor  # int64 (B,): the samples' numbers, counted from the start of the run
    images: Tensor  # float32 (B, 3, h, w)
    labels: Tensor  # what the task's loss takes; for segmentation uint8 (B, h, w), 255 = ignore
    numbers: Tensor | None = None  # float32 (B, n): the samples' uniform numbers (`segnext.stochastic`)

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU can copy from while it computes."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """The same on the device, images channels-last; from pinned memory without waiting for the copy."""
        images = self.images.to(device, non_blocking=True, memory_format=torch.channels_last)
        return dataclasses.replace(self._each(lambda tensor: tensor.to(device, non_blocking=True)), images=images)

    def clone(self) -> Batch:
        """The same in memory of its own."""
        return self._each(Tensor.clone)

    def copy_(self, other: Batch) -> None:
        """Take over what the other holds, in place."""
        self.images.copy_(other.images)
        self.labels.copy_(other.labels)
        if self.numbers is not None and other.numbers is not None:
            self.numbers.copy_(other.numbers)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Tell the allocator that the stream uses this, so that no other stream gets its memory before."""
        for tensor in (self.images, self.labels, self.numbers):
            if tensor is not None:
                tensor.record_stream(stream)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        numbers = None if self.numbers is None else change(self.numbers)
        return dataclasses.replace(self, images=change(self.images), labels=change(self.labels), numbers=numbers)


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


@dataclass(frozen=True)
class Loading:
    """How batches are loaded, which changes nothing of what they hold."""

    workers: int = 0  # processes that load ahead; 0: none
    numbers: tuple[int, int] | None = None  # (run seed, count): each sample's uniform numbers are drawn along
    pinned: bool = False  # in memory that a GPU copies from while it computes


def stream(
    data: Data,
    source: Source,
    seed: int,
    batch: int,
    start: int,
    iterations: int,
    loading: Loading = Loading(),  # frozen
    share: Share = Share(),  # frozen
) -> Iterator[Batch]:
    """The batches of iterations `start` .. `iterations` - 1, this process's share of `batch` samples each.

    Sample k = iteration * batch + j is image k % N of epoch k // N in an order of that epoch, augmented with chance
    that belongs to (seed, k). So samples depend neither on how they are loaded nor on how a batch is shared nor on
    where a run restarts, they flow over the end of an epoch, and torch's random state is left alone. Images are float32
    (B, 3, h, w), labels uint8 (B, h, w), where (h, w) is `data.crop`. Raises `DataError` as images are loaded.
    """
    yield from loaded(_Batches(data, source, seed, batch, share), start, iterations, loading)


def loaded(batches: Dataset[Batch], start: int, iterations: int, loading: Loading) -> Iterator[Batch]:
    """The items `start` .. `iterations` - 1 of a data set of whole batches, in order. Raises `DataError`."""
    # One pass over all iterations, a whole batch at a time: loaders start once and never wait for an epoch to end.
    yield from in_order(_Complete(batches, loading), range(start, iterations), loading.workers, loading.pinned)


class _Complete(Dataset[Batch]):
    """Batches with their samples' numbers."""

    def __init__(self, batches: Dataset[Batch], loading: Loading) -> None:
        self._batches, self._numbers = batches, loading.numbers

    def __getitem__(self, index: int) -> Batch:
        batch = self._batches[index]
        if self._numbers is not None:
            seed, count = self._numbers
            batch.numbers = per_sample_numbers(seed, batch.samples.tolist(), count)
        return batch


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on the device. On CUDA each is copied while the step before it computes, on a stream of its own."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying = torch.cuda.Stream(device)

    def following() -> Batch | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(copying):
            return (batch if batch.images.is_pinned() else batch.pin_memory()).to(device)

    ready = following()
    while ready is not None:
        using = torch.cuda.current_stream(device)
        using.wait_stream(copying)
        ready.record_stream(using)
        yield ready  # the step on it is launched now,
        ready = following()  # and the next batch copied beside it


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
