"""The page: one self-contained index.html from the same tables and figures as every other format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from reports.drawing import Drawing
from reports.evidence import Evidence, Variant
from reports.style import GLYPHS, INK
from reports.table import Table
from reports.verdicts import RULES
from studies import recipes as training

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class VariantPart:
    """What the page shows of one variant."""

    variant: Variant
    accuracy: Table
    ham: Table
    claims: Table
    drawings: tuple[Drawing, ...]
    predicted: tuple[Table, ...] = ()  # of a sub-task of the generated data
    distances: Drawing | None = None


@dataclass(frozen=True)
class StudyPart:
    """What the page shows of one study."""

    evidence: Evidence
    costs: tuple[Table, ...]  # one per dataset
    bars: tuple[Drawing, ...]  # the same as figures, where there is something
    cost_claims: Table
    scaling: tuple[tuple[Table, Drawing], ...]  # exponents and their figure; one per platform
    variants: tuple[VariantPart, ...]

    @property
    def tables(self) -> list[Table]:
        """Every table of the study in the order of the page, those without lines left out."""
        return self.tables_of(self.variants)

    def tables_of(self, variants: Iterable[VariantPart]) -> list[Table]:
        """The tables about costs and about these variants."""
        tables = [*self.costs, *(table for table, _ in self.scaling), self.cost_claims]
        for part in variants:
            tables += [part.accuracy, part.ham, part.claims, *part.predicted]
        return [table for table in tables if table.lines]

    @property
    def ham(self) -> bool:
        """Whether any weights were tested with several seeds of Ham's bases."""
        return any(part.ham.lines for part in self.variants)

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure of the study."""
        return [*self.bars, *(drawing for _, drawing in self.scaling)] + [
            d for part in self.variants for d in (*part.drawings, *([part.distances] if part.distances else []))
        ]


@dataclass(frozen=True)
class Summary:
    """What the page shows before the studies."""

    overview: Table
    claims: Table
    discrepancies: Table
    figure1: Drawing | None


def render(summary: Summary, studies: Sequence[StudyPart], recipes: Sequence[Table], provenance: Table) -> str:
    """The page. The recipes, appendix Table 1, stand where the paper has them: after the tables of its main part."""
    return template("page.html.j2").render(
        summary=summary,
        studies=studies,
        main=[part for part in studies if part.evidence.study.slug.startswith("table")],
        others=[part for part in studies if not part.evidence.study.slug.startswith("table")],
        recipes=recipes,
        training=training,
        provenance=provenance,
        rules=RULES,
        glyphs=GLYPHS,
        style=Markup(text("page.css")),
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
    """A figure's SVG for use inside the page: ids of its own, the text's colour, the figure's words as its name."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{drawing.slug}-", svg).replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Markup(svg.replace("<svg ", Markup('<svg role="img" aria-label="{}" ').format(drawing.description), 1))
