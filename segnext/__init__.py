"""SegNeXt in pure PyTorch: the model, its data, its trainer and its measurements. Knows nothing of studies."""

from typing import TYPE_CHECKING, Any

from segnext.config import Cost, Data, Execution, Model, Run, Train

if TYPE_CHECKING:
    from segnext.model import MSCANClassifier, SegNeXt

__all__ = ["Cost", "Data", "Execution", "MSCANClassifier", "Model", "Run", "SegNeXt", "Train"]


def __getattr__(name: str) -> Any:
    """Import torch only when a network itself is asked for; declaring and planning never need it."""
    if name in ("MSCANClassifier", "SegNeXt"):
        from segnext import model

        return getattr(model, name)
    raise AttributeError(f"module 'segnext' has no attribute {name!r}")
