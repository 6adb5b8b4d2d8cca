"""Loading ahead: the items of a data set from loader processes, and tensors on their way to a card."""

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
    """The items of these indices, one after the other, loaded ahead by `workers` processes; 0: by this one.

    `pinned`: in memory that a card copies from while it computes, for tensors and for items with a `pin_memory()`.
    Raises an item's own `ValueError` (`segnext.data.DataError` is one) or `OSError`, in its own words. Draws nothing
    from torch's random state.
    """
    loader: DataLoader[Any] = DataLoader(
        _Guarded(items),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pinned,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # the loader draws a seed for its workers, which need none
        worker_init_fn=_deaf,
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)  # which a loader inherits: deaf before its first line
    try:
        iterator = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for process in getattr(iterator, "_workers", ()):
        process._popen.terminate = process._popen.kill  # how torch ends one that does not leave: it is deaf to SIGTERM
    for item in iterator:
        if isinstance(item, _Failed):
            raise item.error
        yield item


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; the host does not wait for its copy to a card."""
    if device.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available():
        tensor = tensor.pin_memory()  # a copy from other memory waits for what the card is doing
    return tensor.to(device, non_blocking=True)


class _Failed:
    """An error as a value: raised in a worker, it would reach this process as a traceback without its type's words."""

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
    """A signal to the process group is for the process that trains or evaluates: it ends its loaders itself."""
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
