"""What the paper claims, as grids of runs; plans them, runs them, and is the only writer of results/."""

import os
import sys
from types import TracebackType


def _interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while a command is still imported ends it as later (`segnext.door`, which would be too late here)."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    os.write(2, b"stopped: the same command continues\n")
    os._exit(5)


if sys.argv[:1] == ["-m"]:  # what Python puts there while it looks for the module of `python -m studies.run`
    sys.excepthook = _interrupted
