"""What this machine and this process have and use, from Linux's own accounts; memory in bytes. Imports no torch."""

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
    """What the machine has, or what this process's control group may have of it (a container's limit, a job's)."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for limit, _ in _limits())])


def available() -> int:
    """What can be taken now without another process losing any; without Linux's accounts, what is installed."""
    free = _entry(_PROC / "meminfo", "MemAvailable")
    return min([installed() if free is None else free, *(limit - used for limit, used in _limits())])


def resident(process: str = "self") -> tuple[int, int] | None:
    """What the process occupies now and the most it has occupied since `forget_peak`; None where nobody counts."""
    now, most = (_entry(_PROC / process / "status", key) for key in ("VmRSS", "VmHWM"))
    return None if now is None or most is None else (now, most)


def forget_peak() -> None:
    """Let the peak start again from what is occupied now, where the system allows it."""
    with contextlib.suppress(OSError):
        (_PROC / "self" / "clear_refs").write_text("5")


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """What is freed leaves the process at once, so that what is resident is what is in use.

    Left to itself the C library keeps freed blocks of up to 32 MB for the next: a peak measured then was twice what was
    in use. Slower, so not for what is timed. Does nothing where the library is not glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    library.malloc_trim(0)
    library.mallopt(_M_MMAP_THRESHOLD, 2**17)
    try:
        yield
    finally:  # the values that glibc's own adjustment ends at
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)
        library.mallopt(_M_TRIM_THRESHOLD, 2**26)


def keep_freed() -> None:
    """What is freed stays with this process for its next tensors, however large.

    Left to itself glibc hands blocks above 32 MB back to the system and gets them anew, zeroed, page by page: a quarter
    of the time of an encoder at 512x512 (tests/benchmarks/published.py). Does nothing where the library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 2**30)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_TOP_PAD, 2**27)


def waited() -> float | None:
    """Seconds that this process's threads were ready to run and waited for a core; None where nobody counts."""
    try:
        accounts = [path.read_text().split() for path in (_PROC / "self" / "task").glob("*/schedstat")]
    except OSError:  # a thread that ended in between
        return None
    return sum(int(account[1]) for account in accounts) / 1e9 if accounts else None


def _entry(path: Path, key: str) -> int | None:
    """A line `key: 123 kB`, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return next((1024 * int(value) for value in found), None)


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) of every control group around this process, of both versions; files that can be dropped aside."""
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
