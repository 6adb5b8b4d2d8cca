"""Values as CSV, for a reader and for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from reports.blocks.table import Value


def to_csv(rows: Sequence[Mapping[str, Value]]) -> str:
    """Rows as CSV, with every column that any of them has."""
    buffer = io.StringIO()
    columns = dict.fromkeys(column for row in rows for column in row)
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _inert(value) for column, value in row.items()} for row in rows)
    return buffer.getvalue()


def _inert(value: Value) -> Value:
    """A text that a spreadsheet would compute (`=1+1`, `@SUM`) with the apostrophe that makes it a text there, too."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
