"""Memory and waiting time of this machine and this process, as Linux reports them; memory in bytes. Needs no torch."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_CONTROLLERS = {
    "": (_GROUPS, "memory.max", "memory.current"),
    "memory": (_GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
}


def installed() -> int:
    """The machine's memory, or the limit of this process's control group (a container, a job) if that is lower."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for limit, _ in _limits())])


def available() -> int:
    """Memory that can be allocated now without taking it from another process; outside Linux, what is installed."""
    free = _entry(_PROC / "meminfo", "MemAvailable")
    return min([installed() if free is None else free, *(limit - used for limit, used in _limits())])


def resident(process: str = "self") -> tuple[int, int] | None:
    """Resident memory of a process now, and its peak since `forget_peak`; None if the OS does not report it."""
    now, most = (_entry(_PROC / process / "status", key) for key in ("VmRSS", "VmHWM"))
    return None if now is None or most is None else (now, most)


def forget_peak() -> None:
    """Reset the peak of resident memory to its present value, if the OS allows it."""
    with contextlib.suppress(OSError):
        (_PROC / "self" / "clear_refs").write_text("5")


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """A context in which freed memory returns to the OS at once, so that resident memory is memory in use.

    By default glibc keeps freed blocks of up to 32 MB for reuse: a peak measured that way was twice the memory in use.
    This is slower, so do not use it around timed code. It does nothing without glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    library.malloc_trim(0)
    library.mallopt(_M_MMAP_THRESHOLD, 2**17)
    try:
        yield
    finally:  # the values at which glibc's dynamic adjustment ends
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)
        library.mallopt(_M_TRIM_THRESHOLD, 2**26)


def keep_freed() -> None:
    """Keep freed memory in this process for its next tensors, however large.

    By default glibc returns blocks above 32 MB to the OS and gets them again, zeroed, page by page: a quarter of the
    time of an encoder at 512x512 (tests/benchmarks/published.py). It does nothing without glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 2**30)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_TOP_PAD, 2**27)


def waited() -> float | None:
    """Seconds for which this process's threads were ready but waited for a core; None if the OS does not report it."""
    try:
        accounts = [path.read_text().split() for path in (_PROC / "self" / "task").glob("*/schedstat")]
    except OSError:  # a thread has ended meanwhile
        return None
    return sum(int(account[1]) for account in accounts) / 1e9 if accounts else None


def _entry(path: Path, key: str) -> int | None:
    """The value of a line `key: 123 kB`, in bytes; None if there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return next((1024 * int(value) for value in found), None)


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) of every control group around this process, version 1 or 2, without reclaimable file cache."""
    try:
        groups = [line.split(":", 2) for line in (_PROC / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, own in groups:
        if controllers not in _CONTROLLERS:
            continue
        root, limit, used = _CONTROLLERS[controllers]
        folder = root / own.lstrip("/")
        for group in (folder, *folder.parents[: len(folder.parts) - len(root.parts)]):
            try:
                numbers = [int((group / name).read_text()) for name in (limit, used)]  # no limit: "max", no number
                files = _counted(group / "memory.stat", "inactive_file")
            except (OSError, ValueError):
                continue
            yield numbers[0], numbers[1] - files


def _counted(path: Path, key: str) -> int:
    return int(dict(line.split() for line in path.read_text().splitlines()).get(key, 0))
