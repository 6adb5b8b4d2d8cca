"""What the fields of all configurations share: who chose the default, when the field was added, and checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

SOURCES = ("Paper", "Official code", "VAN", "Ours")
"""Who can have made a choice. The official code is the PyTorch release at c87bcae unless the Jittor one is named."""

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""How a GPU multiplies: in float32; in TF32 (convolutions and matrix products); or in half precision by autocast."""


@dataclass(frozen=True)
class Choice:
    """Who chose a value, where or why, and what another source has instead.

    Raises `ValueError` if `source` is not one of `SOURCES`.
    """

    source: str  # one of SOURCES
    why: str = ""
    other: str = ""

    def __post_init__(self) -> None:
        require(self.source in SOURCES, f"Choice.source: {self.source!r} is not one of {', '.join(SOURCES)}")

    def __str__(self) -> str:
        return self.source + (f": {self.why}" if self.why else "") + (f"; {self.other}" if self.other else "")


def paper(why: str = "", other: str = "") -> Choice:
    """The paper's choice."""
    return Choice("Paper", why, other)


def official(why: str = "", other: str = "") -> Choice:
    """The choice of the authors' released code, where the paper is silent or differs."""
    return Choice("Official code", why, other)


def van(why: str = "", other: str = "") -> Choice:
    """The choice of VAN's code, with which the authors pretrained (issue 33 of the release)."""
    return Choice("VAN", why, other)


def ours(why: str = "", other: str = "") -> Choice:
    """This project's choice."""
    return Choice("Ours", why, other)


def told(choices: Iterable[Choice]) -> str:
    """The choices as text for a page."""
    return ". ".join(map(str, choices))


def needed(*choices: Choice) -> Any:
    """A required field, with who chose its values in the paper's recipes and sizes."""
    return dataclasses.field(metadata={"choices": choices})


def chosen(default: T, *choices: Choice) -> T:
    """A field with this default, and who chose it."""
    return dataclasses.field(default=default, metadata={"choices": choices})


def later(default: Any, *choices: Choice, frozen: Any) -> Any:
    """A field that was added after results existed: it stays out of the id while it equals `frozen`.

    `frozen` is the value that every earlier run had in effect. Never edit it, even if the default changes.
    """
    return dataclasses.field(default=default, metadata={"choices": choices, "frozen": frozen})


def choices_of(kind: Any) -> Mapping[str, tuple[Choice, ...]]:
    """The choices of a configuration's fields, by field; fields that state none are left out."""
    said = {field.name: field.metadata.get("choices", ()) for field in dataclasses.fields(kind)}
    return {name: choices for name, choices in said.items() if choices}


def require(condition: bool, message: str) -> None:
    """Raise `ValueError` with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_precision(kind: str, value: str) -> None:
    """Raise `ValueError`, naming `kind`, unless `value` is one of `PRECISIONS`."""
    require(value in PRECISIONS, f"{kind}.precision: {value!r} is not one of {', '.join(PRECISIONS)}")
