"""Tables as Markdown, as CSV and for the terminal."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from reports.blocks.csv import to_csv
from reports.blocks.style import ELSEWHERE_GLYPHS, OTHERS_GLYPHS, SIGNS
from reports.blocks.table import LINKED, Cell, Column, Line, Source, Table, Value
from segnext import door
from studies.facts.gather import Evidence, Variant

_COLOURS = {  # of the terminal; the word and the glyph say the same
    **dict.fromkeys(("reproduced", "supported", "agrees"), "green"),
    **dict.fromkeys(("contradicted", "differs", "unexplained", "above", "below"), "red"),
    **dict.fromkeys(("inconclusive", "no difference", "not resolved", "few seeds"), "yellow"),
    "imported": "cyan",
    **dict.fromkeys(OTHERS_GLYPHS, "magenta"),
    **dict.fromkeys(ELSEWHERE_GLYPHS, "blue"),
    "pending": "dim",
}


def shown(cell: Cell) -> str:
    """A cell's text with the glyph of its verdict and its footnote's mark."""
    glyph = SIGNS.get(cell.verdict, "")
    return f"{glyph} {cell.text}".strip() + (f" †{cell.note}" if cell.note else "")


Link = Callable[[Source], str]
"""Where a source is found from a page of Markdown; empty: nowhere that the page may name."""


def markdown(title: str, tables: Sequence[Table], link: Link = lambda source: "") -> str:
    """One .md file of these tables."""
    return f"# {_escape(title)}\n\n" + "\n".join(_markdown(table, link) for table in tables)


def _markdown(table: Table, link: Link) -> str:
    rule = ["---:" if column.align == "right" else ":---" for column in table.columns]
    rows = [[_escape(column.full_title) for column in table.columns], rule]
    rows += [[_linked(cell, link) for cell in line.cells] for line in table.lines]
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    notes = "".join(f"\n†{mark} {_escape(note)}\n" for mark, note in enumerate(table.notes, start=1))
    return f"## {_escape(table.title)}\n\n{_escape(' '.join(table.caption))}\n\n{body}{notes}"


def _linked(cell: Cell, link: Link) -> str:
    """A cell whose text is a link to its only source, or is followed by links to several."""
    text = _escape(shown(cell))
    ways = {} if cell.repeats else {source: way for source in cell.sources if (way := link(source))}
    if ways and cell.linked:
        told = LINKED.join(
            f"[{_escape(source.text)}]({ways[source]})" if source in ways else _escape(source.text)
            for source in cell.sources
        )
        return text.replace(_escape(cell.text), told, 1)
    return " ".join([text, *(f"[{_escape(source.text)}]({way})" for source, way in ways.items())])


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]#~])", r"\\\1", " ".join(text.split()))


def wide_csv(evidence: Evidence, costs: Sequence[Table], accuracies: Sequence[tuple[Variant, Table]]) -> str:
    """A study's wide table as shown, at full precision: one line per variant and row. Empty means not measured.

    A dataset about which the table prints costs alone has one line per row, without a protocol.
    """
    rows: list[dict[str, Value]] = []
    for panel, table in zip(evidence.study.panels, costs, strict=True):
        shown: list[tuple[Variant | None, Table]] = [pair for pair in accuracies if pair[0].panel == panel]
        expenses = {line.key: _values(line.cells) for line in table.lines}
        for variant, drawn in shown or [(None, table)]:
            for line in drawn.lines:
                values = _values(line.cells)
                row = values.get("row", line.key)  # a line of imported weights names the row that it stands under
                names: dict[str, Value] = {"study": evidence.study.slug, "row": row, "dataset": panel.dataset}
                rows.append({**names, **_identity(variant), **expenses.get(str(row), {}), **values})
    return to_csv(rows)


def claims_csv(evidence: Evidence, claims: Sequence[tuple[Variant | None, Table]]) -> str:
    """A study's claims with their verdicts: one line per variant and claim; claims on costs have no protocol."""
    declared = {claim.slug: claim for claim in evidence.study.claims}
    rows: list[dict[str, Value]] = []
    for variant, table in claims:
        for line in table.lines:
            claim = declared[line.key]
            dataset = evidence.study.panel(claim.dataset).dataset
            names: dict[str, Value] = {"better": claim.better, "worse": claim.worse, "dataset": dataset}
            names["metric"] = claim.metric
            kind: dict[str, Value] = {"kind": claim.kind, "text": claim.text}
            rows.append({"claim": line.key, **_identity(variant), **names, **kind, **_values(line.cells)})
    return to_csv(rows)


def ham_csv(tables: Sequence[tuple[Variant, Table]]) -> str:
    """A study's spread by Ham's evaluation seed: one line per variant and finished weights."""
    return to_csv([{**_identity(v), **_values(line.cells)} for v, table in tables for line in table.lines])


def values_csv(table: Table) -> str:
    """The values behind a table's cells at full precision: one line per row."""
    return to_csv([_values(line.cells) for line in table.lines])


def _identity(variant: Variant | None) -> dict[str, Value]:
    if variant is None:
        return {"protocol": None, "iterations": None}
    return {"protocol": variant.protocol.name, "iterations": variant.iterations}


def _values(cells: Sequence[Cell]) -> dict[str, Value]:
    return {key: value for cell in cells for key, value in cell.values.items()}


def in_brief(table: Table) -> Table:
    """A table of metrics for a terminal: a column a metric, in it the printed value, ours and the verdict's sign."""
    spans = [
        [place for place, column in enumerate(table.columns) if column.group == group] for group, _ in table.groups
    ]
    parts = ("printed", "ours", "verdict")

    def told(cells: Sequence[Cell], span: Sequence[int]) -> str:
        found = {table.columns[place].title: cells[place] for place in span}
        numbers = " / ".join(found[name].text for name in parts[:2] if name in found)
        return f"{numbers} {SIGNS.get(found['verdict'].verdict, '') if 'verdict' in found else ''}".strip()

    lines = [
        Line(line.key, (Cell(line.cells[0].text), *(Cell(told(line.cells, span)) for span in spans[1:])))
        for line in table.lines
    ]
    columns = []
    for span in spans[1:]:
        titles = [table.columns[place].title for place in span]
        columns.append(Column(" / ".join(name for name in parts[:2] if name in titles), table.columns[span[0]].group))
    return dataclasses.replace(table, columns=(table.columns[0], *columns), lines=tuple(lines), notes=())


def tell(table: Table) -> None:
    """Print the table with the first sentence of its caption and without footnotes."""

    def colour(line: int, column: int) -> str:
        return _COLOURS.get(table.lines[line].cells[column].verdict, "")

    columns = [
        door.Column(" ".join(filter(None, (column.group, column.title))), column.align == "right", folds=True, keeps=8)
        for column in table.columns
    ]
    door.show_table(columns, [[shown(cell) for cell in line.cells] for line in table.lines], table.title, colour)
    door.console().print(table.caption[0])
