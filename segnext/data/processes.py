"""Work on many files in several processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def available_processes() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(work: Callable[[_Item], _Result], items: Sequence[_Item], processes: int) -> Iterator[_Result]:
    """Yield `work(item)` for each item in order; `work` must be picklable, and few items are in progress at a time.

    Only this process receives Ctrl-C: items in progress are then finished, and no others are started. Raises what
    `work` raises, and `BrokenProcessPool` if a process was killed.
    """
    processes = min(processes, len(items))
    if processes < 2:
        yield from map(work, items)
        return
    # spawn, because this process has a thread that draws the bar, and threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_leave_with_parent)
    try:
        queue = iter(items)
        in_order: deque[Future[_Result]] = deque()
        under_way: set[Future[_Result]] = set()  # in any order, so that a slow item does not block the others
        while True:
            with _interrupts_held():  # submitting may start a process
                started = [pool.submit(work, item) for item in itertools.islice(queue, 2 * processes - len(under_way))]
            in_order.extend(started)
            if not in_order:
                return
            _, under_way = wait(under_way.union(started), return_when=FIRST_COMPLETED)
            while in_order and in_order[0].done():
                yield in_order.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C until after this block, and hide it from processes that are started within."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_with_parent() -> None:
    """In each worker: exit when the parent exits, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
