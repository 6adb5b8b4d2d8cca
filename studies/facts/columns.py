"""Lines of CSV files: a dataclass a file, whose fields are the columns. results/README.md explains each."""

from __future__ import annotations

import csv
import dataclasses
import io
import operator
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

AT_ONCE = 500  # lines of a piece of text
PLAIN = frozenset({type(None), int, float})  # a CSV has them as they are


@cache
def columns(kind: type) -> tuple[str, ...]:
    """The columns of a file with lines of this kind."""
    return tuple(field.name for field in dataclasses.fields(kind))


def written(kind: type, lines: Iterable[Any]) -> Iterator[str]:
    """The text of a file, piece by piece: not measured, and not said, is empty."""
    names, buffer = columns(kind), io.StringIO()
    values = operator.attrgetter(*names)
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for number, line in enumerate(lines, start=1):
        writer.writerow([value if value.__class__ in PLAIN else _cell(value) for value in values(line)])
        if number % AT_ONCE == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would compute (`=1+1`, `@SUM`) has an apostrophe before it."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
