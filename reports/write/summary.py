"""The summary, which is committed: tables, claims and predictions as Markdown, and the pictures that README.md shows.

Its pages are read on a Git host: they link to each other and to the records alone, never to what is built.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from reports.blocks.figure import Drawing, digest
from reports.blocks.table import Source, Table
from reports.sections import figure1, landing, misprints, others, photographs, recipes
from reports.sections.parts import Report
from reports.write.formats import Link, markdown
from studies.declare.appendix_table1 import NUMBER
from studies.records.store import REPOSITORY, Store
from studies.records.typed import to_json
from studies.tables import studies

FOLDER = "summary"
COMMITTED = REPOSITORY / "reports" / FOLDER
PICTURES = {"table6-quick-full-strips-independent-distance": "png", figure1.SLUG: "svg"}
"""The figures that are committed, each with its format."""

LIST = "pictures.json"


def pages(report: Report, store: Store, folder: Path, whole: bool) -> dict[str, str]:
    """The Markdown pages by name, as they will lie in `folder`; only those of the studies themselves unless `whole`."""
    told = [table for table in report.predictions if table.lines]
    found: dict[str, tuple[str, list[Table]]] = {}
    if whole and report.parts:
        found["README"] = "The report in short", [report.summary.overview]
        found["claims"] = report.summary.claims.title, [report.summary.claims]
        found[misprints.SLUG] = report.summary.wrong.title, [report.summary.wrong]
        found["costs-not-reproduced"] = report.summary.discrepancies.title, [report.summary.discrepancies]
    if whole and told:
        found["predictions"] = "Predictions about the generated data", told
    if whole and report.photographs.told:
        found[photographs.SLUG] = photographs.TITLE, report.photographs.tables
    if whole:
        *shown, _ = report.others  # the background stands on the built page alone
        found[others.SLUG] = others.TITLE, shown
    found[recipes.SLUG] = NUMBER, list(report.recipes)
    for part in report.parts:
        found[part.evidence.study.slug] = part.evidence.study.number, part.tables
    records = Path(os.path.relpath(store.folder / "records", folder.resolve())).as_posix()
    written = {f"{name}.md": markdown(title, tables, _links(name, records)) for name, (title, tables) in found.items()}
    if "README.md" in written:
        title, _, rest = written["README.md"].partition("\n\n")
        answer, first = landing.in_words(landing.landing(report.parts)), report.summary.figure1
        seen = f"\n![{first.caption}]({picture(first)})\n" if first else ""
        written["README.md"] = f"{title}\n\n{answer}\n{rest}{seen}{_index(written)}"
    return written


def _links(page: str, records: str) -> Link:
    """Where a page finds a source: a record by its file, a place of the report by the page of its table."""

    def link(source: Source) -> str:
        if source.target.startswith("https:"):
            return source.target
        if source.target.startswith(f"{others.SLUG}.html#"):
            return f"{others.SLUG}.md" if page != others.SLUG else ""
        if "#" not in source.target:
            return f"{records}/{source.target}.json"
        anchor = source.target.partition("#")[2]
        home = next((slug for slug in studies() if anchor == slug or anchor.startswith(f"{slug}-")), page)
        return f"{home}.md" if home != page else ""

    return link


def _index(names: Iterable[str]) -> str:
    """What lies beside the overview, in words."""
    words = {
        "claims.md": "every claim of the paper, its verdict, and what is missing to decide it",
        "predictions.md": "what generated data were predicted to show, and what they showed",
        f"{photographs.SLUG}.md": "what rows were expected to differ by on photographs, and what came out",
        f"{misprints.SLUG}.md": "printed values that are wrong or inconsistent, worst first, and what shows it",
        "costs-not-reproduced.md": "printed costs that the measured ones do not agree with, and why",
        f"{others.SLUG}.md": "what other projects published: what it says of the paper, and how far to trust it",
        f"{recipes.SLUG}.md": "the recipes",
    }
    lines = "".join(f"- [{name}]({name}): {said}.\n" for name, said in words.items() if name in names)
    return f"\n{lines}\nWritten by `python -m reports.build`; `--check` says what is out of date.\n"


def pinned(report: Report) -> list[Drawing]:
    """The figures whose pictures are committed."""
    return [drawing for drawing in report.drawings if drawing.slug in PICTURES]


def pictures(drawings: Iterable[Drawing], folder: Path) -> dict[str, str | bytes]:
    """The committed pictures and their list, as they will lie in `folder`; one that is as listed is kept.

    The bytes change with the versions of matplotlib and zlib: what is listed is a digest of what a picture shows, and
    one of the file, so that both are held on every machine and nowhere drawn anew without a cause.
    """
    found: dict[str, str | bytes] = {}
    listed = {}
    for drawing in drawings:
        path, ending = folder / picture(drawing), PICTURES.get(drawing.slug, "png")
        content = path.read_bytes() if _as_listed(drawing, folder) else drawing.pictures([ending])[ending]
        found[path.name] = content
        listed[path.name] = {"data": _data(drawing), "file": digest(content)}
    return {**found, LIST: to_json(listed)} if listed else {}


def out_of_date(drawings: Iterable[Drawing], folder: Path) -> list[str]:
    """The names of committed pictures that show other data than these, or are not the file that was written."""
    return [picture(drawing) for drawing in drawings if not _as_listed(drawing, folder)]


def picture(drawing: Drawing) -> str:
    """The name of a figure's committed file."""
    return f"{drawing.slug}.{PICTURES.get(drawing.slug, 'png')}"


def _as_listed(drawing: Drawing, folder: Path) -> bool:
    path, known = folder / picture(drawing), folder / LIST
    if not (path.is_file() and known.is_file()):
        return False
    try:
        listed = json.loads(known.read_bytes())
    except ValueError:
        return False
    return bool(listed.get(path.name) == {"data": _data(drawing), "file": digest(path.read_bytes())})


def _data(drawing: Drawing) -> str:
    """Digest of what a figure shows, whatever draws it."""
    return digest(json.dumps([drawing.caption, drawing.description, drawing.csv]).encode())
