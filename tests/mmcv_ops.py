"""What lets mmsegmentation's wheel import beside mmcv-lite."""

from __future__ import annotations

import types
from importlib.machinery import ModuleSpec
from typing import Any


class Anything(types.ModuleType):
    """Stands in for `mmcv.ops`, compiled operators that mmcv-lite lacks and SegNeXt does not use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in() -> Anything:
    """The module, for `sys.modules`."""
    module = Anything("mmcv.ops")
    module.__path__ = []
    module.__spec__ = ModuleSpec("mmcv.ops", None)
    return module
