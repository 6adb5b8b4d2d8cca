"""The model of a table: what is shown, once, for Markdown, LaTeX, CSV, the terminal and the page alike.

Not pandas' `Styler`: its HTML has no `scope` for a screen reader and no id of a row, which every link of the page goes
to, and its LaTeX neither a rule below a heading of several columns nor a size that fits the line. What would be left of
it is a loop; `reports.write.latex` and write/templates/macros.html.j2 are as long as the arguments that it would take.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Value = str | int | float | bool | None

METRICS = {
    "params_m": "Parameters (M)",
    "gflops": "GFLOPs",
    "miou_ss": "mIoU (SS)",
    "miou_ms": "mIoU (MS)",
    "top1": "Top-1",
    "fps": "FPS",
    "gradcam_inside": "Grad-CAM inside the mask",
    "thin_boundary_iou": "boundary IoU of pole and person",
}
"""The metrics in the words of the paper."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a measured number comes from: a record by its id, or another place on the page as `#anchor`."""

    text: str
    target: str
    title: str = ""
    marks: tuple[str, ...] = ()


LINKED = "; "
"""Between the texts of sources that are a cell's whole text: each of them is a link then, and none stands below it."""


_NOTHING: Mapping[str, Value] = {}  # one for all of a hundred thousand cells


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, rounded; the values behind it at full precision, by CSV column; its verdict and sources."""

    text: str = "–"
    values: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    verdict: str = ""  # a word of `verdicts.RULES`, which the text starts with
    sources: tuple[Source, ...] = ()
    note: int = 0  # number of a footnote
    title: str = ""  # of a dash: why nothing stands there
    repeats: bool = False  # its sources are those of another table's cells, where Markdown links them

    @property
    def linked(self) -> bool:
        """Whether its text is that of its sources, and nothing else."""
        return bool(self.sources) and self.text == LINKED.join(source.text for source in self.sources)


@dataclass(frozen=True)
class Column:
    """A column; neighbours of one group share a heading above them."""

    title: str
    group: str = ""
    align: Literal["text", "left", "right"] = "right"
    chosen: bool = False  # a reader of the page may choose among its words

    @property
    def full_title(self) -> str:
        """The title where there is room for one line of headings only."""
        return f"{self.group} {self.title}".strip()


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table. The first cell names it. `quoted`: a peer's printed values, never measured here."""

    key: str
    cells: tuple[Cell, ...]
    quoted: bool = False
    under: bool = False  # it belongs to the line above


@dataclass(frozen=True)
class Table:
    """A table with its caption, sentence by sentence, and its footnotes."""

    slug: str
    title: str
    caption: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the columns, each with how many it spans; empty when no column has one."""
        spans = [(group, len(list(items))) for group, items in itertools.groupby(c.group for c in self.columns)]
        return spans if any(group for group, _ in spans) else []


@dataclass(frozen=True)
class Fold:
    """Tables that a page folds away together; the words stand for them."""

    words: str
    tables: tuple[Table, ...]


def part(table: Table, slug: str, title: str, caption: tuple[str, ...], lines: Iterable[Line]) -> Table:
    """A table of some of another's lines, with the footnotes that these have."""
    notes = Notes()
    kept = tuple(
        replace(
            line,
            cells=tuple(
                replace(cell, note=notes.mark(table.notes[cell.note - 1])) if cell.note else cell for cell in line.cells
            ),
        )
        for line in lines
    )
    return Table(slug, title, caption, table.columns, kept, tuple(notes))


class Notes(list[str]):
    """Footnotes in the order of their first mention; equal ones are one."""

    def mark(self, note: str) -> int:
        """The note's number; 0 without a note."""
        if note and note not in self:
            self.append(note)
        return self.index(note) + 1 if note else 0


def number(value: float, digits: int, signed: bool = False) -> str:
    """A rounded number with a true minus sign; zero carries no sign."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")
