"""Tables as LaTeX: booktabs, every character escaped, a file that compiles alone and by `\\input` alike."""

from __future__ import annotations

from collections.abc import Sequence

from reports.table import Cell, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\(<\)",
    ">": r"\(>\)",
    "[": "{[}",  # else an optional argument after \\ at the start of a line
    "]": "{]}",
    "×": r"\(\times\)",
    "±": r"\(\pm\)",
    "−": r"\(-\)",
    "≤": r"\(\le\)",
    "≥": r"\(\ge\)",
    "ε": r"\(\varepsilon\)",
    "–": "--",
    "—": "---",
    "’": "'",
    "…": r"\ldots{}",
    "†": r"\textdagger{}",
    "·": r"\(\cdot\)",
    "→": r"\(\to\)",
}

# After \begin{document} LaTeX lets \@nodocument be \relax: that tells a file of its own from an \input.
_HEAD = r"""% {name}: compile it alone, or \input it where \usepackage{{booktabs}} is loaded.
\let\reportend\relax
\expandafter\ifx\csname @nodocument\endcsname\relax\else
  \documentclass[a4paper,landscape]{{article}}
  \usepackage[margin=15mm]{{geometry}}
  \usepackage{{booktabs}}
  \def\reportend{{\end{{document}}}}
  \begin{{document}}
\fi
"""

_TABLE = r"""\begin{{table}}[htbp]
\centering\small\setlength{{\tabcolsep}}{{4pt}}
\caption{{{caption}}}
\label{{tab:{slug}}}
\begin{{tabular}}{{{alignment}}}
\toprule
{head}
\midrule
{body}
\bottomrule
\end{{tabular}}
{notes}\end{{table}}
"""

_ALIGNMENT = {"left": "l", "right": "r"}


def latex(name: str, tables: Sequence[Table]) -> str:
    """One .tex file of these tables."""
    return _HEAD.format(name=name) + "\n".join(_table(table) for table in tables) + "\\reportend\n"


def escape(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _table(table: Table) -> str:
    prose_columns = sum(column.align == "text" for column in table.columns)
    width = (0.9 if prose_columns == len(table.columns) else 0.5) / prose_columns  # of the line
    prose = rf"p{{{min(width, 0.3):.2f}\linewidth}}"
    return _TABLE.format(
        caption=" ".join(escape(sentence) for sentence in (f"{table.title}.", *table.caption)),
        slug=table.slug,
        alignment="".join(_ALIGNMENT.get(column.align, prose) for column in table.columns),
        head=_head(table),
        body="\n".join(_line([_cell(cell) for cell in line.cells]) for line in table.lines),
        notes="".join(
            rf"\par\footnotesize\textsuperscript{{{mark}}} {escape(note)}" + "\n"
            for mark, note in enumerate(table.notes, start=1)
        ),
    )


def _head(table: Table) -> str:
    titles = _line([escape(column.title) for column in table.columns])
    if not table.groups:
        return titles
    cells, rules, first = [], [], 1
    for group, span in table.groups:
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{escape(group)}}}" if group else " & ".join([""] * span))
        if group:
            rules.append(rf"\cmidrule(lr){{{first}-{first + span - 1}}}")
        first += span
    return "\n".join((_line(cells), "".join(rules), titles))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text).replace(r"\_", r"\_\allowbreak{}")  # a file's name may be longer than its column
    return text + (rf"\textsuperscript{{{cell.note}}}" if cell.note else "")
