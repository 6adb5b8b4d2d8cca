"""From evidence to tables: the costs and the accuracies of a study, printed and measured."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import replace

from reports import verdicts
from reports.evidence import UNITS, Evidence, Variant
from reports.table import METRICS, Cell, Column, Line, Source, Table, Value, number
from reports.verdicts import Judgement
from studies.study import Reported, Row

ROW = Column("Row", align="text")


def cost_table(evidence: Evidence) -> Table:
    """Parameters and FLOPs of every row, printed and measured."""
    study = evidence.study
    height, width = study.input_size
    metrics = [metric for metric in UNITS if metric in study.columns]
    columns = _columns(metrics, ("printed", "measured", "agrees"))
    notes = list(dict.fromkeys(row.note for row in study.trained if row.note))
    lines = []
    for row in study.rows:
        cells = [_name(row, notes)]
        for metric in metrics:
            cells += _cost_cells(evidence, row, metric)
        cells.append(_fvcore(evidence, row))
        lines.append(Line(_key(row), tuple(cells), isinstance(row, Reported)))
    caption = (
        f"Full-size rows at {height}×{width}, whatever was trained.",
        "FLOPs in G in the paper's convention: multiply-adds counted once, as the paper's tool did; fvcore's own count "
        "beside it.",
        f"Agrees: within {verdicts.ROUNDING} of the printed value (a print is rounded to 0.1, sometimes twice).",
    )
    slug = f"{study.slug}-costs"
    return Table(
        slug, "Costs", caption, (ROW, *columns, Column("fvcore's count", "GFLOPs")), tuple(lines), tuple(notes)
    )


def _cost_cells(evidence: Evidence, row: Row | Reported, metric: str) -> list[Cell]:
    printed = row.printed.get(metric)
    expense = evidence.expenses.get(_key(row))
    shown = _printed(row, metric)
    if isinstance(row, Reported):
        return [shown, Cell(), Cell()]
    if expense is None:
        return [shown, _pending(metric), _pending(f"{metric}_agrees")]
    value = expense.printed_units[metric]
    measured = number(value, 3)
    source = Source(measured, expense.record, "cost record")
    cell = Cell(measured, {metric: value}, sources=(source,))
    if printed is None:
        return [shown, cell, Cell(values={f"{metric}_agrees": None})]
    word = "agrees" if verdicts.agrees(value, printed) else "differs"
    return [shown, cell, Cell(word, {f"{metric}_agrees": word}, verdict=word)]


def _fvcore(evidence: Evidence, row: Row | Reported) -> Cell:
    if isinstance(row, Reported):
        return Cell()
    if (expense := evidence.expenses.get(row.slug)) is None:
        return _pending("gmacs_fvcore")
    shown = number(expense.gmacs_fvcore, 3)
    source = Source(shown, expense.record, "cost record")
    return Cell(shown, {"gmacs_fvcore": expense.gmacs_fvcore}, sources=(source,))


def accuracy_table(evidence: Evidence, variant: Variant) -> Table:
    """Ours beside the printed accuracies; difference and verdict only where the two may be compared."""
    study = evidence.study
    titles = ("printed", "ours", "difference", "verdict") if variant.comparable else ("paper (printed)", "ours")
    columns = [ROW] if variant.comparable else [ROW, Column("Trained as (parameters)", align="left")]
    columns += _columns(evidence.accuracies, titles)
    lines = []
    for row in study.rows if variant.comparable else study.trained:
        trained = _trained(variant, row)
        name = replace(_name(row), values={"name": row.name, **trained.values})
        cells = [name] if variant.comparable else [name, trained]
        for metric in evidence.accuracies:
            cells += _accuracy_cells(variant, row, metric)
        lines.append(Line(_key(row), tuple(cells), isinstance(row, Reported)))
    title = f"Accuracies, protocol {variant.name}"
    return Table(variant.slug, title, _accuracy_caption(evidence, variant), tuple(columns), tuple(lines))


def _accuracy_caption(evidence: Evidence, variant: Variant) -> tuple[str, ...]:
    data, train = variant.recipe
    seeds = ", ".join(map(str, variant.seeds))
    cut = "" if variant.full else f" instead of the protocol's {train.iterations}"
    caption = [
        f"{len(variant.finished)} of {variant.planned} runs finished.",
        f"Protocol {variant.protocol.name} (version {variant.protocol.version}): {variant.protocol.purpose}.",
        f"{data.dataset}, {data.test_split} split; {variant.iterations} iterations{cut} of batch {train.batch}; "
        f"seeds {seeds}.",
        "Ours: mean over seeds ± half-width of the 95 % t-interval (number of seeds); an interval from 3 seeds on.",
    ]
    if variant.comparable:
        tolerances = ", ".join(f"{verdicts.epsilon(metric):.1f} {METRICS[metric]}" for metric in evidence.accuracies)
        caption.append(f"Verdict: the interval of (ours − printed) against ±ε; ε = {tolerances}.")
    else:
        size = variant.protocol.size
        stand_in = f"Every row trained as the {size} model with the row's switches. " if size else ""
        reasons = [] if variant.protocol.comparable else ["another recipe, dataset or model"]
        reasons += [] if variant.full else ["a run that was cut short"]
        caption.append(f"{stand_in}These numbers cannot be compared with the printed accuracies: {'; '.join(reasons)}.")
    return tuple(caption)


def _accuracy_cells(variant: Variant, row: Row | Reported, metric: str) -> list[Cell]:
    shown = _printed(row, metric)
    if isinstance(row, Reported):
        return [shown, *[Cell()] * 3]
    seeds = variant.measured(row.slug, metric)
    values = [seed.value for seed in seeds]
    judgement = verdicts.level(values, row.printed.get(metric), verdicts.epsilon(metric))
    facts: dict[str, Value] = {f"{metric}_mean": None, f"{metric}_half_width": None, f"{metric}_n": len(values)}
    ours = Cell("pending", facts, verdict="pending")
    if values:
        mean = statistics.fmean(values)
        half = verdicts.mean_interval(values).half_width if len(values) >= verdicts.MINIMUM_SEEDS else None
        text = number(mean, 2) + (f" ± {number(half, 2)}" if half is not None else "") + f" ({len(values)})"
        sources = tuple(Source(number(s.value, 2), s.record, f"seed {s.seed}", s.marks) for s in seeds)
        ours = Cell(text, {**facts, f"{metric}_mean": mean, f"{metric}_half_width": half}, sources=sources)
    if not variant.comparable:
        return [shown, ours]
    difference = Cell(values={f"{metric}_difference": judgement.difference})
    if judgement.difference is not None:
        difference = Cell(number(judgement.difference, 2, signed=True), difference.values)
    return [shown, ours, difference, verdict_cell(judgement, {f"{metric}_verdict": judgement.verdict})]


def _columns(metrics: Sequence[str], titles: Sequence[str]) -> list[Column]:
    words = ("agrees", "verdict")
    return [Column(t, METRICS[metric], "left" if t in words else "right") for metric in metrics for t in titles]


def _key(row: Row | Reported) -> str:
    return row.slug if isinstance(row, Row) else re.sub(r"[^a-z0-9]+", "-", row.name.lower())


def _name(row: Row | Reported, notes: Sequence[str] = ()) -> Cell:
    note = notes.index(row.note) + 1 if isinstance(row, Row) and row.note in notes else 0
    return Cell(row.name, {"name": row.name}, note=note)


def _printed(row: Row | Reported, metric: str) -> Cell:
    printed = row.printed.get(metric)
    return Cell("–" if printed is None else number(printed, 1), {f"{metric}_printed": printed})


def _trained(variant: Variant, row: Row | Reported) -> Cell:
    """The model that a row was really trained as, with its size once a run has finished."""
    if isinstance(row, Reported):
        return Cell(values={"trained_model": None, "trained_params": None})
    lines = [line for line in variant.lines if line["row"] == row.slug]
    parameters = next((line["trained_params"] for line in lines if line["trained_params"] is not None), None)
    values: dict[str, Value] = {"trained_model": lines[0]["trained_model"], "trained_params": parameters}
    size = "" if parameters is None else f", {parameters / 1e6:.3f} M"
    return Cell(f"{lines[0]['trained_model']}{size}", values)


def verdict_cell(judgement: Judgement, values: dict[str, Value]) -> Cell:
    """A verdict, with the number of seeds that would settle an open one."""
    text = judgement.verdict or "–"
    if judgement.verdict == "not resolved":
        needed = f"more than {verdicts.MOST_SEEDS}" if judgement.seeds is None else f"about {judgement.seeds}"
        text += f" ({needed} seeds)"
    return Cell(text, values, verdict=judgement.verdict)


def _pending(column: str) -> Cell:
    return Cell("pending", {column: None}, verdict="pending")
