"""`python -m reports.compare A B`: one results folder held against another, record by record and row by row.

Exit codes: 0 nothing differs beyond chance, 1 something does, or a record is damaged (all others are compared),
2 usage, 5 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segnext.door import Parser, command, console, say, typed_path
from segnext.files import write_atomically
from studies.records.revisions import Results, results_of
from studies.records.store import REPOSITORY, of_checkout

if TYPE_CHECKING:
    from reports.sections.compared import Way
    from studies.judge.two_results import Comparison

OUT = REPOSITORY / "reports" / "out" / "compare"
PAGE = "index.html"
ENDINGS = ("svg", "pdf", "png")
FIGURE = {f"difference.{ending}" for ending in ("csv", *ENDINGS)}
GENERATOR = "python -m reports.compare"
WIDTH = 80
MOST_SHOWN = 10  # rows in the terminal


@command(GENERATOR)
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog=GENERATOR,
        description="Hold results B against results A. Records of the same id: equal, equal to rounding, or different, "
        "and what differs in how they were made. The same rows: differences of means with Welch's intervals, corrected "
        "by Holm's method over the comparison.",
        epilog="A and B are results folders, or git revisions of this repository's results/, which are read without a "
        "checkout; of a name that is both, the folder. Exit codes: 0 nothing differs beyond chance, 1 something does, "
        "or a record is damaged (all others are compared), 2 usage, 5 stopped by Ctrl-C.",
    )
    parser.add_argument("a", metavar="A", help="what to compare with: a results folder, or a revision such as HEAD~40")
    parser.add_argument("b", metavar="B", help="what is compared: its differences from A are shown")
    parser.add_argument(
        "--out",
        type=typed_path,
        default=OUT,
        metavar="DIR",
        help="a new or empty folder, or an earlier comparison's, which is replaced (default: reports/out/compare)",
    )
    options = parser.parse_args(arguments)
    if options.out == OUT:
        of_checkout("reports/out", "name --out DIR")
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(results_of(text)) for text in (options.a, options.b))
        _refuse_foreign(options.out)
        from studies.judge.two_results import compare  # takes a moment to import: after the words are known to be right

        found = compare(a.store, b.store)
        notes = _notes(a, b, found)
        files = _files(a, b, found, options.out, notes)
        damage = [*a.damage, *b.damage]
        for name, content in files.items():
            write_atomically(options.out / name, content)
        for name in FIGURE - files.keys():  # an earlier comparison's
            (options.out / name).unlink(missing_ok=True)
    _tell(a, b, found, notes)
    say(f"wrote {os.path.relpath(options.out / PAGE)}, rows.csv, records.csv and the figure")
    for line in dict.fromkeys(damage):
        say(line, error=True)
    return int(found.differs or bool(damage))


def _refuse_foreign(out: Path) -> None:
    """`ValueError` where there is something in the folder that no comparison has written."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is no folder")
    if any(out.iterdir()) and f'content="{GENERATOR}"' not in _head(out / PAGE):
        raise ValueError(f"--out {out} holds something else than a comparison: name a new folder")


def _head(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(500)
    except (FileNotFoundError, IsADirectoryError):
        return ""


def _notes(a: Results, b: Results, found: Comparison) -> list[str]:
    """What a reader has to know beforehand."""
    notes = []
    if a.identity == b.identity:
        notes.append("A and B are the same results: nothing can differ.")
    for letter, count in zip("AB", found.unlisted, strict=True):
        if count:
            notes.append(
                f"{count} runs of {letter} belong to no row that today's studies declare: only their ids are compared."
            )
    for letter, side in (("A", a), ("B", b)):
        if side.damage:
            notes.append(f"Damaged and left out: {len(side.damage)} of {letter}'s records.")
    return notes


def _files(a: Results, b: Results, found: Comparison, out: Path, notes: Sequence[str]) -> Mapping[str, str | bytes]:
    """What is written, by name."""
    from markupsafe import Markup

    from reports.blocks.style import SIGNS
    from reports.sections import compared
    from reports.write.page import definitions, template, text
    from studies.judge.two_results import WORDS

    ways = _way(a, out), _way(b, out)
    drawing = compared.drawing(found)
    page = template("compare.html.j2").render(
        generator=GENERATOR,
        title="B against A",
        sides=[(letter, f"{side.words}: {len(side.store.records)} records") for letter, side in (("A", a), ("B", b))],
        finding=compared.finding(found),
        notes=notes,
        drawing=drawing,
        rows=compared.rows_table(found, *ways),
        summary=compared.summary_table(found),
        unequal=compared.pairs_table(found, *ways),
        folded=[compared.folded_table(found, *ways, word) for word in ("same runs", "only A", "only B")],
        rules=WORDS,
        defined=definitions([drawing] if drawing else []),
        glyphs=SIGNS,
        endings=ENDINGS,
        style=Markup(text("page.css")),
        script=Markup(text("page.js")),
    )
    drawn = drawing.files(ENDINGS) if drawing else {}
    return {**drawn, "rows.csv": compared.rows_csv(found), "records.csv": compared.records_csv(found), PAGE: page}


def _way(results: Results, out: Path) -> Way:
    """From the page to the records of a folder; git's are no files."""

    def way(identifier: str) -> str:
        if results.commit or identifier not in results.store.records:
            return ""
        path = os.path.relpath(results.store.path(identifier), out.resolve())
        return f"{urllib.parse.quote(Path(path).as_posix())}#"  # the templates take what has a # as it is

    return way


def _tell(a: Results, b: Results, found: Comparison, notes: Sequence[str]) -> None:
    """The comparison in short."""
    from reports.sections import compared
    from reports.write.formats import tell

    out = console()
    for letter, side in (("A", a), ("B", b)):
        say(f"{letter}: {side.words}, {len(side.store.records)} records")
    for note in notes:
        out.print(note)
    tell(compared.summary_table(found))
    rows = compared.short_table(found, MOST_SHOWN)
    if rows.lines:
        tell(rows)
    out.print(compared.finding(found))


if __name__ == "__main__":
    sys.exit(main())
