"""The table that a study's page opens with: printed, ours, others' and the verdict; and what is not measured yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reports.blocks.table import METRICS, Cell, Column, Line, Notes, Source, Table
from reports.sections import tables
from reports.sections.others import others_in_short
from studies.declare.study import Panel, Reported, Row
from studies.facts.gather import UNITS, Evidence, Variant
from studies.judge import verdicts
from studies.records.causes import CAUSES

NOT_HELD = frozenset(("fps",))
"""What belongs to a machine: it stands in a table of its own, and no level is judged."""


OTHERS = (
    "Others: the range over other projects' trainings that count; near: within ε of the printed value (costs: the "
    "rounding of a print). The tables in detail below have each number with its source."
)


@dataclass(frozen=True)
class Missing:
    """What of a panel is not measured here, and the command that measures it."""

    words: str
    command: str  # empty where no protocol has a recipe


def main_slug(evidence: Evidence, panel: Panel) -> str:
    """The name of a panel's main table in anchors."""
    return f"{evidence.study.slug}{f'-{panel.dataset}' if len(evidence.study.panels) > 1 else ''}-main"


def main_table(evidence: Evidence, panel: Panel) -> Table:
    """Every row of one data set: by metric what is printed, ours, others' and the verdict, where there are any."""
    study, variant, notes = evidence.study, _deciding(evidence, panel), Notes()
    shown = {metric: _parts(evidence, panel, variant, metric) for metric in panel.columns}
    columns = [tables.ROW, *(Column(part, METRICS[metric], _align(part)) for metric in shown for part in shown[metric])]
    lines = []
    for row in study.rows:
        if not isinstance(row, Row) and not any(row.prints(panel, metric) is not None for metric in shown):
            continue
        cells = [Cell(row.label, note=notes.mark(row.note if panel == study.panels[0] else ""))]
        for metric, parts in shown.items():
            found = _cells(evidence, panel, variant, row, metric, notes)
            cells += [found[part] for part in parts]
        lines.append(Line(row.slug, tuple(cells), isinstance(row, Reported)))
        lines += _imported(variant, row, shown) if variant else ()
    height, width = panel.input_size
    caption = [f"The paper's numbers beside ours; costs at {height}×{width} with {panel.classes} classes."]
    if variant and (variant.finished or variant.imported):
        caption += tables.accuracy_words(variant)
    if any("ours" in shown.get(metric, ()) for metric in UNITS):
        caption += [
            "FLOPs in G, multiply-adds counted once, as the paper's tool did.",
            f"A cost agrees within {verdicts.ROUNDING} of its print, which is rounded to 0.1, sometimes twice.",
        ]
    caption += [OTHERS] if any("others" in parts for parts in shown.values()) else []
    title = panel.title if len(study.panels) > 1 else "Printed and measured"
    return Table(main_slug(evidence, panel), title, tuple(caption), tuple(columns), tuple(lines), tuple(notes))


def missing(evidence: Evidence, panel: Panel) -> list[Missing]:
    """What the main table of a panel still lacks, each once, with the command."""
    study, found = evidence.study, []
    where = f" --datasets {panel.dataset}" if sum(bool(one.accuracies) for one in study.panels) > 1 else ""
    costs = [metric for metric in UNITS if metric in panel.columns]
    rows = [row for row in study.rows if row.model and any(row.prints(panel, metric) is not None for metric in costs)]
    have = sum((panel.dataset, row.slug) in evidence.expenses for row in rows)
    if have < len(rows):
        words = f"costs of {len(rows) - have} of {len(rows)} rows" if have else "costs"
        found.append(Missing(words, f"python -m studies.run {study.slug} --only cost"))
    metrics = [metric for metric in panel.accuracies if metric not in NOT_HELD]
    variant = _deciding(evidence, panel)
    if not metrics or variant is None:
        return found
    named = " and ".join(METRICS[metric] for metric in metrics)
    if variant.recipe is None:
        return [*found, Missing(f"{named}, for which protocol {variant.protocol.name} has no recipe yet", "")]
    short = [row for row in variant.rows if len(variant.values(row.slug, metrics[0])) < verdicts.MINIMUM_SEEDS]
    if not short:
        return found
    none = not any(variant.values(row.slug, metric) for row in variant.rows for metric in metrics)
    words = named if none else f"{named}: {len(short)} of {len(variant.rows)} rows have fewer than 3 seeds"
    protocol = "" if variant.protocol.name == "paper" else f" --protocol {variant.protocol.name}"
    return [*found, Missing(words, f"python -m studies.run {study.slug}{where}{protocol}")]


def _deciding(evidence: Evidence, panel: Panel) -> Variant | None:
    """The runs that may be held against this panel's prints: the first protocol's that has any, else the first."""
    held = [variant for variant in evidence.variants if variant.comparable and variant.panel == panel]
    return next((v for v in held if v.finished or v.imported), held[0] if held else None)


def _parts(evidence: Evidence, panel: Panel, variant: Variant | None, metric: str) -> tuple[str, ...]:
    """The columns of a metric: only those in which something stands."""
    rows = evidence.study.rows
    printed = ["printed"] if any(row.prints(panel, metric) is not None for row in rows) else []
    if metric in UNITS:
        ours = any((panel.dataset, row.slug) in evidence.expenses for row in rows)
    else:
        tested = variant.imported if variant else ()
        ours = any(metric in file.values for file in tested) or (
            variant is not None and any(variant.values(row.slug, metric) for row in variant.rows)
        )
    theirs = ["others"] if any(others_in_short(evidence.study, panel, row, metric).sources for row in rows) else []
    judged = ["verdict"] if ours and printed and metric not in NOT_HELD else []
    return (*printed, *(["ours"] if ours else []), *theirs, *judged)


def _cells(
    evidence: Evidence, panel: Panel, variant: Variant | None, row: Row | Reported, metric: str, notes: Notes
) -> dict[str, Cell]:
    study = evidence.study
    if metric in UNITS:
        printed, ours, verdict = tables.cost_cells(evidence, panel, row, metric, notes)
    else:
        known = variant is not None and isinstance(row, Row) and bool(variant.values(row.slug, metric))
        if variant is None or not known:
            printed, ours, verdict = tables.printed_cell(panel, row, metric), Cell(), Cell()
        else:
            printed, ours, _, verdict = tables.accuracy_cells(variant, row, metric, notes)
            ours = _together(ours, f"#{variant.slug}-{row.slug}")
    cells = {"printed": printed, "ours": ours, "verdict": verdict}
    plain = {name: Cell(values=cell.values) if cell.verdict == "pending" else cell for name, cell in cells.items()}
    return {**plain, "others": others_in_short(study, panel, row, metric)}


def _together(cell: Cell, place: str) -> Cell:
    """One link to the runs behind a mean, in place of one a run."""
    marks = tuple(dict.fromkeys(mark for source in cell.sources for mark in source.marks))
    runs = f"{len(cell.sources)} run{'s' if len(cell.sources) > 1 else ''}"
    return replace(cell, sources=(Source(runs, place, "each run", marks),))


def _imported(variant: Variant, row: Row | Reported, shown: dict[str, tuple[str, ...]]) -> Iterator[Line]:
    for file in variant.imported:
        if file.row != row.slug:
            continue
        record = next(iter(file.values.values()))[0].record
        cells = [Cell(f"released weights: {file.name}")]
        for metric, parts in shown.items():
            seeds = file.values.get(metric, ())
            _, ours, _, verdict = tables.imported_cells(variant, row, metric, seeds[0] if seeds else None)
            told = {"ours": ours, "verdict": replace(verdict, values={})}
            cells += [told.get(part, Cell()) for part in parts]
        yield Line(f"{row.slug}-{record}", tuple(cells), under=True)


def _align(part: str) -> Literal["left", "right"]:
    return "left" if part == "verdict" else "right"


def main_tables(evidence: Evidence) -> tuple[Table, ...]:
    """The main table of every panel that has lines."""
    return tuple(table for panel in evidence.study.panels if (table := main_table(evidence, panel)).lines)


def all_missing(evidence: Evidence) -> Sequence[Missing]:
    """What a study's main tables lack; several data sets that lack the same are named together."""
    several = len(evidence.study.panels) > 1
    found: dict[tuple[str, str], list[str]] = {}
    failed = [one for variant in evidence.variants for one in failures(variant)]
    for panel in evidence.study.panels:
        for one in missing(evidence, panel):
            found.setdefault((one.words, one.command), []).append(panel.title)
    lacking = [
        Missing(f"{words}{f' on {_and(titles)}' if several else ''}", command)
        for (words, command), titles in found.items()
    ]
    return [*failed, *lacking]


def failures(variant: Variant) -> Sequence[Missing]:
    """The runs of a variant that failed: how many of which row, the cause, and the command that mends it."""
    study, found = variant.study, []
    for row in variant.rows:
        ended = variant.unfinished.get(row.slug, Counter[str]())
        for name, cause in CAUSES.items():
            if count := ended[f"failed: {name.replace('_', ' ')}"]:
                protocol = "" if variant.protocol.name == "paper" else f" --protocol {variant.protocol.name}"
                run = f"python -m studies.run {study.slug} --rows {row.slug}{protocol}"
                selector = f"{study.slug}/{row.slug}"
                mend = cause.remedy.format(run=run, selector=selector, dataset=variant.panel.dataset)
                runs = f"{count} run{'s' if count > 1 else ''} of {row.label}, protocol {variant.name}"
                found.append(Missing(f"{runs}, failed: {cause.words}", mend))
    return found


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
