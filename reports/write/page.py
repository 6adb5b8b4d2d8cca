"""The pages: a first screen, and one for each table and each question, from the same tables as every other format."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from reports.blocks.figure import Drawing
from reports.blocks.style import INK, SIGNS
from reports.blocks.table import Fold, Table
from reports.sections import landing, misprints, others, photographs, predictions, reproducibility
from reports.sections.parts import Report, StudyPart, VariantPart
from reports.write.cells import cells
from studies.declare import appendix_table1 as training
from studies.declare.subtasks import Subtask
from studies.judge.others import METHOD
from studies.judge.others import RULES as OTHERS_RULES
from studies.judge.tiers import ELSEWHERE
from studies.judge.verdicts import RULES
from studies.plan import programme

RECIPES = "appendix_table1"
MANY = 8  # claims: more are folded away on the page of their table
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
    folds: Sequence[Fold] = ()
    drawings: Sequence[Drawing] = ()

    @property
    def name(self) -> str:
        """Its file."""
        return f"{self.slug}.html"


def pages(
    report: Report, answers: Sequence[Table], plan: Sequence[programme.Line], markdown: str, endings: Sequence[str]
) -> dict[str, str]:
    """Every page but those of runs, by file name; `markdown` is the way to the folder of the Markdown pages.

    A link to a place is one to the page that has it. `endings`: of the files that every figure has.
    """
    sheets, first, figure1 = (
        _sheets(report, markdown),
        landing.landing(report.parts, plan),
        report.summary.figure1,
    )
    common = {
        "bar": _bar(sheets),
        "menu": _menu(report, sheets),
        "glyphs": SIGNS,
        "endings": endings,
        "markdown": markdown,
    }

    def made(name: str, template_name: str, drawn: Iterable[Drawing] = (), **values: Any) -> tuple[str, str]:
        return name, template(template_name).render(here=name, defined=definitions(drawn), **common, **values)

    drawn = [figure1] if figure1 else []
    values = {"landing": first, "summary": report.summary, **_legend(first)}
    found = [made("index.html", "index.html.j2", drawn, **values)]
    for part, topic in zip(report.parts, first.topics, strict=True):
        values = {
            "part": part,
            "opened": [_headed(shown) for shown in part.variants if _open(shown)],
            "many": MANY,
            "folded": _folded(part),
            "subject": topic.subject.removeprefix(part.evidence.study.number.removeprefix("Table ")).strip(),
            "finding": topic.finding,
        }
        found.append(made(f"{topic.slug}.html", "study.html.j2", part.drawings, **values))
    found += [made(sheet.name, "sheet.html.j2", sheet.drawings, sheet=sheet) for sheet in sheets]
    opened, folded = others.folds(report.others)
    found += [
        made(
            _OTHERS,
            "others.html.j2",
            title=others.TITLE,
            lead=others.in_short(),
            method=METHOD,
            rules=OTHERS_RULES,
            tables=opened,
            folds=folded,
        ),
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


def _legend(first: landing.Landing) -> dict[str, list[str]]:
    """The words that the claim map shows, each once."""
    squares = [square for topic in first.topics for square in topic.squares]
    return {
        "shown": list(dict.fromkeys(square.verdict for square in squares)),
        "tried": list(dict.fromkeys(square.tried for square in squares if square.tried)),
    }


Links = list[tuple[str, str]]


def _menu(report: Report, sheets: Sequence[Sheet]) -> Links:
    """The paper's tables in the navigation: pages and their words; the recipes, appendix Table 1, where it has them."""
    studies = [part.evidence.study for part in report.parts]
    names = {f"{study.slug}.html": landing.subject(study.slug, study.number) for study in studies}
    main = [(name, words) for name, words in names.items() if name.startswith("table")]
    recipes = [(sheet.name, sheet.words) for sheet in sheets if sheet.slug == RECIPES]
    return [*main, *recipes, *((name, words) for name, words in names.items() if not name.startswith("table"))]


def _bar(sheets: Sequence[Sheet]) -> Links:
    """The other pages in the navigation."""
    return [
        *((sheet.name, sheet.words) for sheet in sheets if sheet.slug != RECIPES),
        (_OTHERS, "Others' runs"),
        (_CHECKLIST, "Reproducibility"),
        (_RULES, "How to read"),
    ]


@dataclass(frozen=True)
class Group:
    """Variants of a study that are folded away together, each with its heading."""

    words: str
    shown: Sequence[tuple[VariantPart, str]]
    open: bool


def _open(shown: VariantPart) -> bool:
    """Whether a variant's numbers stand open: of photographs and generated images, once there is something to compare.

    Those of the paper's protocol are in the main table, sub-tasks of the generated data are folded.
    """
    variant = shown.variant
    small = variant.telling and not variant.comparable and not isinstance(variant.panel, Subtask)
    return small and len(variant.study.trained) > 1  # one row alone says nothing there


def _headed(shown: VariantPart) -> tuple[VariantPart, str]:
    variant = shown.variant
    said = [variant.progress if variant.planned else f"no recipe for {variant.panel.title} yet"]
    if shown.predicted:
        said.insert(0, f"{shown.outcomes.count('supported')} of {len(shown.outcomes)} predictions came true")
    return shown, f"Protocol {variant.name}: {'; '.join(said)}"


_FOLDS = {
    "paper": "The paper's protocol, run by run",
    "idea": "Generated data: sub-tasks about the paper's ideas",
    "control": "Generated data: controls, with the cue removed or in every pixel",
    "learning rate": "Generated data: other learning rates",
    "": "Other runs",
}


def _folded(part: StudyPart) -> list[Group]:
    """What is folded away, by kind; sub-tasks about ideas are open where the study has nothing else."""
    kinds: dict[str, list[VariantPart]] = {kind: [] for kind in _FOLDS}
    for shown in part.variants:
        if not _open(shown):
            panel = shown.variant.panel
            kind = panel.purpose if isinstance(panel, Subtask) else "paper" if shown.variant.comparable else ""
            kinds[kind].append(shown)
    alone = not part.main and not any(map(_open, part.variants))
    return [
        Group(f"{_FOLDS[kind]} ({_how_many(members)})", [_headed(shown) for shown in members], alone and kind == "idea")
        for kind, members in kinds.items()
        if members
    ]


def _how_many(members: Sequence[VariantPart]) -> str:
    finished = sum(len(shown.variant.finished) for shown in members)
    planned = sum(shown.variant.planned for shown in members)
    outcomes = [word for one in members for word in one.outcomes]
    true = f"{outcomes.count('supported')} of {len(outcomes)} predictions came true; " if outcomes else ""
    return f"{true}{finished} of {planned} runs finished"


def _files(markdown: str, slug: str, *endings: str, more: str = "") -> Markup:
    """The links to a page in other formats."""
    links = [Markup('<a href="{}/{}.md">Markdown</a>').format(markdown, slug)]
    links += [Markup('<a href="{}.{}">{}</a>').format(slug, ending, _FORMATS[ending]) for ending in endings]
    return Markup("As {}.{}").format(Markup(", ").join(links), Markup(more))


def _sheets(report: Report, markdown: str) -> list[Sheet]:
    """The pages of tables alone, those without any left out."""
    summary, files = report.summary, functools.partial(_files, markdown)
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
            summary.runs.slug,
            "Every run",
            "Runs",
            [summary.runs],
            Markup("All that is known of each is in <code>results/runs.csv</code>."),
        ),
        Sheet(
            misprints.SLUG,
            "Wrong or inconsistent prints",
            "Wrong prints",
            [summary.wrong],
            files(misprints.SLUG, "tex", "csv"),
            () if summary.wrong.lines else ("Nothing here speaks against a printed value.",),
            [Fold(f"All costs that do not reproduce: {summary.discrepancies.caption[0]}", (summary.discrepancies,))],
        ),
    ]
    return [*sheets, *_on_other_data(report, files)]


def _on_other_data(report: Report, files: Callable[..., Markup]) -> list[Sheet]:
    """The pages about photographs and generated images, where there is something to show."""
    sheets = []
    if report.photographs.told:
        lead = (
            "What the ablations do on 367 street images, trained from scratch: it says how rows compare there, and "
            "decides nothing about the paper.",
        )
        shown = report.photographs
        sheets.append(
            Sheet(
                "photographs",
                photographs.TITLE,
                "Photographs",
                [shown.glance],
                files("photographs"),
                lead,
                shown.folds,
                shown.drawings,
            )
        )
    if report.predictions:
        told = files("predictions", "tex", "csv")
        every, *more = report.predictions
        folds = [*predictions.folds(every), *(Fold(table.title, (table,)) for table in more if table.lines)]
        glance = predictions.at_a_glance(every)
        sheets.append(Sheet("predictions", "Generated data", "Generated data", glance, told, (), folds))
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


_ID = re.compile(r' id="([^"]+)"')
_PLACE = re.compile(r'href="#([^"]+)"')
_OTHERS, _CHECKLIST, _RULES = f"{others.SLUG}.html", f"{reproducibility.SLUG}.html", "how-to-read.html"
_FORMATS = {"tex": "LaTeX", "csv": "CSV"}


def template(name: str) -> Template:
    """One of the report's templates."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    """One for all pages: each template is compiled once."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": inline, "cells": cells}
    return environment


def text(name: str) -> str:
    """A file that lies beside the templates."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def inline(drawing: Drawing) -> Markup:
    """A figure for use inside the page, with its words as its name: as SVG, or, of pictures, as WebP."""
    if drawing.photographic:
        data = base64.b64encode(drawing.pictures(["webp"])["webp"]).decode()
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


@functools.cache
def _compact(svg: str) -> str:
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace("DejaVuSans-", _LETTER)
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    return re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", svg))
