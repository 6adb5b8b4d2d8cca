"""`python -m reports.build [STUDY...]`: from declarations and records to tables, figures, a page and its summary.

Exit codes: 0 fine, 1 a file is damaged (all others are in the report), or --check found something out of date, 2 usage,
5 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segnext.door import Parser, command, console, let_lie, say, typed_path, uncollected
from studies.records import attempts
from studies.records.parallel import beside
from studies.records.store import REPOSITORY, Store, of_checkout
from studies.records.typed import tell
from studies.tables import studies, study

if TYPE_CHECKING:
    from rich.console import Console

    from reports.sections.parts import Report, StudyPart

RECIPES = "appendix_table1"  # the paper's table that is no study: it prints recipes
OUT = REPOSITORY / "reports" / "out"


@command("python -m reports.build")
@uncollected()
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    chosen = [study(name) for name in dict.fromkeys(options.study) if name != RECIPES]
    chosen = chosen if options.study else list(studies().values())
    if options.out == OUT:
        of_checkout("reports/out", "name --out DIR")
    from reports import compose
    from reports.write import summary  # take seconds to import: after the arguments are known to be right
    from reports.write.files import put
    from studies.facts import files

    store = Store()
    committed = store.folder == REPOSITORY / "results"
    own = committed and options.out.resolve() == OUT
    folder = summary.COMMITTED if own else options.out / summary.FOLDER
    tables = (own or not committed) and not options.check
    whole = not (options.study and own)  # of a part of the studies the repository's claims would be a part, too
    try:
        remembered = None if options.check else options.out
        seen = files.lying(store) if tables else {}
        # Of many records other processes make what they can. What they find damaged, all studies gather here as well.
        many = tables and len(chosen) == len(studies()) and len(store.records) >= files.MANY
        with beside(lambda: files.Apart.of(store), worth=many) as begun:
            report = compose.read(chosen, store, remembered, logs=options.logs and not options.check)
            apart = begun() if many else None
        if many:
            store.forget_digests()
        short: dict[str, str | bytes] = dict(summary.pages(report, store, folder, whole))
        if options.check:
            return max(_check(report, store, folder, short, whole), tell(store.damage))
        gathered = {part.evidence.study.slug: part.evidence for part in report.parts}
        with beside(lambda: files.Ready.of(store, gathered, apart), worth=many) as ready:
            made = compose.pages(report, store, options.out, folder, options.formats)
            pinned = summary.pinned(report) if whole else []
            short = {} if own and options.logs else short | summary.pictures(pinned, folder)
            has = files.Made(seen, ready)
            derived = [*attempts.write(store, report.lost), *files.write(store, has)] if tables else []
        written = {options.out / name: content for name, content in made.items()}
        written |= {folder / name: content for name, content in short.items()}
        for path, content in written.items():
            put(path, content)
        of_runs = compose.write_run_pages(report, store, options.out, logs=options.logs)
    except (ValueError, OSError) as error:
        say(error, error=True)
        return 1
    _tell(report, derived, [*written, *of_runs], options.out)
    let_lie(report, store, made, written)
    return tell(store.damage)


def _check(report: Report, store: Store, folder: Path, pages: Mapping[str, str | bytes], whole: bool) -> int:
    """Say what of the summary and of results/ is not what the records give; the exit code."""
    from reports.write import summary
    from reports.write.files import holds
    from studies.facts import files

    derived = files.derived(store)
    expected = {**attempts.derived(store, report.lost), **{folder / name: content for name, content in pages.items()}}
    drawings = summary.pinned(report) if whole else []
    wrong = [file.path for file in derived if not file.current()]
    wrong += [path for path, content in expected.items() if not holds(path, content)]
    wrong += [folder / name for name in summary.out_of_date(drawings, folder)]
    told = [f"{os.path.relpath(path)}: out of date; python -m reports.build writes it" for path in wrong]
    pictures = {folder / name for name in (*map(summary.picture, drawings), summary.LIST)}
    left = {path for path in folder.rglob("*") if path.is_file()} - {*expected, *pictures} if whole else set()
    told += [f"{os.path.relpath(path)}: no part of the summary; delete it" for path in sorted(left)]
    count = len(derived) + len(expected) + len(drawings)
    say("\n".join(told) or f"{count} files are up to date", error=bool(told))
    return 1 if told else 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m reports.build",
        description="Render what is declared and measured, partial or not: a page, LaTeX, CSV, figures, and "
        "the summary in Markdown, which is committed.",
        epilog="Reads results/ (or $SEGNEXT_RESULTS) and first rebuilds the CSV tables there. The summary of the "
        "repository's own results lies in reports/summary/, every other one in DIR/summary/. With --out nothing of the "
        "repository is touched. "
        "Exit codes: 0 fine, 1 a damaged file (all others are in the report) or an output out of date (--check), "
        "2 usage, 5 stopped by Ctrl-C.",
    )
    parser.add_argument(
        "study",
        nargs="*",
        metavar="STUDY",
        help=f"a study, such as table7, or {RECIPES}, the recipes, which every report has (default: every study)",
    )
    parser.add_argument(
        "--out", type=typed_path, default=OUT, metavar="DIR", help="where to write (default: reports/out)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit 1 where a file of the summary, or a table of results/, is not what the records give",
    )
    parser.add_argument(
        "--formats",
        type=_formats,
        default=("svg",),
        metavar="svg,pdf,png",
        help="of the figures' files (default: svg, which the pages need)",
    )
    parser.add_argument(
        "--logs",
        action="store_true",
        help="also which runs are running or queued, and on the pages of runs their attempts, nodes and ends of logs, "
        "from runs/: for oneself, so the repository's summary stays as it is",
    )
    return parser


def _formats(text: str) -> tuple[str, ...]:
    """`svg,pdf`: always with SVG, which the pages hold."""
    from reports.blocks.figure import FORMATS

    asked = {"svg", *filter(None, (word.strip() for word in text.split(",")))}
    if wrong := sorted(asked - set(FORMATS)):
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no format of a figure; there are: {', '.join(FORMATS)}")
    return tuple(ending for ending in FORMATS if ending in asked)


def _tell(report: Report, derived: Sequence[Path], written: Iterable[Path], out_folder: Path) -> None:
    """One study in full, several in a line each, the recipes where they alone were asked for; and where to look."""
    from reports.sections.landing import landing
    from reports.sections.overview import in_short
    from reports.write.formats import tell as tell_table

    parts, out = report.parts, console()
    if len(parts) > 1:
        tell_table(in_short(report.summary.overview) if sys.stdout.isatty() else report.summary.overview)
    for part in parts if len(parts) == 1 else ():
        _tell_study(out, part)
    for table in () if parts else report.recipes:
        tell_table(table)
    folders = Counter(path.parent for path in (*derived, *written))
    for folder, count in folders.items():
        out.print(f"wrote {count} file{'s' if count > 1 else ''} in {os.path.relpath(folder)}/")
    for sentence in landing(parts).headline if parts else ():
        out.print(sentence)
    out.print(f"open {os.path.relpath(out_folder / 'index.html')}")


def _tell_study(out: Console, part: StudyPart) -> None:
    """A terminal sees a study's main table, which is one of the page's many; a pipe gets all of them."""
    from reports.write.formats import in_brief
    from reports.write.formats import tell as tell_table

    out.print(part.evidence.study.number)
    every = part.tables_of([p for p in part.variants if p.variant.finished or p.variant.imported])
    for table in map(in_brief, part.main) if sys.stdout.isatty() else every:
        tell_table(table)
    for shown in part.variants:
        variant = shown.variant
        out.print(f"protocol {variant.name}: {variant.progress}")


if __name__ == "__main__":
    sys.exit(main())
