"""What others measured: `python -m studies.published [STUDY[/ROW]]` lists it, `... add STUDY/ROW ...` adds a number.

Numbers are in studies/declare/published.csv, one per line with its source. `counts` says on which of them the report's
levels and claims rest; `--background` also lists numbers that never count.
Exit codes: 0 fine, 2 usage, or a line that is refused: nothing is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from segnext.door import Column, Parser, command, print_json, say, show_table, typed_path
from segnext.files import write_atomically
from studies.declare import published
from studies.declare.published import Published
from studies.judge import others
from studies.tables import studies, study

COLUMNS = tuple(map(Column, ("id", "row", "dataset", "metric", "value", "n", "kind", "counts", "source", "date")))
NARROW = (  # of a study, for a terminal
    Column("id"),
    Column("row", folds=True),
    Column("measured", folds=True),
    Column("value", right=True),
    Column("n", right=True, spare=1),
    Column("kind", spare=2),
    Column("counts"),
    Column("source", folds=True),
    Column("date", spare=3),
)


@command("python -m studies.published")
def main(arguments: Sequence[str] | None = None) -> int:
    """List numbers or, if the first word is `add`, add one; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["add"]:
        return _add(_addition().parse_args(words[1:]))
    about, details = __doc__.split("\n\n")
    parse = Parser(prog="python -m studies.published", description=about, epilog=details)
    parse.add_argument("selector", nargs="?", metavar="STUDY[/ROW]", help="a table or a row (default: all)")
    parse.add_argument("--background", action="store_true", help="also list numbers that never count")
    parse.add_argument("--json", action="store_true", help="as JSON, every column")
    _file(parse)
    options = parse.parse_args(words)
    lines = checked(options.file)
    if options.selector:
        slug, row = _selected(options.selector)
        lines = tuple(line for line in lines if line.study == slug and row in ("", line.row))
    shown = [line for line in lines if options.background or line.role == "evidence"]
    if options.json:
        print_json([dataclasses.asdict(line) for line in shown])
        return 0
    show_listing(shown)
    left = len(lines) - len(shown)
    say(f"{len(shown)} numbers" + (f"; {left} more are background (--background)" if left else ""))
    return 0


def show_listing(lines: Sequence[Published], title: str = "") -> None:
    """Print published numbers: a table for a pipe; for a terminal one for each study, which is narrower."""
    if title:
        say(title)
    rows = [(line, _listed(line)) for line in lines]
    if not sys.stdout.isatty():
        show_table(COLUMNS, [[*row[:2], line.dataset, line.metric, *row[3:]] for line, row in rows])
        return
    for slug in dict.fromkeys(line.study for line in lines):
        own = [[row[0], row[1].removeprefix(f"{slug}/"), *row[2:]] for line, row in rows if line.study == slug]
        show_table(NARROW, own, slug or "of no table")


def _listed(line: Published) -> list[str]:
    row = f"{line.study}/{line.row}" if line.study and line.row else line.model
    kind = line.kind + ("" if line.statistic == "value" else f", {line.statistic}")
    n = "" if line.n is None else str(line.n)
    counts = "yes" if others.counts(line) else line.role if line.role == "background" else "apart"
    measured = f"{line.dataset} {line.metric}"
    return [line.id, row, measured, f"{line.value:g}", n, kind, counts, line.source, line.date]


def checked(path: Path) -> tuple[Published, ...]:
    """The lines of a file, checked against the declarations. Raises `ValueError` for a damaged or wrong line."""
    lines = published.read(path)
    published.check(lines, studies())
    return lines


def _addition() -> Parser:
    parse = Parser(
        prog="python -m studies.published add",
        description="Add a number that others published. It is checked against the declarations and written completely "
        "or not at all.",
        epilog="python -m studies.published add table9/t --metric miou_ss --value 41.5 --kind retrained --source "
        '"a project" --where "README at 0123abc" --date 2026-01-31 --framework "mmsegmentation 1.x" --tested aligned',
    )
    parse.add_argument("row", metavar="STUDY/ROW", help="what it is about")
    parse.add_argument("--metric", required=True, help="such as miou_ss, miou_ms, top1, params_m, gflops")
    parse.add_argument("--value", required=True, help="as printed there")
    parse.add_argument("--kind", required=True, choices=tuple(published.KINDS), help="how it came about")
    parse.add_argument("--source", required=True, help="the project, by one name")
    parse.add_argument("--where", required=True, help="the place in it, with its version")
    parse.add_argument("--date", required=True, help="2023, 2023-02 or 2023-02-14")
    parse.add_argument("--framework", required=True, help="with its version")
    parse.add_argument("--dataset", default="", help="default: the table's first")
    parse.add_argument("--split", default="val", help="default: val; of a cost its input size, 512x512")
    parse.add_argument("--model", default="", help="in the source's words (default: the row's name)")
    parse.add_argument("--n", default="", help="number of trainings behind it, if stated")
    parse.add_argument("--sd", default="", help="their standard deviation")
    parse.add_argument("--statistic", default="value", choices=tuple(published.STATISTICS))
    parse.add_argument("--who", default="", help="default: the source")
    parse.add_argument("--address", default="", help="a public address")
    parse.add_argument("--tested", default="", choices=tuple(published.TESTS), help="how images were cut or aligned")
    parse.add_argument("--differs", default="", help="what differs from the paper's protocol")
    parse.add_argument("--quality", default="verified", choices=tuple(published.QUALITIES))
    parse.add_argument("--weights", default="", metavar="NAME", help="one name for one set of weights")
    parse.add_argument("--superseded", default="", metavar="NAME", help="the weights that replaced these")
    parse.add_argument("--related", action="store_true", help="the source is not independent of the paper's authors")
    parse.add_argument("--note", default="")
    parse.add_argument("--background", action="store_true", help="keep it without counting it")
    _file(parse)
    return parse


def _file(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("--file", type=typed_path, default=published.PATH, help="another file of this kind")


def _add(options: argparse.Namespace) -> int:
    slug, row = _selected(options.row)
    if not row:
        raise ValueError(f"{options.row}: name a row, as in {slug}/{study(slug).rows[0].slug}")
    with _locked(options.file):
        lines = checked(options.file)
        line = _line(options, slug, row, lines)
        try:
            added = published.typed(line)
            published.check([*lines, added], studies())
        except ValueError as error:
            raise ValueError(f"nothing was written: {error}") from None
        text = options.file.read_text(encoding="utf-8")
        write_atomically(options.file, text + ("" if text.endswith("\n") else "\n") + published.written(line))
    say(f"{added.id}: {added.words}")
    counts = "counts" if others.counts(added) else "is shown apart, and counts towards no level or claim"
    say(f"written to {os.path.relpath(options.file)}; it {counts}; python -m reports.build shows it")
    return 0


def _line(options: argparse.Namespace, slug: str, row: str, lines: Sequence[Published]) -> dict[str, str]:
    declared, panels = study(slug), [panel.dataset for panel in study(slug).panels]
    dataset = options.dataset or (panels[0] if panels else "")
    model = options.model or published.row_of(declared, row).label
    weights = "/".join(
        re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in (options.source, model, dataset, options.date)
    )
    related = options.related or any(line.source == options.source and not line.independent for line in lines)
    known = max((int(line.id[1:]) for line in lines if re.fullmatch(r"p\d+", line.id)), default=0)
    background = options.background or options.kind == "copied"
    return {
        **{name: getattr(options, name, "") for name in published.COLUMNS},
        "id": f"p{known + 1:03d}",
        "role": "background" if background else "evidence",
        "study": slug,
        "row": row,
        "model": model,
        "dataset": dataset,
        "independent": "no" if related else "yes",
        "weights_id": options.weights or weights,
        "who": options.who or options.source,
    }


def _selected(text: str) -> tuple[str, str]:
    """The study and the row ("" for none) in a selector. Raises `ValueError` for what is not declared."""
    slug, _, row = text.partition("/")
    if "@" in text:
        raise ValueError(f"{text}: what others published has no seed; name STUDY/ROW")
    declared = study(slug)
    if row:
        published.row_of(declared, row)
    return slug, row


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock while a number is added, so that another `add` waits."""
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
