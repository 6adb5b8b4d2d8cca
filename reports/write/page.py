"""The page: one self-contained index.html from the same tables and figures as every other format."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from reports.blocks.figure import Drawing
from reports.blocks.style import GLYPHS, INK, OTHERS_GLYPHS
from reports.blocks.table import Table
from reports.sections import others, reproducibility
from reports.sections.parts import StudyPart, Summary
from studies.declare import appendix_table1 as training
from studies.judge.others import METHOD
from studies.judge.others import RULES as OTHERS_RULES
from studies.judge.verdicts import RULES

TEMPLATES = Path(__file__).parent / "templates"


def render(summary: Summary, studies: Sequence[StudyPart], recipes: Sequence[Table], markdown: str) -> str:
    """The page; `markdown` is the way to the folder of the Markdown pages.

    The recipes, appendix Table 1, stand where the paper has them: after the tables of its main part.
    """
    drawn = [summary.figure1] if summary.figure1 else []
    drawn += [drawing for part in studies for drawing in part.drawings]
    return template("page.html.j2").render(
        summary=summary,
        studies=studies,
        main=[part for part in studies if part.evidence.study.slug.startswith("table")],
        others=[part for part in studies if not part.evidence.study.slug.startswith("table")],
        recipes=recipes,
        markdown=markdown,
        training=training,
        rules=RULES,
        defined=definitions(drawn),
        glyphs=GLYPHS | OTHERS_GLYPHS,
        style=Markup(text("page.css")),
        script=Markup(text("page.js")),
    )


def checklist(tables: Sequence[Table]) -> str:
    """The reproducibility page."""
    return template("reproducibility.html.j2").render(
        title=reproducibility.TITLE,
        checklist=reproducibility.CHECKLIST,
        tables=tables,
        glyphs=GLYPHS,
        script=Markup(text("page.js")),
    )


def elsewhere(tables: Sequence[Table], markdown: str) -> str:
    """The page about what others measured; `markdown` is the way to the folder of the Markdown pages."""
    return template("others.html.j2").render(
        title=others.TITLE,
        method=METHOD,
        rules=OTHERS_RULES,
        tables=tables,
        markdown=markdown,
        glyphs=GLYPHS | OTHERS_GLYPHS,
        script=Markup(text("page.js")),
    )


def template(name: str) -> Template:
    """One of the report's templates."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = inline
    return environment.get_template(name)


def text(name: str) -> str:
    """A file that lies beside the templates."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def inline(drawing: Drawing) -> Markup:
    """A figure for use inside the page, with its words as its name: as SVG, or, of pictures, as WebP."""
    if drawing.photographic:
        data = base64.b64encode(_webp(drawing.pictures["png"])).decode()
        return Markup('<img src="data:image/webp;base64,{}" alt="{}">').format(data, drawing.description)
    # On the page's paper and in the text's colour. What it refers to is among `definitions`, nothing refers to its own
    # ids, and a tenth of a point is as fine as is seen.
    svg = re.sub(r'(id="patch_1"><path [^>]*fill: )#ffffff', r"\1none", _DEFINITIONS.sub("", _compact(drawing.svg)))
    svg = re.sub(r' id="[^"]*"| xmlns:xlink="[^"]*"|xlink:(?=href)', "", svg)
    svg = re.sub(r"\b([1-9]\d*\.\d)\d+", r"\g<1>", svg)
    return Markup(svg.replace("<svg ", Markup('<svg role="img" aria-label="{}" ').format(drawing.description), 1))


def definitions(drawings: Iterable[Drawing]) -> Markup:
    """Every letter, marker and clip of the page's figures, once: matplotlib names each after what it is."""
    found: set[str] = set()
    for drawing in drawings:
        if not drawing.photographic:
            for block in _DEFINITIONS.findall(_compact(drawing.svg)):
                found.update(_DEFINITION.findall(block))
    return Markup("".join(d if f'id="{_LETTER}' in d else re.sub(r"(\.\d\d)\d+", r"\g<1>", d) for d in sorted(found)))


_LETTER = "g-"  # begins the name of every letter
_DEFINITIONS = re.compile(r"<defs>(.*?)</defs>")
_DEFINITION = re.compile(r"<path\b[^>]*/>|<clipPath\b.*?</clipPath>|<style\b.*?</style>")


@cache
def _compact(svg: str) -> str:
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace("DejaVuSans-", _LETTER)
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    return re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", svg))


def _webp(png: bytes) -> bytes:
    """The shorter of what keeps every pixel and of what looks the same."""
    if not png:
        return png
    picture, found = Image.open(io.BytesIO(png)).convert("RGB"), list[bytes]()
    for options in ({"lossless": True}, {"quality": 85}):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", method=6, **options)
        found.append(buffer.getvalue())
    return min(found, key=len)
