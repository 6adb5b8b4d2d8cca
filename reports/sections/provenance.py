"""Where the numbers come from: machines, versions and code, counted over records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reports.blocks.table import Cell, Column, Line, Table
from studies.records.schema import Record
from studies.records.store import precision


def provenance_table(records: Sequence[Record]) -> Table:
    """What the records behind a page were made with, each fact with the number of records it holds for."""
    counted: dict[str, Counter[str]] = {}
    for record in records:
        for fact, value in _facts(record):
            counted.setdefault(fact, Counter())[value] += 1
    lines = [
        Line(fact.lower().replace(" ", "-"), (Cell(fact), Cell(_joined(values)), Cell(str(values.total()))))
        for fact, values in counted.items()
    ]
    kinds = Counter(record["kind"] for record in records)
    columns = (Column("Fact", align="left"), Column("Value", align="text"), Column("Records"))
    caption = (
        f"Records: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}.",
        "×n: in how many records, where they differ.",
    )
    return Table("provenance", "Machines, versions and code", caption, columns, tuple(lines))


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    origin = record["provenance"]
    if record["kind"] in ("run", "evaluation"):
        yield "Precision", precision(record)
    elif record["kind"] == "speed":
        yield "Precision", record["config"]["platform"]["precision"]
    for fact in ("device", "processor", "threads", "python"):
        if origin.get(fact) is not None:
            yield fact.capitalize(), str(origin[fact])
    if packages := origin.get("packages"):
        yield "Packages", ", ".join(f"{package} {version}" for package, version in sorted(packages.items()))
    if origin.get("commit"):
        yield "Commit", origin["commit"][:12] + (" with uncommitted changes" if origin.get("dirty") else "")
    if origin.get("code"):
        yield "Code", str(origin["code"])


def _joined(values: Counter[str]) -> str:
    same = len(set(values.values())) == 1
    return "; ".join(value if same else f"{value} (×{count})" for value, count in sorted(values.items()))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"
