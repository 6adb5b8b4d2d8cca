"""Costs that do not reproduce: every printed cost that the measured one does not agree with, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.blocks.table import METRICS, Cell, Column, Line, Source, Table, number
from reports.evidence.gather import UNITS, Evidence
from reports.sections.tables import as_printed, cost_slug, cost_verdict
from studies.declare.study import Panel, Reported, Row
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
    lines = _once([line for evidence in everything for line in _differing(evidence)])
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


def _differing(evidence: Evidence) -> Iterator[Line]:
    study = evidence.study
    for panel, row, metric, measured, verdict in _judged(evidence):
        if verdict in ("agrees", "pending"):
            continue
        printed = row.printed[panel.dataset, metric]
        why = row.why.get((panel.dataset, metric), "")
        record = evidence.expenses[panel.dataset, row.slug].record
        shown = number(measured, 3)
        names = {"study": study.slug, "row": row.slug, "dataset": panel.dataset, "metric": metric}
        yield Line(
            f"{study.slug}-{panel.dataset}-{row.slug}-{metric}",
            (
                Cell(row.label, names),
                Cell(study.number, sources=(Source(study.number, f"#{cost_slug(evidence, panel)}-{row.slug}"),)),
                Cell(panel.title),
                Cell(METRICS[metric]),
                Cell(as_printed(printed), {"printed": printed}),
                Cell(shown, {"measured": measured}, sources=(Source(shown, record, "cost record"),)),
                Cell(number(measured - printed, 3, signed=True), {"difference": measured - printed}),
                Cell(why or verdict, {"reason": why or verdict}, verdict="" if why else verdict),
            ),
        )
