"""Work in other processes: forks, so that what it is made from is there already."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Made = TypeVar("Made")
Key = TypeVar("Key")

CHUNK = 250  # of what is made ahead, sent at a time
EACH = 8  # things at least for each process after the first: what is made first takes longest

_make: Callable[..., Any]


@contextmanager
def spread(make: Callable[[int], Made], count: int, at_least: int) -> Iterator[Callable[[], list[Made]]]:
    """Begin `make(0)`, `make(1)`, ... in processes, one a core at most; yields what waits for them.

    Fewer than `at_least` are made here, when they are asked for.
    """
    if count < at_least or not _safe():
        yield lambda: list(map(make, range(count)))
        return
    with _forks(make, min(_cores(), max(1, count // EACH))) as pool:
        coming = pool.map(_made, range(count), chunksize=max(1, count // (50 * _cores())))
        yield lambda: list(coming)


def ahead(make: Callable[[Key], Made], keys: Sequence[Key]) -> Iterator[Made]:
    """`make` of each key, in order, in a process a core, while the caller works with what it has of those before."""
    if not _safe() or "torch" in sys.modules or _cores() < 2:
        yield from map(make, keys)
        return
    with _forks(lambda start: list(map(make, keys[start : start + CHUNK])), _cores()) as pool:
        for made in pool.map(_made, range(0, len(keys), CHUNK)):
            yield from made


@contextmanager
def beside(make: Callable[[], Made], worth: bool) -> Iterator[Callable[[], Made]]:
    """Begin `make()` in another process where it is worth one; yields what waits for it. Else it is made when asked."""
    if not worth or not _safe() or "torch" in sys.modules or _cores() < 2:  # torch has threads
        yield make
        return
    with _forks(make, 1) as pool:
        yield pool.submit(_made).result


def _cores() -> int:
    from segnext.data.processes import available_processes  # which takes longer to import than many a command

    return available_processes()


def _safe() -> bool:
    """Whether this process may be copied: on Linux, once."""
    return sys.platform.startswith("linux") and multiprocessing.parent_process() is None


@contextmanager
def _forks(make: Callable[..., Any], count: int) -> Iterator[ProcessPoolExecutor]:
    global _make
    _make = make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: those of numpy are idle
        with ProcessPoolExecutor(count, multiprocessing.get_context("fork"), initializer=_deaf) as pool:
            try:
                yield pool
            except KeyboardInterrupt:
                for process in multiprocessing.active_children():
                    process.terminate()  # else the pool waits for what nobody wants any more
                raise


def _deaf() -> None:
    """Ctrl-C, which reaches every process of a terminal, is left to the one that waits for the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _made(*place: int) -> Any:
    return _make(*place)
