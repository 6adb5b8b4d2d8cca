"""How a process that trains or evaluates on a CPU keeps its memory."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h


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
