"""A report made in a test, and what a browser would find in it. The records it is made of: tests/records.py."""

from __future__ import annotations

import csv
import html.parser
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

from reports import build
from reports.blocks import figure

PAGES = {f"{name}.html" for name in ("index", "appendix_table1", "others", "reproducibility", "how-to-read")}
OF_CLAIMS = {f"{name}.html" for name in ("claims", "overview", "every-run", "wrong-prints", "photographs")}
ALWAYS = {*PAGES, "page.css", "page.js", "figures.json", "runs.json", "recipes.csv", "others.csv"}
ALWAYS |= {f"reproducibility{name}" for name in (".html", ".md", "-choices.csv", "-compute.csv")}
"""What every report has, and what one about any study has."""


def undrawn() -> AbstractContextManager[object]:
    """In it figures are blank."""
    blank = {"svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "png": b"", "pdf": b"", "webp": b""}
    return mock.patch.object(figure.Drawing, "pictures", lambda drawing, endings: {e: blank[e] for e in endings})


def render(out: Path, *studies: str, drawn: bool = False) -> dict[str, bytes]:
    """The files of a report. Figures, most of its time, are `drawn` for those alone who look at them."""
    with nullcontext() if drawn else undrawn():
        assert build.main([*studies, "--out", str(out)]) == 0
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name[0] != ".")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def whole(files: dict[str, bytes]) -> str:
    """Every page but those of runs, one after another."""
    return "\n".join(files[name].decode() for name in sorted(files) if name.endswith(".html") and "/" not in name)


def lines_of(files: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(files[name].decode().splitlines()))


class Page(html.parser.HTMLParser):
    """What a browser would find: ids, links, tables; unbalanced tags are an error."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.attributes.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag
