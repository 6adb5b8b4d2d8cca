"""The paper's claims as grids of runs. This package plans and runs them, and only it writes results/."""

import os
import sys
from types import TracebackType


def _interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End a command that gets Ctrl-C during its imports as `segnext.door` would, which is not loaded yet."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    os.write(2, b"stopped: the same command continues\n")
    os._exit(5)


if sys.argv[:1] == ["-m"]:  # so while Python looks for the module of `python -m studies.run`
    sys.excepthook = _interrupted
