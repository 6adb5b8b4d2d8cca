"""The cells of a table's line as HTML.

In Python and not in a template: of twenty thousand runs a page has 200,000 cells, and a macro takes five times as long.
"""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup, escape

from reports.blocks.style import SIGNS
from reports.blocks.table import Cell, Line, Source, Table


def cells(line: Line, table: Table) -> Markup:
    """All of a line's cells, one to a line; the first is its heading."""
    first, *rest = zip(line.cells, table.columns, strict=False)
    told = [f'<th scope="row" class="{first[1].align}">{_content(first[0], table.slug)}</th>']
    told += [f'<td class="{column.align}">{_content(cell, table.slug)}</td>' for cell, column in rest]
    return Markup("\n".join(told))


def _content(cell: Cell, slug: str) -> str:
    linked = cell.linked
    text = "; ".join(map(_source, cell.sources)) if linked else _escaped(cell.text)
    if cell.title and not linked:
        text = f'<span title="{_escaped(cell.title)}">{text}</span>'
    if cell.verdict:
        sign = f'<span aria-hidden="true">{_escaped(SIGNS[cell.verdict])}&nbsp;</span>'
        text = f'<span class="verdict {_escaped(cell.verdict.replace(" ", "-"))}">{sign}{text}</span>'
    if cell.note:
        place, words = f"{_escaped(slug)}-note-{cell.note}", f"footnote {cell.note}"
        text += f'<sup><a href="#{place}" aria-label="{words}">†{cell.note}</a></sup>'
    if cell.sources and not linked:
        alike = len({source.marks for source in cell.sources}) == 1
        found = " ".join(_source(source, marked=not alike) for source in cell.sources)
        text += f'<span class="sources">{found}{_warned(cell.sources[0].marks) if alike else ""}</span>'
    return text.strip()


def _source(source: Source, marked: bool = True) -> str:
    way = source.target if "#" in source.target or source.target.startswith("https:") else f"runs/{source.target}.html"
    title, text = _escaped(source.title), _escaped(source.text)
    said = f' title="{title}" aria-label="{title}: {text}"' if title else ""
    return f'<a href="{_escaped(way)}"{said}>{text}</a>{_warned(source.marks) if marked else ""}'


def _warned(marks: tuple[str, ...]) -> str:
    return "".join(f' <em class="mark">{_escaped(mark)}</em>' for mark in marks)


@lru_cache(1 << 14)
def _escaped(text: str) -> str:
    """Most cells say what many others say."""
    return str(escape(text))
