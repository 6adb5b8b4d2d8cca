"""What the fields of all configurations share: whose choice they are, when they came, what they may hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

SOURCES = ("Paper", "Official code", "VAN", "Ours")
"""Whose a choice can be; the official code is the release at c87bcae or, where named, the Jittor one."""

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""What a GPU multiplies in: float32 proper; TF32 in convolutions and matrix products; or autocast to half precision."""


@dataclass(frozen=True)
class Choice:
    """Whose choice a value is, where or why it was made, and what another source has in its place."""

    source: str  # one of SOURCES
    why: str = ""
    other: str = ""

    def __post_init__(self) -> None:
        require(self.source in SOURCES, f"Choice.source: {self.source!r} is not one of {', '.join(SOURCES)}")

    def __str__(self) -> str:
        return self.source + (f": {self.why}" if self.why else "") + (f"; {self.other}" if self.other else "")


def paper(why: str = "", other: str = "") -> Choice:
    """As the paper prints it."""
    return Choice("Paper", why, other)


def official(why: str = "", other: str = "") -> Choice:
    """As the authors released it, where the paper is silent or differs."""
    return Choice("Official code", why, other)


def van(why: str = "", other: str = "") -> Choice:
    """As in VAN's code, with which the authors pretrained (issue 33 of the release)."""
    return Choice("VAN", why, other)


def ours(why: str = "", other: str = "") -> Choice:
    """A choice of this project."""
    return Choice("Ours", why, other)


def told(choices: Iterable[Choice]) -> str:
    """Choices in words, for a page."""
    return ". ".join(map(str, choices))


def needed(*choices: Choice) -> Any:
    """A field without a default, and whose choice its value is in the paper's recipes and sizes."""
    return dataclasses.field(metadata={"choices": choices})


def chosen(default: T, *choices: Choice) -> T:
    """A field's default, and whose choice it is."""
    return dataclasses.field(default=default, metadata={"choices": choices})


def later(default: Any, *choices: Choice, frozen: Any) -> Any:
    """A field that was added after results existed: absent from an id while it equals `frozen`.

    `frozen` is what every run before the field did. It is never edited, also when the default changes.
    """
    return dataclasses.field(default=default, metadata={"choices": choices, "frozen": frozen})


def choices_of(kind: Any) -> Mapping[str, tuple[Choice, ...]]:
    """The choices of a configuration's fields, by field; of those alone that say some."""
    said = {field.name: field.metadata.get("choices", ()) for field in dataclasses.fields(kind)}
    return {name: choices for name, choices in said.items() if choices}


def require(condition: bool, message: str) -> None:
    """`ValueError` with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_precision(kind: str, value: str) -> None:
    """`ValueError` unless `value`, the precision of a `kind`, is one of `PRECISIONS`."""
    require(value in PRECISIONS, f"{kind}.precision: {value!r} is not one of {', '.join(PRECISIONS)}")
