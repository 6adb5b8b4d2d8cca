"""Where the numbers come from: machines, versions, code, data and compute, summed over records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reports.table import Cell, Column, Line, Table
from studies.store import Record


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
    runs = [record for record in records if record["kind"] == "run"]
    kinds = Counter(record["kind"] for record in records)
    if runs:
        seconds = sum(record["training"]["seconds"] for record in runs)
        attempts = sum(_attempts(record) for record in runs)
        lines.append(Line("compute", (Cell("Training time"), Cell(_duration(seconds)), Cell(str(len(runs))))))
        lines.append(Line("attempts", (Cell("Attempts"), Cell(str(attempts)), Cell(str(len(runs))))))
    columns = (Column("Fact", align="left"), Column("Value", align="text"), Column("Records"))
    caption = (
        f"Records: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}.",
        "Training time is that of finished runs. ×n: in how many records, where they differ.",
    )
    return Table("provenance", "Provenance", caption, columns, tuple(lines))


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    origin = record["provenance"]
    for fact in ("device", "processor", "threads", "python"):
        if origin.get(fact) is not None:
            yield fact.capitalize(), str(origin[fact])
    if packages := origin.get("packages"):
        yield "Packages", ", ".join(f"{package} {version}" for package, version in sorted(packages.items()))
    if origin.get("commit"):
        yield "Commit", origin["commit"][:12] + (" with uncommitted changes" if origin.get("dirty") else "")
    if origin.get("code"):
        yield "Code", str(origin["code"])
    for use in ("train", "test"):
        if fingerprint := (origin.get("data") or {}).get(f"{use}_fingerprint"):
            data = record["config"]["data"]
            yield "Data", f"{data['dataset']} {data[f'{use}_split']} {fingerprint}"


def _joined(values: Counter[str]) -> str:
    same = len(set(values.values())) == 1
    return "; ".join(value if same else f"{value} (×{count})" for value, count in sorted(values.items()))


def _attempts(record: Record) -> int:
    attempts = record["provenance"].get("attempts", 1)
    return attempts if isinstance(attempts, int) else len(attempts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"
