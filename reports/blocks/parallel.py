"""Work that is spread over processes, one a core: forks, so that what it is made from is there already."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from segnext.data.processes import available_processes

Made = TypeVar("Made")

_make: Callable[[int], Any]


def spread(make: Callable[[int], Made], count: int, at_least: int) -> list[Made]:
    """`make(0)`, `make(1)`, ...; fewer than `at_least` are made here, as soon as processes would have started."""
    global _make
    if count < at_least or not sys.platform.startswith("linux"):  # elsewhere a fork is not safe
        return list(map(make, range(count)))
    _make, cores = make, available_processes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: those of numpy are idle
        with ProcessPoolExecutor(cores, multiprocessing.get_context("fork"), initializer=_deaf) as pool:
            try:
                return list(pool.map(_made, range(count), chunksize=max(1, count // (50 * cores))))
            except KeyboardInterrupt:
                for process in multiprocessing.active_children():
                    process.terminate()  # else the pool waits for what nobody wants any more
                raise


def _deaf() -> None:
    """Ctrl-C, which reaches every process of a terminal, is left to the one that waits for the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _made(place: int) -> Any:
    return _make(place)
