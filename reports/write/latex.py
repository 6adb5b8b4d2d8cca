"""Tables as LaTeX: booktabs, every character escaped, a file that compiles alone and by `\\input` alike.

A table that fits a page floats, and is made smaller where its line is too short for it; a longer one breaks over
landscape pages.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from reports.blocks.table import Cell, Column, Line, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_\allowbreak{}",  # a name may be longer than its column
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\(<\)",
    ">": r"\(>\)",
    "|": r"\textbar{}",
    "[": "{[}",  # else an optional argument after \\ at the start of a line
    "]": "{]}",
    "\N{NO-BREAK SPACE}": "~",
    "×": r"\(\times\)",
    "±": r"\(\pm\)",
    "−": r"\(-\)",
    "≤": r"\(\le\)",
    "≥": r"\(\ge\)",
    "ε": r"\(\varepsilon\)",
    "²": r"\textsuperscript{2}",
    "\u2060": "{}",  # a word joiner, from `escape`
    "–": "--",
    "—": "---",
    "’": "'",
    "“": "``",
    "”": "''",
    '"': "''",
    "…": r"\ldots{}",
    "†": r"\textdagger{}",
    "·": r"\(\cdot\)",
    "→": r"\(\to\)",
}

# After \begin{document} LaTeX lets \@nodocument be \relax: that tells a file of its own from an \input.
_HEAD = r"""% {name}: compile it alone, or \input it with the packages of the next lines.
\let\reportend\relax
\expandafter\ifx\csname @nodocument\endcsname\relax\else
  \documentclass[a4paper,landscape]{{article}}
  \usepackage[margin=15mm]{{geometry}}
  \usepackage{{array,booktabs,graphicx,longtable,pdflscape,xcolor}}
  \def\reportend{{\end{{document}}}}
  \begin{{document}}
\fi
"""

_FLOAT = r"""\begin{{table}}[htbp]
\centering\small\setlength{{\tabcolsep}}{{4pt}}\setlength{{\belowcaptionskip}}{{4pt}}
\caption[{title}]{{{caption}}}
\label{{tab:{slug}}}
\sbox0{{\begin{{tabular}}{{{columns}}}
\toprule
{head}
\midrule
{body}
\bottomrule
\end{{tabular}}}}
\ifdim\wd0>\linewidth\resizebox{{\linewidth}}{{!}}{{\usebox0}}\else\usebox0\fi
{notes}\end{{table}}
"""

_LONG = r"""\begingroup
\ifdim\linewidth<500pt\begin{{landscape}}\def\reportturned{{\end{{landscape}}}}\else\let\reportturned\relax\fi
\ifdim\linewidth<650pt\tiny\else\footnotesize\fi\setlength{{\tabcolsep}}{{3pt}}\setlength{{\LTcapwidth}}{{\linewidth}}
\begin{{longtable}}{{{columns}}}
\caption[{title}]{{{caption}}}\label{{tab:{slug}}}\\
\toprule
{head}
\midrule
\endfirsthead
\toprule
{head}
\midrule
\endhead
\bottomrule
\endfoot
{body}
\end{{longtable}}
{notes}\reportturned\endgroup
"""

_RAGGED = {"text": r"\raggedright", "left": r"\raggedright", "right": r"\raggedleft"}
_FIXED = {"left": "l", "right": "r"}
_LINE = 160  # characters of a landscape page, half an em each
_GAP = 2  # the same between two columns
_PAGE = 34  # lines of a table on such a page, below its caption


def latex(name: str, tables: Sequence[Table]) -> str:
    """One .tex file of these tables."""
    return _HEAD.format(name=name) + "\n".join(_table(table) for table in tables) + "\\reportend\n"


def escape(text: str) -> str:
    """Plain text as LaTeX."""
    text = re.sub("-(?=-)", "-\u2060", text)  # the two hyphens of an option are no dash
    text = re.sub(r'(?<!\w)"(?=\w)', "“", text)
    return "".join(_SPECIAL.get(character, character) for character in text)


def _table(table: Table) -> str:
    widths = _widths(table, wrapped=False)
    long = sum(_height(line, widths) for line in table.lines) > _PAGE
    widths = _widths(table, wrapped=True) if long else widths
    shares = [_share(width, widths) if long else "" for width in widths]
    end = "\n\\addlinespace[2pt]\n" if long else "\n"
    return (_LONG if long else _FLOAT).format(
        title=escape(table.title),
        caption=" ".join(escape(sentence) for sentence in (f"{table.title}.", *table.caption)),
        slug=table.slug,
        columns="".join(map(_column, table.columns, widths, shares)),
        head=_head(table, widths if long else ()),
        body=end.join(" & ".join(_cell(cell, line.quoted) for cell in line.cells) + r" \\" for line in table.lines),
        notes="".join(
            rf"\par\footnotesize\textsuperscript{{{mark}}} {escape(note)}" + "\n"
            for mark, note in enumerate(table.notes, start=1)
        ),
    )


def _widths(table: Table, wrapped: bool) -> list[int]:
    """Characters of each column: of numbers as many as they have, of texts what the line has room for.

    The columns of a table that breaks over pages may wrap their headings and their words too.
    """
    headings = [_longest_word(column.title) if wrapped else len(column.title) for column in table.columns]
    columns = [[cell.text for cell in cells] for cells in zip(*(line.cells for line in table.lines), strict=True)]
    longest = [max(heading, *map(len, texts)) for heading, texts in zip(headings, columns, strict=True)]
    words = [max(map(_longest_word, texts)) for texts in columns]
    flexible = [column.align == "text" or (wrapped and column.align == "left") for column in table.columns]
    means = [statistics.fmean(map(len, texts)) for texts in columns]
    widths, share = longest, 8.0
    while sum(widths) > _LINE - _GAP * len(columns) and share > 0.1:
        share *= 0.95
        widths = [
            min(most, max(word, 8, round(share * mean))) if bends else most
            for bends, most, word, mean in zip(flexible, longest, words, means, strict=True)
        ]
    return widths


def _longest_word(text: str) -> int:
    return max(map(len, re.split(r"[\s_-]+", text)))


def _height(line: Line, widths: Sequence[int]) -> int:
    """Lines of text of a row."""
    return max(-(-len(cell.text) // width) for cell, width in zip(line.cells, widths, strict=True))


def _share(width: int, widths: Sequence[int]) -> str:
    """The part of a whole line that so many of its characters have."""
    return rf"p{{\dimexpr {width / sum(widths):.4f}\linewidth-2\tabcolsep\relax}}"


def _column(column: Column, width: int, share: str) -> str:
    """A column of its own width, or of its share of a line."""
    if not share:
        return _FIXED.get(column.align) or rf">{{\raggedright\arraybackslash}}p{{{width / 2:g}em}}"
    return rf">{{{_RAGGED[column.align]}\arraybackslash}}{share}"


def _head(table: Table, widths: Sequence[int]) -> str:
    """The headings; those over several columns are wrapped where the columns have shares of a line."""
    titles = " & ".join(escape(column.title) for column in table.columns) + r" \\"
    if not table.groups:
        return titles
    cells, rules, first = [], [], 0
    for group, span in table.groups:
        shape = rf">{{\centering\arraybackslash}}{_share(sum(widths[first : first + span]), widths)}" if widths else "c"
        cells.append(rf"\multicolumn{{{span}}}{{{shape}}}{{{escape(group)}}}" if group else " & ".join([""] * span))
        if group:
            rules.append(rf"\cmidrule(lr){{{first + 1}-{first + span}}}")
        first += span
    return "\n".join((" & ".join(cells) + r" \\", "".join(rules), titles))


def _cell(cell: Cell, quoted: bool) -> str:
    """Its text; grey where it is a peer's, or where nothing is measured yet."""
    text = escape(cell.text)
    text = rf"\textcolor[gray]{{0.45}}{{{text}}}" if quoted or cell.verdict == "pending" else text
    return text + (rf"\textsuperscript{{{cell.note}}}" if cell.note else "")
