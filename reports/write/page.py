"""The pages: a first screen, and one for each table and each question, from the same tables as every other format."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from reports.blocks.figure import Drawing
from reports.blocks.style import GLYPHS, INK, OTHERS_GLYPHS
from reports.blocks.table import Table
from reports.sections import landing, others, reproducibility
from reports.sections.parts import Report, StudyPart, VariantPart
from studies.declare import appendix_table1 as training
from studies.declare.subtasks import Subtask
from studies.judge.others import METHOD
from studies.judge.others import RULES as OTHERS_RULES
from studies.judge.tiers import ELSEWHERE
from studies.judge.verdicts import RULES
from studies.plan import programme

RECIPES = "appendix_table1"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Sheet:
    """A page of tables: `files` are the links to the same in other formats."""

    slug: str
    title: str
    words: str  # in the navigation
    tables: Sequence[Table]
    files: Markup
    lead: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its file."""
        return f"{self.slug}.html"


def pages(report: Report, answers: Sequence[Table], plan: Sequence[programme.Line], markdown: str) -> dict[str, str]:
    """Every page but those of runs, by file name; `markdown` is the way to the folder of the Markdown pages.

    A link to a place is one to the page that has it.
    """
    sheets, first, figure1 = (
        _sheets(report, markdown),
        landing.landing(report.parts, plan),
        report.summary.figure1,
    )
    common = {"bar": _bar(report, sheets), "glyphs": GLYPHS | OTHERS_GLYPHS, "markdown": markdown}

    def made(name: str, template_name: str, drawn: Iterable[Drawing] = (), **values: Any) -> tuple[str, str]:
        return name, template(template_name).render(here=name, defined=definitions(drawn), **common, **values)

    squares = [square for topic in first.topics for square in topic.squares]
    legend = {
        "shown": list(dict.fromkeys(square.verdict for square in squares)),
        "tried": list(dict.fromkeys(square.tried for square in squares if square.tried)),
    }
    drawn = [figure1] if figure1 else []
    found = [made("index.html", "index.html.j2", drawn, landing=first, summary=report.summary, **legend)]
    for part, topic in zip(report.parts, first.topics, strict=True):
        values = {"part": part, "variants": _arranged(part), "subject": topic.subject, "finding": topic.finding}
        found.append(made(f"{topic.slug}.html", "study.html.j2", part.drawings, **values))
    found += [made(sheet.name, "sheet.html.j2", sheet=sheet) for sheet in sheets]
    found += [
        made(_OTHERS, "others.html.j2", title=others.TITLE, method=METHOD, rules=OTHERS_RULES, tables=report.others),
        made(
            _CHECKLIST,
            "reproducibility.html.j2",
            title=reproducibility.TITLE,
            checklist=reproducibility.CHECKLIST,
            tables=answers,
        ),
        made(_RULES, "how-to-read.html.j2", rules=RULES, elsewhere=ELSEWHERE),
    ]
    return _linked(dict(found))


def _bar(report: Report, sheets: Sequence[Sheet]) -> list[tuple[str, str]]:
    """The navigation: pages and their words; the recipes, appendix Table 1, where the paper has them."""
    studies = [part.evidence.study for part in report.parts]
    names = {f"{study.slug}.html": landing.subject(study.slug, study.number) for study in studies}
    main = {name: words for name, words in names.items() if name.startswith("table")}
    return [
        *main.items(),
        *((sheet.name, sheet.words) for sheet in sheets if sheet.slug == RECIPES),
        *((name, words) for name, words in names.items() if name not in main),
        *((sheet.name, sheet.words) for sheet in sheets if sheet.slug != RECIPES),
        (_OTHERS, "What others measured"),
        (_CHECKLIST, "Reproducibility"),
        (_RULES, "How to read"),
    ]


def _arranged(part: StudyPart) -> list[tuple[VariantPart, str, bool]]:
    """Each variant of a study with its heading, and whether it is folded away.

    Open: the paper's protocol and photographs, once there is something to compare. Generated data are folded, but where
    nothing else was measured: there a sub-task about the paper's idea is open.
    """
    telling = [shown for shown in part.variants if shown.variant.telling]
    photographs = [shown for shown in telling if not isinstance(shown.variant.panel, Subtask)]
    found = []
    for shown in part.variants:
        variant = shown.variant
        idea = isinstance(variant.panel, Subtask) and variant.panel.purpose == "idea"
        open_ = shown in photographs or (not photographs and shown in telling and idea)
        progress = variant.progress if variant.planned else f"no recipe for {variant.panel.title} yet"
        found.append((shown, f"Protocol {variant.name}: {progress}", not open_))
    return found


def _sheets(report: Report, markdown: str) -> list[Sheet]:
    """The pages of tables alone, those without any left out."""
    summary = report.summary

    def files(slug: str, *endings: str, more: str = "") -> Markup:
        links = [Markup('<a href="{}/{}.md">Markdown</a>').format(markdown, slug)]
        links += [
            Markup('<a href="{}.{}">{}</a>').format(slug, ending, name)
            for ending in endings
            for name in [_FORMATS[ending]]
        ]
        return Markup("As {}.{}").format(Markup(", ").join(links), Markup(more))

    everything = Markup(' Every value of every recipe as <a href="recipes.csv">CSV</a>.')
    sheets = [
        Sheet(
            RECIPES,
            training.NUMBER,
            "A1 Recipes",
            report.recipes,
            files(RECIPES, "tex", "csv", more=everything),
            (training.CAPTION,),
        ),
    ]
    if not report.parts:
        return sheets
    sheets += [
        Sheet("claims", "Every claim", "Claims", [summary.claims], files("claims", "tex", "csv")),
        Sheet("overview", "Every table at a glance", "Overview", [summary.overview], Markup("")),
        Sheet(
            summary.discrepancies.slug,
            "Costs that do not reproduce",
            "Wrong costs",
            [summary.discrepancies],
            files(summary.discrepancies.slug, "tex", "csv"),
            () if summary.discrepancies.lines else summary.discrepancies.caption[:1],
        ),
    ]
    if report.photographs:
        lead = (
            "What the ablations do on 367 street images, trained from scratch: it says how rows compare there, and "
            "decides nothing about the paper.",
        )
        sheets.append(
            Sheet("photographs", "On photographs", "Photographs", report.photographs, files("photographs"), lead)
        )
    if report.predictions:
        sheets.append(
            Sheet(
                "predictions",
                "Generated data",
                "Generated data",
                report.predictions,
                files("predictions", "tex", "csv"),
            )
        )
    return sheets


def _linked(found: dict[str, str]) -> dict[str, str]:
    """The pages with every link to a place of another page made one to that page."""
    own = {name: set(_ID.findall(text)) for name, text in found.items()}
    places = {place: name for name in reversed(found) for place in own[name]}

    def link(name: str) -> Callable[[re.Match[str]], str]:
        def made(found: re.Match[str]) -> str:
            place = found[1]
            return found[0] if place in own[name] or place not in places else f'href="{places[place]}#{place}"'

        return made

    return {name: _PLACE.sub(link(name), text) for name, text in found.items()}


_ID = re.compile(r'\bid="([^"]+)"')
_PLACE = re.compile(r'href="#([^"]+)"')
_OTHERS, _CHECKLIST, _RULES = f"{others.SLUG}.html", f"{reproducibility.SLUG}.html", "how-to-read.html"
_FORMATS = {"tex": "LaTeX", "csv": "CSV"}


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
