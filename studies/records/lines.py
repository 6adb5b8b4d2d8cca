"""A line of a table as a value, run or not: one row, protocol, dataset, seed and length."""

from __future__ import annotations

from msgspec import Struct


class Line(Struct, frozen=True):
    """None, or no words, means not measured; `state` is done, imported or pending."""

    study: str = ""
    row: str = ""
    protocol: str = ""
    dataset: str = ""
    seed: int | None = None
    run_id: str = ""
    upstream_run_id: str = ""
    state: str = ""
    params: int | None = None
    gmacs: float | None = None
    gmacs_fvcore: float | None = None
    input_height: int | None = None
    input_width: int | None = None
    trained_model: str = ""
    trained_params: int | None = None
    trained_gmacs: float | None = None
    iterations: int | None = None
    precision: str = ""
    miou_ss: float | None = None
    miou_ms: float | None = None
    top1: float | None = None
    fps: float | None = None

    def measured(self, column: str) -> float | None:
        """The value of a numeric column."""
        found = getattr(self, column)
        assert not isinstance(found, str), column
        return found
