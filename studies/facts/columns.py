"""Lines of CSV files: a struct a file, whose fields are the columns. results/README.md explains each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, structs

COMPUTED = frozenset("=+-@\t\r")
PLAIN = frozenset({type(None), int, float})  # a CSV has them as they are


def written(kind: type[Struct], lines: Iterable[Struct]) -> str:
    """The text of a file: not measured, and not said, is empty."""
    names, buffer = kind.__struct_fields__, io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        writer.writerow([value if value.__class__ in PLAIN else _cell(value) for value in structs.astuple(line)])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would compute (`=1+1`, `@SUM`) has an apostrophe before it."""
    if value.__class__ is str:
        return f"'{value}" if value and value[0] in COMPUTED else value
    return ("yes" if value else "") if isinstance(value, bool) else value
