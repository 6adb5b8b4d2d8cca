"""From evidence to tables: the costs and the accuracies of a study, printed and measured."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from reports.blocks.table import METRICS, Cell, Column, Line, Notes, Source, Table, Value, number
from reports.sections.others import CAPTION as OTHERS
from reports.sections.others import elsewhere, others_cell
from studies.declare.study import Panel, Reported, Row
from studies.facts.gather import UNITS, Evidence, Seed, Tested, Variant
from studies.judge import pooling, verdicts
from studies.judge.verdicts import Judgement

ROW = Column("Row", align="text")


def cost_slug(evidence: Evidence, panel: Panel) -> str:
    """The name of a panel's costs in file names and anchors."""
    among_several = len(evidence.study.panels) > 1
    return f"{evidence.study.slug}{f'-{panel.dataset}' if among_several else ''}-costs"


def cost_table(evidence: Evidence, panel: Panel) -> Table:
    """Parameters and FLOPs of every row on one dataset, printed and measured; peers where they have a cost."""
    study = evidence.study
    height, width = panel.input_size
    rows = [r for r in study.rows if isinstance(r, Row) or r.model or any(r.prints(panel, m) for m in UNITS)]
    notes = Notes()
    columns, lines, theirs = [ROW], [], elsewhere(study, panel, [metric for metric in UNITS if metric in panel.columns])
    for metric in UNITS:
        columns += _columns([metric], ("printed", "measured", "agrees") if metric in panel.columns else ("measured",))
        columns += _columns([metric], ("others",)) if metric in theirs else []
    for row in rows:
        cells = [Cell(row.label, {"name": row.label}, note=notes.mark(row.note if panel == study.panels[0] else ""))]
        for metric in UNITS:
            found = cost_cells(evidence, panel, row, metric, notes)
            cells += found if metric in panel.columns else found[1:2]
            cells += [others_cell(study, panel, row, metric)] if metric in theirs else []
        lines.append(Line(row.slug, (*cells, _fvcore(evidence, panel, row)), isinstance(row, Reported)))
    caption: tuple[str, ...] = (
        f"Full-size rows at {height}×{width} with {panel.classes} classes, whatever was trained.",
        "FLOPs in G in the paper's convention: multiply-adds counted once, as the paper's tool did; fvcore's own count "
        "beside it.",
    )
    if set(UNITS) & set(panel.columns):
        caption += (
            f"Agrees: within {verdicts.ROUNDING} of the printed value (a print is rounded to 0.1, sometimes twice).",
        )
    caption += (OTHERS,) if theirs else ()
    title = "Costs" if len(study.panels) == 1 else f"Costs on {panel.title}"
    columns.append(Column("fvcore's count", "GFLOPs"))
    return Table(cost_slug(evidence, panel), title, caption, tuple(columns), tuple(lines), tuple(notes))


def cost_cells(evidence: Evidence, panel: Panel, row: Row | Reported, metric: str, notes: Notes) -> list[Cell]:
    """A cost of a row: printed, measured, and whether the two agree."""
    shown = printed_cell(panel, row, metric)
    if row.model is None:
        return [shown, Cell(), Cell()]
    expense = evidence.expenses.get((panel.dataset, row.slug))
    if expense is None:
        return [shown, _pending(metric), _pending(f"{metric}_agrees")]
    value = expense.printed_units[metric]
    measured = number(value, 3)
    source = Source(measured, expense.record, "cost record")
    cell = Cell(measured, {metric: value}, sources=(source,))
    word = cost_verdict(panel, row, metric, value)
    note = notes.mark(row.why.get((panel.dataset, metric), "") if word == "differs" else "")
    return [shown, cell, Cell(word or "–", {f"{metric}_agrees": word or None}, verdict=word, note=note)]


def cost_verdict(panel: Panel, row: Row | Reported, metric: str, measured: float) -> str:
    """`agrees`, `differs` for a reason that the row declares, or `unexplained`; empty where nothing is printed."""
    printed = row.prints(panel, metric)
    if printed is None:
        return ""
    if verdicts.agrees(measured, printed):
        return "agrees"
    return "differs" if (panel.dataset, metric) in row.why else "unexplained"


def _fvcore(evidence: Evidence, panel: Panel, row: Row | Reported) -> Cell:
    if row.model is None:
        return Cell()
    if (expense := evidence.expenses.get((panel.dataset, row.slug))) is None:
        return _pending("gmacs_fvcore")
    shown = number(expense.gmacs_fvcore, 3)
    source = Source(shown, expense.record, "cost record")
    return Cell(shown, {"gmacs_fvcore": expense.gmacs_fvcore}, sources=(source,))


def accuracy_table(variant: Variant) -> Table:
    """Ours; the printed accuracies, difference and verdict beside it only where the two may be compared."""
    study, metrics = variant.study, variant.panel.accuracies
    titles = ("printed", "ours", "difference", "verdict") if variant.comparable else ("ours",)
    columns = [ROW] if variant.comparable else [ROW, Column("Trained as (parameters)", align="left")]
    theirs = elsewhere(study, variant.panel, metrics) if variant.comparable else ()
    for metric in metrics:
        columns += _columns([metric], (*titles, "others") if metric in theirs else titles)
    computed = bool(variant.finished or variant.imported)
    columns += [Column("Precision", align="left")] if computed else []
    notes = Notes()
    quoted = (row for row in study.rows if isinstance(row, Row) or any(row.prints(variant.panel, m) for m in metrics))
    lines = []
    for row in quoted if variant.comparable else variant.rows:
        trained = _trained(variant, row)
        name = Cell(row.label, {"name": row.label, **trained.values})
        cells = [name] if variant.comparable else [name, trained]
        for metric in metrics:
            cells += accuracy_cells(variant, row, metric, notes)
            cells += [others_cell(study, variant.panel, row, metric)] if metric in theirs else []
        cells += [precision_cell(variant.precisions(row.slug))] if computed else []
        lines.append(Line(row.slug, tuple(cells), isinstance(row, Reported)))
        lines += [_imported_line(variant, row, file, theirs) for file in variant.imported if file.row == row.slug]
    title = f"Accuracies, protocol {variant.name}"
    return Table(variant.slug, title, _accuracy_caption(variant), tuple(columns), tuple(lines), tuple(notes))


def precision_cell(precisions: str) -> Cell:
    """What a row was computed in, where it was."""
    return Cell(precisions or "–", {"precision": precisions or None})


def _accuracy_caption(variant: Variant) -> tuple[str, ...]:
    if variant.recipe is None:
        return (f"Protocol {variant.protocol.name} has no recipe for {variant.panel.title} yet.",)
    caption = [*accuracy_words(variant)]
    if variant.comparable and elsewhere(variant.study, variant.panel, variant.panel.accuracies):
        caption.append(OTHERS)
    if not variant.comparable:
        size = variant.protocol.size
        stand_in = f"Every row trained as the {size} model with the row's switches. " if size else ""
        reasons = [] if variant.protocol.comparable else ["another recipe, dataset or model"]
        reasons += [] if variant.full else ["a run that was cut short"]
        caption.append(f"{stand_in}These numbers cannot be compared with the printed accuracies: {'; '.join(reasons)}.")
    return tuple(caption)


def accuracy_words(variant: Variant) -> list[str]:
    """How a variant's numbers were made and how they are judged; of one that has a recipe."""
    words = [
        *recipe_words(variant),
        *_beginnings(variant),
        "Ours: mean over seeds ± half-width of the 95 % t-interval (number of seeds); an interval from 3 seeds on. "
        "Evaluated with seed 0 of Ham's bases.",
    ]
    if variant.comparable:
        judged = [metric for metric in variant.panel.accuracies if metric in verdicts.EPSILON]
        tolerances = ", ".join(f"{verdicts.epsilon(metric):.1f} {METRICS[metric]}" for metric in judged)
        words.append(
            f"Verdict: the interval of (ours − printed) against ±ε; ε = {tolerances}, or the spread of the paper's own "
            "values for a row where that is larger."
        )
    if variant.imported:
        words.append(f"Imported: {verdicts.RULES['imported']}.")
    return words


def recipe_words(variant: Variant) -> tuple[str, ...]:
    """How far a variant is, and how it was trained and tested; of one that has a recipe."""
    assert variant.recipe is not None
    data, train, protocol = variant.recipe.data, variant.recipe.train, variant.protocol
    cut = "" if variant.full else f" instead of the protocol's {train.iterations}"
    return (
        f"{variant.progress}.",
        f"Protocol {protocol.name} (version {protocol.version}): {protocol.purpose}.",
        f"{data.dataset}, {data.test_split} split; {variant.iterations} iterations{cut} of batch {train.batch}, "
        f"learning rate {train.learning_rate:g}; seeds {', '.join(map(str, variant.seeds))}.",
    )


def _beginnings(variant: Variant) -> list[str]:
    """What rows are trained on before, other than ImageNet-1K; at full length, which a cut run's upstream has not."""
    if not variant.full:
        return []
    recipes = {row.label: variant.protocol.recipe(variant.panel, row) for row in variant.rows}
    before = {label: variant.protocol.recipes[recipe.after] for label, recipe in recipes.items() if recipe.after}
    return [
        f"{label}: {recipes[label].train.iterations} iterations after {first.train.iterations} on "
        f"{first.data.dataset}, {first.data.train_split} split."
        for label, first in before.items()
    ]


def accuracy_cells(variant: Variant, row: Row | Reported, metric: str, notes: Notes) -> list[Cell]:
    """An accuracy of a row: ours and, where they may be compared, the printed one, the difference and its verdict."""
    shown = printed_cell(variant.panel, row, metric)
    if isinstance(row, Reported):
        return [shown, *[Cell()] * 3]
    seeds = variant.measured(row.slug, metric)
    values = [seed.value for seed in seeds]
    mixed = variant.mixed(row.slug, metric)
    judgement = dataclasses.replace(_level(variant.panel, row, metric, values), mixed=mixed)
    facts: dict[str, Value] = {f"{metric}_mean": None, f"{metric}_half_width": None, f"{metric}_n": len(values)}
    ours = Cell(_pending_words(variant, row), facts, verdict="pending")
    if values:
        mean = statistics.fmean(values)
        half = verdicts.mean_interval(values).half_width if len(values) >= verdicts.MINIMUM_SEEDS else None
        text = number(mean, 2) + (f" ± {number(half, 2)}" if half is not None else "") + f" ({len(values)})"
        sources = tuple(Source(number(s.value, 2), s.record, f"seed {s.seed}", s.marks) for s in seeds)
        found = {**facts, f"{metric}_mean": mean, f"{metric}_half_width": half, f"{metric}_mixed": mixed or None}
        ours = Cell(text, found, sources=sources, note=notes.mark(mixed))
    if not variant.comparable:
        return [ours]
    verdict = verdict_cell(judgement, {f"{metric}_verdict": judgement.verdict}, notes)
    return [shown, ours, _difference(metric, judgement.difference), verdict]


def _pending_words(variant: Variant, row: Row) -> str:
    """`pending (2 failed: diverged, 1 running)` where somebody looked."""
    states = sorted(variant.unfinished.get(row.slug, {}).items())
    return "pending" + (f" ({', '.join(f'{count} {word}' for word, count in states)})" if states else "")


def _difference(metric: str, difference: float | None) -> Cell:
    text = "–" if difference is None else number(difference, 2, signed=True)
    return Cell(text, {f"{metric}_difference": difference})


def _imported_line(variant: Variant, row: Row | Reported, file: Tested, theirs: Sequence[str]) -> Line:
    """Weights of elsewhere, tested here with Ham's first seed: in no mean, and not among what was reproduced."""
    label = f"{row.label}, released weights: {file.name}"
    found = {metric: seeds[0] for metric, seeds in file.values.items()}
    record = next(iter(found.values())).record
    values: dict[str, Value] = {"row": row.slug, "name": label, "imported": file.name, "imported_record": record}
    imported = Cell("imported", verdict="imported")
    cells = [Cell(label, values)] if variant.comparable else [Cell(label, values), imported]
    for metric in variant.panel.accuracies:
        cells += imported_cells(variant, row, metric, found.get(metric))
        cells += [Cell()] if metric in theirs else []
    cells.append(precision_cell(pooling.precisions([variant.origins[record]])))
    return Line(f"{row.slug}-{record}", tuple(cells), under=True)


def imported_cells(variant: Variant, row: Row | Reported, metric: str, found: Seed | None) -> list[Cell]:
    """The same of weights from elsewhere, tested here."""
    printed, shown = row.prints(variant.panel, metric), printed_cell(variant.panel, row, metric)
    ours = Cell()
    if found is not None:
        text = number(found.value, 2)
        source = Source(text, found.record, "record of the imported weights", found.marks)
        ours = Cell(text, {f"{metric}_imported": found.value}, sources=(source,))
    if not variant.comparable:
        return [ours]
    difference = None if found is None or printed is None else found.value - printed
    word = "imported" if found else ""
    verdict = Cell(word or "–", {f"{metric}_verdict": word or None}, verdict=word)
    return [shown, ours, _difference(metric, difference), verdict]


def _level(panel: Panel, row: Row, metric: str, values: Sequence[float]) -> Judgement:
    if metric not in verdicts.EPSILON:  # a speed belongs to its machine: no level is judged
        return verdicts.level(values, None, 0.0)
    return verdicts.level(values, row.prints(panel, metric), verdicts.epsilon(metric, row.spread(panel, metric)))


def _columns(metrics: Sequence[str], titles: Sequence[str]) -> list[Column]:
    words = ("agrees", "verdict")
    return [Column(t, METRICS[metric], "left" if t in words else "right") for metric in metrics for t in titles]


def printed_cell(panel: Panel, row: Row | Reported, metric: str) -> Cell:
    """The printed value, and beside it what the paper prints for the same elsewhere."""
    printed = row.prints(panel, metric)
    values: dict[str, Value] = {f"{metric}_printed": printed}
    if printed is None:
        return Cell(values=values)
    elsewhere = row.elsewhere(panel, metric)
    text = "; ".join(f"{source}: {as_printed(value)}" for source, value in elsewhere.items())
    if elsewhere:
        values[f"{metric}_printed_elsewhere"] = text
    return Cell(as_printed(printed) + (f" ({text})" if text else ""), values)


def as_printed(value: float) -> str:
    """With one digit after the point, or none: 42 and 42.0 are different prints."""
    return number(value, 0 if isinstance(value, int) else 1)


def _trained(variant: Variant, row: Row | Reported) -> Cell:
    """The model that a row was really trained as, with its size once a run has finished."""
    if isinstance(row, Reported):
        return Cell(values={"trained_model": None, "trained_params": None})
    lines = [line for line in variant.lines if line.row == row.slug]
    parameters = next((line.trained_params for line in lines if line.trained_params is not None), None)
    values: dict[str, Value] = {"trained_model": lines[0].trained_model, "trained_params": parameters}
    size = "" if parameters is None else f", {parameters / 1e6:.3f} M"
    return Cell(f"{lines[0].trained_model}{size}", values)


def verdict_cell(
    judgement: Judgement, values: dict[str, Value], notes: Notes, words: Mapping[str, str] = MappingProxyType({})
) -> Cell:
    """A verdict, with the number of seeds that would settle an open one, and a mark where its runs differ in kind.

    `words`: those of other data than the paper's, by verdict.
    """
    word = words.get(judgement.verdict, judgement.verdict)
    text = word or "–"
    if judgement.verdict == "not resolved" and judgement.p is not None:
        text += f" ({needed_seeds(judgement)} seeds)"
    return Cell(text, values, verdict=word, note=notes.mark(judgement.mixed))


def needed_seeds(judgement: Judgement) -> str:
    """How many seeds per row would settle a claim that is not resolved: `about 12`."""
    if judgement.seeds is not None:
        return f"about {judgement.seeds}"
    return f"more than {verdicts.MOST_SEEDS if judgement.interval else verdicts.MOST_COUNTED}"


def _pending(column: str) -> Cell:
    return Cell("pending", {column: None}, verdict="pending")
