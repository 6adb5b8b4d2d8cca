"""SegNeXt in pure PyTorch: the model, its data, its trainer and its measurements. It knows nothing about studies."""

from typing import TYPE_CHECKING, Any

from segnext.config import Cost, Data, Execution, Model, Run, Train

if TYPE_CHECKING:
    from segnext.model import MSCANClassifier, SegNeXt

__all__ = ["Cost", "Data", "Execution", "MSCANClassifier", "Model", "Run", "SegNeXt", "Train"]


def __getattr__(name: str) -> Any:
    """Import a network class, and with it torch, on first use: declaring and planning runs never need torch."""
    if name in ("MSCANClassifier", "SegNeXt"):
        from segnext import model

        return getattr(model, name)
    raise AttributeError(f"module 'segnext' has no attribute {name!r}")
