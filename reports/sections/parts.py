"""What a report shows of a study and of each of its variants: the sections' tables and figures, put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.blocks.figure import Drawing
from reports.blocks.table import Table
from reports.sections.main_table import Missing
from reports.sections.photographs import Photographs
from studies.facts.gather import Evidence, Variant
from studies.records.attempts import LostAttempt
from studies.records.schema import ShortcutRecord


@dataclass(frozen=True)
class VariantPart:
    """What the page shows of one variant."""

    variant: Variant
    accuracy: Table
    ham: Table
    claims: Table
    drawings: tuple[Drawing, ...]
    heat: Table
    predicted: tuple[Table, ...] = ()  # of a sub-task of the generated data
    distances: Drawing | None = None

    @property
    def outcomes(self) -> list[str]:
        """The verdict on every prediction of a sub-task."""
        return [str(line.cells[-2].values["outcome"]) for table in self.predicted[:1] for line in table.lines]


@dataclass(frozen=True)
class StudyPart:
    """What the page shows of one study."""

    evidence: Evidence
    main: tuple[Table, ...]  # printed, ours, others' and the verdict; one per dataset
    missing: Sequence[Missing]
    claims: Table  # every claim of the study with all that is said of it
    costs: tuple[Table, ...]  # one per dataset
    bars: tuple[Drawing, ...]  # the same as figures, where there is something
    cost_claims: Table
    scaling: tuple[tuple[Table, Drawing], ...]  # exponents and their figure; one per platform
    frames: Table
    variants: tuple[VariantPart, ...]

    @property
    def tables(self) -> list[Table]:
        """Every table of the study in the order of the page, those without lines left out."""
        return self.tables_of(self.variants)

    def tables_of(self, variants: Iterable[VariantPart]) -> list[Table]:
        """The tables about costs and about these variants."""
        tables = [*self.main, *self.costs, *(table for table, _ in self.scaling), self.frames, self.cost_claims]
        for part in variants:
            tables += [part.accuracy, part.ham, part.claims, *part.predicted, part.heat]
        return [table for table in tables if table.lines]

    def outcomes(self, protocol: str) -> list[str]:
        """The verdict on every prediction of a protocol's sub-tasks, those cut short left out."""
        shown = [part for part in self.variants if part.predicted and part.variant.full]
        return [word for part in shown if part.variant.protocol.name == protocol for word in part.outcomes]

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
    wrong: Table  # printed values that something stands against
    discrepancies: Table
    figure1: Drawing | None
    shortcuts: Table  # of the generated data
    runs: Table  # every finished one


@dataclass(frozen=True)
class Report:
    """Everything that is shown, judged and arranged in tables; nothing of it is drawn or written yet."""

    parts: Sequence[StudyPart]
    summary: Summary
    predictions: Sequence[Table]  # all of them with their outcomes, and the shortcut probes; none without a sub-task
    photographs: Photographs  # what was expected of them, and what came out
    recipes: Sequence[Table]
    others: Sequence[Table]  # what other projects published
    probes: Sequence[ShortcutRecord]
    lost: Sequence[LostAttempt]  # of runs without a record

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure."""
        figure1 = self.summary.figure1
        return (
            [drawing for part in self.parts for drawing in part.drawings]
            + ([figure1] if figure1 else [])
            + [*self.photographs.drawings]
        )
