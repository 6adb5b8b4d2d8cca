"""Loading ahead: items of a dataset from loader processes, and tensors copied to a GPU without waiting."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

_Item = TypeVar("_Item")

DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # signals that ask to stop


def in_order(items: Dataset[_Item], indices: Iterable[Any], workers: int, pinned: bool = False) -> Iterator[_Item]:
    """Yield the items at these indices in order, loaded ahead by `workers` processes; 0: by this process.

    `pinned` puts tensors, and items with a `pin_memory()`, into memory from which a GPU copies while it computes.
    Raises the `ValueError` (`segnext.data.DataError` is one) or `OSError` of an item with its message unchanged. Does
    not draw from torch's random state.
    """
    loader: DataLoader[Any] = DataLoader(
        _Guarded(items),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pinned,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # the loader always draws a seed for its workers; take it from here
        worker_init_fn=_deaf,
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)  # inherited, so a loader ignores them at once
    try:
        iterator = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for process in getattr(iterator, "_workers", ()):
        process._popen.terminate = process._popen.kill  # torch ends a stuck worker by SIGTERM, which it ignores
    for item in iterator:
        if isinstance(item, _Failed):
            raise item.error
        yield item


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy the tensor to a device; the host does not wait for a copy to a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available():
        tensor = tensor.pin_memory()  # a copy from pageable memory waits until the GPU is idle
    return tensor.to(device, non_blocking=True)


class _Failed:
    """An error as a value: torch would turn one that a worker raises into a traceback and lose its message."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Guarded(Dataset[Any]):
    def __init__(self, items: Dataset[Any]) -> None:
        self._items = items

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._items[index]
        except (ValueError, OSError) as error:
            return _Failed(error)


def _as_it_is(item: Any) -> Any:
    return item


def _deaf(worker: int) -> None:
    """Ignore signals sent to the process group: the process that trains or evaluates ends its loaders itself."""
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
