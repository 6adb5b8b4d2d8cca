"""SegNeXt in pure PyTorch: the model, its data, its trainer and its measurements. Knows nothing of studies."""

from typing import TYPE_CHECKING, Any

from segnext.config import Cost, Data, Execution, Model, Run, Train

if TYPE_CHECKING:
    from segnext.model import SegNeXt

__all__ = ["Cost", "Data", "Execution", "Model", "Run", "SegNeXt", "Train"]


def __getattr__(name: str) -> Any:
    """Import torch only when the network itself is asked for; declaring and planning never need it."""
    if name == "SegNeXt":
        from segnext.model import SegNeXt

        return SegNeXt
    raise AttributeError(f"module 'segnext' has no attribute {name!r}")
