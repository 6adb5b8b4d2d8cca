"""Where the numbers come from: machines, versions and code, counted over records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

from reports.blocks.table import Cell, Column, Line, Table
from studies.records.schema import Record, ScoredRecord, SpeedRecord


def provenance_table(records: Sequence[Record]) -> Table:
    """What the records behind a page were made with, each fact with the number of records it holds for."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for fact, value in _facts(record):
            counted[fact][value] += 1
    lines = [
        Line(fact.lower().replace(" ", "-"), (Cell(fact), Cell(_joined(values)), Cell(str(values.total()))))
        for fact, values in counted.items()
    ]
    kinds = Counter(record.kind for record in records)
    columns = (Column("Fact", align="left"), Column("Value", align="text"), Column("Records"))
    caption = (
        f"Records: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}.",
        "×n: in how many records, where they differ.",
    )
    return Table("provenance", "Machines, versions and code", caption, columns, tuple(lines))


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    origin = record.provenance
    if isinstance(record, ScoredRecord):
        yield "Precision", origin.precision
    elif isinstance(record, SpeedRecord):
        yield "Precision", record.config.platform.precision
    facts = {
        "Device": origin.device,
        "Processor": origin.processor,
        "Threads": origin.threads,
        "Python": origin.python,
    }
    yield from ((fact, str(value)) for fact, value in facts.items() if value is not None)
    if origin.packages:
        yield "Packages", _named(tuple(origin.packages.items()))
    if origin.commit:
        yield "Commit", origin.commit[:12] + (" with uncommitted changes" if origin.dirty else "")
    if origin.code:
        yield "Code", origin.code


@lru_cache(256)
def _named(packages: tuple[tuple[str, str], ...]) -> str:
    """Packages with their versions, which thousands of records have in common."""
    return ", ".join(f"{package} {version}" for package, version in sorted(packages))


def _joined(values: Counter[str]) -> str:
    same = len(set(values.values())) == 1
    return "; ".join(value if same else f"{value} (×{count})" for value, count in sorted(values.items()))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"
