"""Every finished run on one page, each once, to be narrowed by table, data set, protocol and state."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from reports.blocks.table import Cell, Column, Line, Source, Table, number
from studies.facts.gather import Evidence, Variant
from studies.records import lines

SLUG = "every-run"
CURRENT = "current"
COLUMNS = (
    Column("Run", align="left"),
    Column("Table", align="left", chosen=True),
    Column("Rows", align="left"),
    Column("Data set", align="left", chosen=True),
    Column("Protocol", align="left", chosen=True),
    Column("Iterations"),
    Column("Seed"),
    Column("mIoU (SS)"),
    Column("mIoU (MS)"),
    Column("Top-1"),
    Column("State", align="left", chosen=True),
)


def every_run_table(everything: Iterable[Evidence]) -> Table:
    """A line a run; one that several tables show names them all."""
    found: dict[str, list[tuple[Variant, lines.Line]]] = {}
    for evidence in everything:
        for variant in evidence.variants:
            for line in variant.finished:
                found.setdefault(line.run_id, []).append((variant, line))
    caption = ("Each finished run once: its page, what it trained, and what came out.",)
    return Table(SLUG, "Every run", caption, COLUMNS, tuple(_line(name, shown) for name, shown in found.items()), ())


@lru_cache(10_000)
def _cell(text: str) -> Cell:
    """One cell for many runs: they differ in little."""
    return Cell(text)


def _line(identifier: str, shown: list[tuple[Variant, lines.Line]]) -> Line:
    variant, line = shown[0]
    marks = variant.marks.get(identifier, ())
    rows = dict.fromkeys(f"{one.study.slug}/{own.row}" for one, own in shown)
    scores = (_cell("" if score is None else number(score, 2)) for score in (line.miou_ss, line.miou_ms, line.top1))
    cells = (
        Cell(identifier, sources=(Source(identifier, identifier, "the run's page"),)),
        _cell(", ".join(dict.fromkeys(one.study.number for one, _ in shown))),
        _cell(", ".join(rows)),
        _cell(line.dataset),
        _cell(variant.protocol.name),
        _cell(f"{line.iterations:,}" if line.iterations else ""),
        _cell(str(line.seed)),
        *scores,
        _cell(", ".join(marks) or CURRENT),
    )
    return Line(identifier, cells)
