"""What the fields of all configurations share: when they came, what they may hold."""

from __future__ import annotations

import dataclasses
from typing import Any

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""What a GPU multiplies in: float32 proper; TF32 in convolutions and matrix products; or autocast to half precision."""


def later(default: Any, *, frozen: Any) -> Any:
    """A field that was added after results existed: absent from an id while it equals `frozen`.

    `frozen` is what every run before the field did. It is never edited, also when the default changes.
    """
    return dataclasses.field(default=default, metadata={"frozen": frozen})


def require(condition: bool, message: str) -> None:
    """`ValueError` with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_precision(kind: str, value: str) -> None:
    """`ValueError` unless `value`, the precision of a `kind`, is one of `PRECISIONS`."""
    require(value in PRECISIONS, f"{kind}.precision: {value!r} is not one of {', '.join(PRECISIONS)}")
