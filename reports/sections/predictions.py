"""Sub-tasks of the generated data: what was predicted before the runs, beside what came out; accuracy by distance."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.points import WINDOW, Curves
from reports.blocks.style import INK, row_styles
from reports.blocks.table import Cell, Column, Fold, Line, Notes, Source, Table, Value, number, part
from reports.sections.shortcuts import in_words
from reports.sections.tables import precision_cell, recipe_words, verdict_cell
from studies.declare.study import Row, Study
from studies.declare.subtasks import CAVEATS, CEILING, CHANCE, LEARNT, MARGIN, TO_SEE, Prediction, Subtask
from studies.facts.foretold import mixed_runs
from studies.facts.gather import Variant
from studies.judge import verdicts
from studies.judge.predictions import Runs, points_by_distance, within
from studies.judge.significance import RULE
from studies.judge.tiers import ELSEWHERE
from studies.judge.verdicts import Judgement
from studies.records.schema import ShortcutRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = (1, 255)
"""The distances of every labelled pixel outside the cue."""

_SIGNS = {"+": "above", "-": "below", "0": f"equal (±{MARGIN:.0f})"}


REVISED = frozenset(
    (
        "table5, key-no-cue: cc − chance, all",
        "table5, key at 0.001: ema − ham, ≥ 20",
        "table5, key at 0.016: ema − ham, ≥ 20",
        "table5, key at 0.016: nl − ham, ≥ 20",
        "table6, strips: full − chance, ≥ 61",
        "table6, strips-no-cue: 7x7 − chance, all",
        "table6, strips-no-cue: 11x11 − chance, all",
        "table6, strips-no-cue: no-1x1 − chance, all",
        "table6, strips-no-cue: full − chance, all",
        "table6, strips at 0.016: no-1x1 − full, all",
        "table7, key-no-cue: c-stage1 − chance, all",
        "table8, strips-no-cue: t-van − chance, all",
        "appendix_table2, key-no-cue: t-msca − chance, all",
        "normalisation, key-no-cue: none − chance, all",
        "normalisation, key-no-cue: none-head-bn − chance, all",
        "normalisation, key at 0.016: t − head-bn, ≥ 21",
        "references, strips: pyramid − full, 1 to 59",
        "references, strips-no-cue: 7x7-wide − chance, all",
        "references, strips-no-cue: 11x11-wide − chance, all",
        "references, strips at 0.004: pyramid − full, 1 to 59",
    )
)
"""Predictions that were called supported until November 2026, by a rule with wrong words in up to 20 % of families, and
that are not resolved: table, sub-task, rows, distances."""

_REVISED = "called supported until November 2026, by rules that were too bold (CHANGELOG.md)"


def prediction_table(
    variant: Variant, panel: Subtask, runs: Runs, judgements: Sequence[Judgement], probes: Sequence[ShortcutRecord] = ()
) -> Table:
    """What was predicted of a sub-task's rows, and what came out, the refuted among them.

    `judgements`: one for each prediction. `probes`: the shortcut probes on record.
    """
    columns = (
        Column("Difference of", align="text"),
        Column("Distance (px)", align="left"),
        Column("Predicted", align="text"),
        Column("Because", align="text"),
        Column("Difference [95 % interval]"),
        Column("Outcome", align="left"),
        Column("Accuracies (%)", align="left"),
    )
    lines, notes = [], Notes()
    for place, (prediction, judgement) in enumerate(zip(panel.predictions, judgements, strict=True)):
        key = f"{prediction.row}-{prediction.reference}-{place}"
        lines.append(Line(key, _prediction_cells(variant, panel, runs, prediction, judgement, notes)))
    changes = ", ".join(f"{name} {value}" for name, value in panel.changes.items())
    caption = (
        f"Accuracy in percent of labelled pixels whose deciding cue lies at the distance named; chance is "
        f"{100 / panel.classes:.0f} %.",
        f"Written in studies/tables/{variant.study.slug}.py before the runs of the row predicted about: the commits of "
        "their records have it. The row compared with may have been run for an earlier prediction.",
        "The paper says what it claims of a part; the mechanism, what follows from the pixels that a row sees.",
        f"Outcome: Welch's test over seeds at 5 %; for no difference, two one-sided tests of ±{MARGIN:.0f} points. The "
        f"5 % hold for all predictions of a table under a protocol together: {RULE}. The intervals are each one's own, "
        "over seeds, on one set of 200 test images.",
        *_caveats(panel, runs),
        *(in_words(probe) for probe in probes if probe.config.task == panel.task_name),
        *recipe_words(variant),
        f"Every row trained with {changes}; what differs between rows is the table's.",
    )
    title = f"Predictions, {panel.title}"
    return Table(f"{variant.slug}-predictions", title, caption, columns, tuple(lines), tuple(notes))


def _prediction_cells(
    variant: Variant, panel: Subtask, runs: Runs, prediction: Prediction, judgement: Judgement, notes: Notes
) -> tuple[Cell, ...]:
    labels = {row.slug: row.label for row in variant.rows} | {CHANCE: "chance"}
    identity: dict[str, Value] = {
        "study": variant.study.slug,
        "protocol": variant.name,
        "row": prediction.row,
        "reference": prediction.reference,
        "from": prediction.distances[0],
        "below": prediction.distances[1],
        "predicted": prediction.sign,
        "source": prediction.source,
        "purpose": panel.purpose,
        "seeds": len(runs.get(prediction.row, ())),
    }
    low, high = (judgement.interval.low, judgement.interval.high) if judgement.interval else (None, None)
    difference: dict[str, Value] = {"difference": judgement.difference, "low": low, "high": high}
    return (
        Cell(f"{labels[prediction.row]} − {labels[prediction.reference]}", identity),
        Cell(_range(prediction.distances)),
        Cell(f"{_SIGNS[prediction.sign]}, says the {prediction.source}"),
        Cell(prediction.why),
        Cell(_shown(judgement), {**difference, "mixed": judgement.mixed or None}, note=notes.mark(judgement.mixed)),
        verdict_cell(
            dataclasses.replace(judgement, mixed=_remarks(variant, panel, prediction, judgement)),
            {"p": judgement.p, "p_adjusted": judgement.adjusted, "outcome": judgement.verdict},
            notes,
            ELSEWHERE,
        ),
        _both(prediction, runs, 100 / panel.classes),
    )


def _remarks(variant: Variant, panel: Subtask, prediction: Prediction, judgement: Judgement) -> str:
    """What the runs behind a verdict do not share, and whether it was another one once."""
    rows, distances = f"{prediction.row} − {prediction.reference}", _range(prediction.distances)
    named = f"{variant.study.slug}, {panel.title}: {rows}, {distances}"
    revised = _REVISED if named in REVISED and judgement.verdict == "not resolved" else ""
    return "; ".join(filter(None, (judgement.mixed, revised)))


def _caveats(panel: Subtask, runs: Runs) -> Iterator[str]:
    if caveat := CAVEATS.get(panel.task_name):
        yield caveat
    found = [within(ALL, own) for own in runs.values()]
    if panel.purpose == "idea" and found and min(statistics.fmean(values) for values in found if values) >= CEILING:
        yield f"Every row is right for {CEILING:.0f} % or more: too easy to tell them apart; a harder task might."


def _shown(judgement: verdicts.Judgement) -> str:
    if judgement.difference is None:
        return "–"
    interval = judgement.interval
    within = f" [{number(interval.low, 1, signed=True)}, {number(interval.high, 1, signed=True)}]" if interval else ""
    return number(judgement.difference, 1, signed=True) + within


def _both(prediction: Prediction, runs: Runs, chance: float) -> Cell:
    shown, values, sources = [], dict[str, Value](), list[Source]()
    for name, slug in (("accuracy", prediction.row), ("reference_accuracy", prediction.reference)):
        found = within(prediction.distances, runs.get(slug, ()))
        mean = chance if slug == CHANCE else statistics.fmean(found) if found else None
        values[name] = mean
        shown.append("–" if mean is None else f"{number(mean, 1)} ({len(found)})" if found else number(mean, 1))
        sources += [Source(f"{slug}@{run.seed}", run.record, "run record") for run in runs.get(slug, ())]
    return Cell(" − ".join(shown), values, sources=tuple(sources), repeats=True)


def _range(distances: tuple[int, int]) -> str:
    low, high = distances
    if high == 255:
        return "all" if low <= 1 else f"≥ {low}"
    return str(low) if high == low + 1 else f"{low} to {high - 1}"


_KINDS = {
    ("idea", "paper"): "What the paper claims",
    ("idea", "mechanism"): "What the mechanism says",
    ("control", "mechanism"): "Controls (cue removed, or in every pixel)",
    ("learning rate", "mechanism"): "Other learning rates",
}


def _kind(values: Mapping[str, Value]) -> str:
    return _KINDS[str(values["purpose"]), str(values["source"])]


def matrix(shown: Sequence[tuple[Variant, Table]]) -> Table:
    """All predictions with their outcomes: these tables of predictions below each other, rows by their short names."""
    place = (Column("Table", align="left"), Column("Sub-task", align="left"))
    lines, outcomes, notes = [], dict[str, Counter[str]](), Notes()
    for variant, table in shown:
        for line in table.lines:
            told = [
                dataclasses.replace(cell, note=notes.mark(table.notes[cell.note - 1])) if cell.note else cell
                for cell in line.cells[1:]
            ]
            of = Cell(variant.study.number, sources=(Source(variant.study.number, f"#{table.slug}"),))
            names = line.cells[0].values
            rows = Cell(f"{names['row']} − {names['reference']}", names)
            runs = told[-1].sources  # those of the table's own page
            told[-1] = dataclasses.replace(
                told[-1], sources=(Source(f"{len(runs)} runs", f"#{table.slug}-{line.key}"),) if runs else ()
            )
            lines.append(Line(f"{table.slug}-{line.key}", (of, Cell(variant.panel.title), rows, *told)))
            outcomes.setdefault(_kind(names), Counter())[line.cells[-2].verdict] += 1
    counts = [f"{kind}: {in_counts(outcomes[kind])}" for kind in _KINDS.values() if kind in outcomes]
    caption = (
        f"{len(lines)} predictions. {'; '.join(counts)}.",
        "Each was written before the runs of its row, after trials of single rows, none of which was kept; those at "
        "other learning rates repeat what had been measured at the shared one.",
        "Accuracy in percent of labelled test pixels whose deciding cue lies at the distance named. Rows by their "
        "names on the command line; each table's own page has them in the paper's words.",
        *shown[0][1].caption[2:4],
        "Not resolved: in brackets the seeds per row that would resolve it at 80 % power.",
    )
    columns = (*place, *shown[0][1].columns)
    return Table("predictions", "Predictions about the generated data", caption, columns, tuple(lines), tuple(notes))


def at_a_glance(every: Table) -> list[Table]:
    """What a page about all predictions opens with: outcomes by table and kind, and the paper's own words in full."""
    counted: dict[str, dict[str, Counter[str]]] = {}
    for line in every.lines:
        kinds = counted.setdefault(line.cells[0].text, {})
        kinds.setdefault(_kind(line.cells[2].values), Counter())[line.cells[_OUTCOME].verdict] += 1
    total: dict[str, Counter[str]] = {}
    for kinds in counted.values():
        for kind, words in kinds.items():
            total.setdefault(kind, Counter()).update(words)
    columns = (Column("Table", align="left"), *(Column(kind, align="text") for kind in total))
    lines = tuple(
        Line(str(place), (Cell(name), *(Cell(in_counts(kinds.get(kind, Counter())) or "–") for kind in total)))
        for place, (name, kinds) in enumerate([("All tables", total), *counted.items()])
    )
    caption = (f"{len(every.lines)} predictions, written before the runs of their rows, and what came of them.",)
    glance = Table("predictions-glance", "Outcomes", caption, columns, lines)
    claimed = [line for line in every.lines if line.cells[2].values["source"] == "paper"]
    told = (
        "What the paper says that its parts do, tried on generated images: it decides nothing about the paper.",
        *every.caption[1:],
    )
    return [glance, part(every, "predictions-paper", "The paper's own words", told, claimed)]


def folds(every: Table) -> list[Fold]:
    """All predictions, table by table."""
    found: dict[str, list[Line]] = {}
    for line in every.lines:
        found.setdefault(str(line.cells[2].values["study"]), []).append(line)
    made = []
    for slug, lines in found.items():
        counts = in_counts(Counter(line.cells[_OUTCOME].verdict for line in lines))
        name = lines[0].cells[0].text
        own = part(every, f"predictions-{slug}", name, (f"{counts}.", *every.caption[1:]), lines)
        made.append(Fold(f"{name}: {len(lines)} predictions: {counts}", (own,)))
    return made


_OUTCOME = -2
"""The place of the outcome in a line about a prediction."""


def in_counts(words: Mapping[str, int]) -> str:
    """`4 here too, 1 opposite here`."""
    order = [ELSEWHERE.get(word, word) for word in verdicts.RULES]
    return ", ".join(f"{words[word]} {word}" for word in order if words.get(word))


def rates_tables(study: Study, shown: Sequence[tuple[Variant, Subtask, Runs]]) -> list[tuple[str, Table]]:
    """How far a sub-task's outcome depends on the learning rate that its rows share: a table for each that was trained
    at several, with the slug of the variant that it belongs after."""
    tasks: dict[str, dict[str, tuple[Variant, Subtask, Runs]]] = {}
    shared: dict[str, tuple[Variant, Subtask, Runs]] = {}
    for one in (one for one in shown if one[0].full):
        rate, task = one[1].learning_rate, one[1].task_name
        if rate is None:
            shared[task] = one
        else:
            tasks.setdefault(task, {})[f"{rate:g}"] = one
    found = []
    for task, rates in tasks.items():
        last, panel, _ = list(rates.values())[-1]
        if task in shared:
            rates[f"{last.protocol.recipes[panel.dataset].train.learning_rate:g}, test images"] = shared[task]
        found.append((last.slug, _rates_table(study, task, rates)))
    return found


def _rates_table(study: Study, task: str, found: Mapping[str, tuple[Variant, Subtask, Runs]]) -> Table:
    named = {row for _, panel, _ in found.values() for row in panel.rows}
    lines, notes = [], Notes()
    for row in (row for row in study.trained if row.slug in named):
        cells = [Cell(row.label, {"study": study.slug, "task": task, "row": row.slug})]
        for rate, (variant, _, runs) in found.items():
            own = runs.get(row.slug, ())
            values = within(ALL, own)
            where = rate.replace(", test images", "_test")
            names = (f"accuracy_at_{where}", f"seeds_at_{where}")
            mixed = mixed_runs(variant, runs, row.slug)
            sources = tuple(Source(f"@{run.seed}", run.record, "run record") for run in own)
            mean = statistics.fmean(values) if values else None
            facts: dict[str, Value] = dict(zip(names, (mean, len(values)), strict=True))
            facts[f"mixed_at_{where}"] = mixed or None
            cells.append(Cell(_mean(values), facts, sources=sources, note=notes.mark(mixed), repeats=True))
        lines.append(Line(row.slug, tuple(cells)))
    caption = (
        "Accuracy in percent of all labelled pixels outside the cue: mean over seeds ± half-width of the 95 % "
        "t-interval (seeds).",
        "Trained and tested on images from a seed of their own (splits tuning and tuning-val), so that no rate is "
        f"judged on the test images of the other tables. test images: those, at the rate that all other runs of {task} "
        "share.",
        "The differences are judged above, rate by rate.",
    )
    columns = (Column("Row", align="text"), *(Column(rate, "Learning rate") for rate in found))
    title = f"Learning rates, {task}"
    return Table(f"{study.slug}-rates-{task}", title, caption, columns, tuple(lines), tuple(notes))


def _mean(values: Sequence[float]) -> str:
    """Mean ± half-width of the t-interval (seeds), as far as there are seeds for it."""
    if len(values) < verdicts.MINIMUM_SEEDS:
        return f"{number(statistics.fmean(values), 1)} ({len(values)})" if values else "–"
    half = number(verdicts.mean_interval(values).half_width, 1)
    return f"{number(statistics.fmean(values), 1)} ± {half} ({len(values)})"


def learning_table(variant: Variant, panel: Subtask, runs: Runs, curves: Curves) -> Table:
    """How many seeds learnt the task, and when: such tasks are a plateau, then a jump, and one seed may lie."""
    columns = (
        Column("Row", align="text"),
        Column("Parameters trained"),
        Column("Accuracy (%)"),
        Column("Seeds", align="left"),
        Column("Learnt"),
        Column("Iterations to half the loss", align="left"),
        Column("Precision", align="left"),
    )
    threshold = learnt_from(panel)
    lines, notes = [], Notes()
    for row in variant.rows:
        found = runs.get(row.slug, ())
        values = within(ALL, found)
        drawn = filter(None, (curves.of(run.record) for run in found))
        reached = [one.fallen for one in drawn if one.fallen is not None]
        learnt = None if threshold is None else sum(value >= threshold for value in values)
        sources = tuple(Source(f"@{run.seed}", run.record, "run record") for run in found)
        median = statistics.median(reached) if reached else None
        mixed = mixed_runs(variant, runs, row.slug)
        facts: dict[str, Value] = {"accuracy": statistics.fmean(values) if values else None, "mixed": mixed or None}
        lines.append(
            Line(
                row.slug,
                (
                    Cell(row.label, {"study": variant.study.slug, "protocol": variant.name, "row": row.slug}),
                    _parameters(variant, row),
                    Cell(_mean(values), facts, note=notes.mark(mixed)),
                    Cell(" ".join(number(value, 1) for value in values) or "–", sources=sources),
                    Cell(
                        "–" if learnt is None or not values else f"{learnt} of {len(values)}",
                        {"seeds": len(values), "learnt": learnt},
                    ),
                    Cell(
                        "–" if median is None else f"{median:.0f} ({len(reached)})",
                        {"iterations_to_half_loss": median, "seeds_at_half_loss": len(reached)},
                    ),
                    precision_cell(variant.precisions(row.slug)),
                ),
            )
        )
    caption = (
        "Accuracy: of all labelled pixels outside the cue, mean over seeds ± half-width of the 95 % t-interval "
        "(seeds)."
        + ("" if threshold is None else f" Learnt: at least {threshold:.0f} %, half of the way from chance to all."),
        f"Iterations to half the loss: the median, over the seeds that get there (how many), of when the training "
        f"loss, averaged over {10 * WINDOW} iterations, falls below half of what it begins with.",
    )
    title = f"Learning, {panel.title}"
    return Table(f"{variant.slug}-learning", title, caption, columns, tuple(lines), tuple(notes))


def learnt_from(panel: Subtask) -> float | None:
    """The accuracy from which a run has learnt: `LEARNT` with two classes, as far from chance with more.

    None of `fine`, whose lines and discs are learnt apart.
    """
    if panel.task_name == "fine":
        return None
    chance = 100 / panel.classes
    return chance + (100 - chance) * (LEARNT - 50) / 50


def _parameters(variant: Variant, row: Row) -> Cell:
    found = {line.trained_params for line in variant.finished_by_row.get(row.slug, ())}
    value = found.pop() if len(found) == 1 else None
    return Cell("–" if value is None else f"{value:,}", {"trained_params": value})


def distance_figure(variant: Variant, panel: Subtask, runs: Runs) -> Drawing | None:
    """Accuracy against the distance to the cue, a line per row: mean over seeds, and their range.

    None without runs, or where every pixel has the same distance.
    """
    lines = [(row, points) for row in variant.rows if (points := points_by_distance(runs.get(row.slug, ())))]
    if all(len(points) < 2 for _, points in lines):
        return None
    what = TO_SEE.get(panel.task_name.removesuffix("-local"), "distance to the cue that decides the class")
    data: list[dict[str, Value]] = [
        {"row": row.slug, "distance": at.middle, "accuracy": at.mean, "lowest": at.lowest, "highest": at.highest}
        for row, points in lines
        for at in points
    ]
    described = [
        f"{row.label}: " + ", ".join(f"{at.mean:.0f} % at {at.middle:.0f} px" for at in points) for row, points in lines
    ]
    caption = (
        f"{panel.title}: accuracy against {what}; line: mean over seeds, band: from the lowest to the "
        f"highest seed, dotted: chance.{variant.mixtures}"
    )

    def draw() -> Figure:
        from matplotlib.ticker import MaxNLocator

        styles = row_styles([row.slug for row in variant.study.trained])
        figure = sheet(7.2, 3.4)
        axes = figure.subplots()
        for row, points in lines:
            colour, marker = styles[row.slug]
            x, means = [at.middle for at in points], [at.mean for at in points]
            lows, highs = [at.lowest for at in points], [at.highest for at in points]
            axes.plot(x, means, color=colour, marker=marker, markersize=4, linewidth=1.4, label=row.label)
            axes.fill_between(x, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(100 / panel.classes, color=INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel=f"{what} (pixels)", ylabel="accuracy (%)")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        lowest = (at.lowest - 2 for _, points in lines for at in points)
        axes.set_ylim(min([100 / panel.classes - 8, *lowest]), 102)
        figure.legend(loc="outside upper left", ncols=2)
        return figure

    return Drawing(f"{variant.slug}-distance", caption, "; ".join(described), to_csv(data), draw)
