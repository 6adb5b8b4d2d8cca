"""Costs that do not reproduce: every printed cost that the measured one does not agree with, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.blocks.table import METRICS, Cell, Column, Line, Source, Table, number
from reports.sections.tables import as_printed, cost_slug, cost_verdict
from studies.declare.study import Panel, Reported, Row, Study
from studies.facts.gather import UNITS, Evidence
from studies.judge import verdicts

SLUG = "costs-not-reproduced"


def discrepancies_table(everything: Sequence[Evidence]) -> Table:
    """One line per printed cost that differs from the measured one, with the row's reason or `unexplained`."""
    columns = (
        Column("Row", align="text"),
        Column("Table", align="left"),
        Column("Dataset", align="left"),
        Column("Metric", align="left"),
        Column("Printed"),
        Column("Measured"),
        Column("Difference"),
        Column("Why", align="text"),
    )
    lines = _once([_line(evidence, found) for evidence in everything for found in differing(evidence)])
    counted = [verdict for evidence in everything for verdict in cost_verdicts(evidence)]
    caption = (
        f"{len(lines)} of the {len(counted) - counted.count('pending')} printed costs that were measured again lie "
        f"further than {verdicts.ROUNDING} from what was measured; {counted.count('pending')} are not measured yet.",
        "Difference: measured − printed.",
    )
    return Table(SLUG, "Costs that do not reproduce", caption, columns, lines)


def _once(lines: Sequence[Line]) -> tuple[Line, ...]:
    """A reason that equals the one before it is shown once; the values keep it."""
    shown, before = [], ""
    for line in lines:
        *cells, why = line.cells
        shown.append(line if why.text != before else Line(line.key, (*cells, Cell("as above", why.values))))
        before = why.text
    return tuple(shown)


def cost_verdicts(evidence: Evidence) -> list[str]:
    """The verdict of every printed cost of a study that can be measured; `pending` where it is not yet."""
    return [word for *_, word in _judged(evidence)]


def _judged(evidence: Evidence) -> Iterator[tuple[Panel, Row | Reported, str, float, str]]:
    """(panel, row, metric, measured, verdict) of every printed cost of a row that has a model."""
    for panel in evidence.study.panels:
        for row in evidence.study.rows:
            expense = evidence.expenses.get((panel.dataset, row.slug))
            for metric in UNITS:
                if row.model is None or row.prints(panel, metric) is None:
                    continue
                if expense is None:
                    yield panel, row, metric, 0.0, "pending"
                else:
                    measured = expense.printed_units[metric]
                    yield panel, row, metric, measured, cost_verdict(panel, row, metric, measured)


@dataclass(frozen=True)
class Discrepancy:
    """A printed cost that the measured one does not agree with; `why` is empty where nobody knows."""

    study: Study
    panel: Panel
    row: Row | Reported
    metric: str
    printed: float
    measured: float
    verdict: str
    why: str

    @property
    def key(self) -> str:
        """Its line in the table."""
        return f"{self.study.slug}-{self.panel.dataset}-{self.row.slug}-{self.metric}"


def differing(evidence: Evidence) -> list[Discrepancy]:
    """The printed costs of a study that do not reproduce."""
    return [
        Discrepancy(
            evidence.study,
            panel,
            row,
            metric,
            row.printed[panel.dataset, metric],
            measured,
            verdict,
            row.why.get((panel.dataset, metric), ""),
        )
        for panel, row, metric, measured, verdict in _judged(evidence)
        if verdict not in ("agrees", "pending")
    ]


def _line(evidence: Evidence, found: Discrepancy) -> Line:
    study, panel, row, off = found.study, found.panel, found.row, found.measured - found.printed
    record, shown = evidence.expenses[panel.dataset, row.slug].record, number(found.measured, 3)
    names = {"study": study.slug, "row": row.slug, "dataset": panel.dataset, "metric": found.metric}
    why = found.why or found.verdict
    return Line(
        found.key,
        (
            Cell(row.label, names),
            Cell(study.number, sources=(Source(study.number, f"#{cost_slug(evidence, panel)}-{row.slug}"),)),
            Cell(panel.title),
            Cell(METRICS[found.metric]),
            Cell(as_printed(found.printed), {"printed": found.printed}),
            Cell(shown, {"measured": found.measured}, sources=(Source(shown, record, "cost record"),)),
            Cell(number(off, 3, signed=True), {"difference": off}),
            Cell(why, {"reason": why}, verdict="" if found.why else found.verdict),
        ),
    )
