"""The stream of training batches: a pure function of (seed, iteration), independent of loaders and restarts."""

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

_ORDER, AUGMENTATION, MIXING = 0, 1, 2  # uses of a seed, which share no random numbers


@dataclass
class Batch:
    """The samples of one iteration."""

    iteration: int
    samples: Tensor  # int64 (B,): positions of the samples, counted from the start of the run
    images: Tensor  # float32 (B, 3, h, w)
    labels: Tensor  # as the task's loss needs them; segmentation: uint8 (B, h, w), 255 = ignore
    numbers: Tensor | None = None  # float32 (B, n): uniform numbers of the samples (`segnext.stochastic`)

    def pin_memory(self) -> Batch:
        """A copy in pinned memory, from which a GPU can copy while it computes."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """A copy on the device with images channels-last; from pinned memory the host does not wait for the copy."""
        images = self.images.to(device, non_blocking=True, memory_format=torch.channels_last)
        return dataclasses.replace(self._each(lambda tensor: tensor.to(device, non_blocking=True)), images=images)

    def clone(self) -> Batch:
        """A copy that shares no memory with this batch."""
        return self._each(Tensor.clone)

    def copy_(self, other: Batch) -> None:
        """Copy the tensors of the other batch into this one, in place."""
        self.images.copy_(other.images)
        self.labels.copy_(other.labels)
        if self.numbers is not None and other.numbers is not None:
            self.numbers.copy_(other.numbers)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Tell the allocator that the stream uses this batch, so its memory is not reused before the stream is done."""
        for tensor in (self.images, self.labels, self.numbers):
            if tensor is not None:
                tensor.record_stream(stream)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        numbers = None if self.numbers is None else change(self.numbers)
        return dataclasses.replace(self, images=change(self.images), labels=change(self.labels), numbers=numbers)


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of `size` processes takes: consecutive samples, split equally, part `rank`."""

    rank: int = 0
    size: int = 1

    def of(self, samples: range) -> range:
        """This share of a batch's samples. Raises `ValueError` if they cannot be split equally."""
        each, rest = divmod(len(samples), self.size)
        if rest:
            raise ValueError(f"{len(samples)} samples that are passed together have no {self.size} equal shares")
        return samples[self.rank * each : (self.rank + 1) * each]


@dataclass(frozen=True)
class Loading:
    """How batches are loaded; nothing here changes their content."""

    workers: int = 0  # processes that load ahead; 0: none
    numbers: tuple[int, int] | None = None  # (run seed, count): also draw this many uniform numbers per sample
    pinned: bool = False  # put batches into pinned memory, from which a GPU copies while it computes


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
    """Yield the batches of iterations `start` .. `iterations` - 1: this process's share of `batch` samples each.

    Sample k = iteration * batch + j is image k % N of epoch k // N, in an order drawn for that epoch, and is augmented
    with random numbers of (seed, k). So samples do not depend on loaders, on how a batch is shared, or on where a run
    restarts; batches continue across the end of an epoch; and torch's random state is not touched. Images are float32
    (B, 3, h, w), labels uint8 (B, h, w), where (h, w) is `data.crop`. Raises `DataError` when a damaged image is
    loaded.
    """
    yield from loaded(_Batches(data, source, seed, batch, share), start, iterations, loading)


def loaded(batches: Dataset[Batch], start: int, iterations: int, loading: Loading) -> Iterator[Batch]:
    """Yield the items `start` .. `iterations` - 1 of a dataset of whole batches, in order. Raises `DataError`."""
    # One pass over all iterations, a whole batch at a time: loaders start once and never wait for an epoch to end.
    yield from in_order(_Complete(batches, loading), range(start, iterations), loading.workers, loading.pinned)


class _Complete(Dataset[Batch]):
    """Batches together with the uniform numbers of their samples."""

    def __init__(self, batches: Dataset[Batch], loading: Loading) -> None:
        self._batches, self._numbers = batches, loading.numbers

    def __getitem__(self, index: int) -> Batch:
        batch = self._batches[index]
        if self._numbers is not None:
            seed, count = self._numbers
            batch.numbers = per_sample_numbers(seed, batch.samples.tolist(), count)
        return batch


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on the device. On CUDA a separate stream copies each while the step before it computes."""
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
        yield ready  # the caller launches the step,
        ready = following()  # then the next batch is copied while the step computes


def image_index(seed: int, number: int, count: int) -> int:
    """The index, of `count` images, that sample `number` of a run shows; every epoch shows each image once."""
    epoch, position = divmod(number, count)
    return int(_order(seed, epoch, count)[position])


def generator(seed: int, use: int, number: int) -> np.random.Generator:
    """The random generator of a number (for example a sample's) in one use of a seed."""
    # The bit generator is explicit, so that a new default in numpy cannot change the meaning of a seed.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(use, number))))


class _Batches(Dataset[Batch]):
    """The batches by iteration."""

    def __init__(self, data: Data, source: Source, seed: int, batch: int, share: Share) -> None:
        self._data, self._source, self._seed, self._batch, self._share = data, source, seed, batch, share

    def __getitem__(self, iteration: int) -> Batch:
        numbers = self._share.of(range(iteration * self._batch, (iteration + 1) * self._batch))
        images, labels = zip(*(self._sample(number) for number in numbers), strict=True)
        stacked = torch.stack([image.movedim(0, -1) for image in images]).movedim(-1, 1)  # stays channels-last
        return Batch(iteration, torch.tensor(numbers), stacked, torch.stack(labels))

    def _sample(self, number: int) -> tuple[Tensor, Tensor]:
        pair = self._source.load(image_index(self._seed, number, len(self._source)))
        return train_sample(*pair, self._data, generator(self._seed, AUGMENTATION, number))


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The indices of the images in the order in which an epoch shows them."""
    return generator(seed, _ORDER, epoch).permutation(count)
