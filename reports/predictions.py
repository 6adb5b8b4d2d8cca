"""Sub-tasks of the generated data: what was predicted before the runs, beside what came out; accuracy by distance."""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from reports import verdicts
from reports.drawing import Drawing
from reports.evidence import Variant
from reports.formats import to_csv
from reports.style import INK, row_styles
from reports.table import Cell, Column, Line, Source, Table, Value, number
from reports.verdicts import Interval
from studies.store import Record
from studies.study import Row
from studies.subtasks import CHANCE, LEARNT, MARGIN, Prediction, Subtask

BINS = (1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 112, 128, 255)
"""Edges of the distances that a point of a figure stands for, in pixels: 4 are one step of the first stage."""

LEAST_PIXELS = 500
"""Fewer in a bin are not drawn."""

WINDOW = 5
"""Points of a training curve, 10 iterations apart, that its loss is averaged over before it is said to have fallen."""

_SIGNS = {"+": "above", "-": "below", "0": f"equal (±{MARGIN:.0f})"}


@dataclass(frozen=True)
class ByDistance:
    """Of one run: labelled pixels, and those predicted right, by whole distance to the deciding cue."""

    seed: int
    record: str
    pixels: tuple[int, ...]
    right: tuple[int, ...]

    def accuracy(self, distances: tuple[int, int]) -> float | None:
        """In percent, over pixels at these distances, the second excluded; None where there is no such pixel."""
        pixels = sum(self.pixels[slice(*distances)])
        return 100 * sum(self.right[slice(*distances)]) / pixels if pixels else None


def by_distance(variant: Variant, records: Mapping[str, Record]) -> dict[str, list[ByDistance]]:
    """Every finished run of a sub-task, by row."""
    found: dict[str, list[ByDistance]] = {}
    for line in variant.finished:
        if cue := records[line["run_id"]].get("cue"):
            counts = (tuple(map(int, cue[name].split())) for name in ("pixels", "right"))
            found.setdefault(line["row"], []).append(ByDistance(line["seed"], line["run_id"], *counts))
    return found


def judge(prediction: Prediction, runs: Mapping[str, Sequence[ByDistance]], chance: float) -> verdicts.Judgement:
    """Whether a prediction holds: Welch's interval of the difference lies on its side of 0, or, of no difference, the
    90 % interval within `MARGIN`; to chance, Student's."""
    first = _accuracies(runs.get(prediction.row, ()), prediction)
    second = _accuracies(runs.get(prediction.reference, ()), prediction) if prediction.reference != CHANCE else None
    samples = [sample for sample in (first, second) if sample is not None]
    if not all(samples):
        return verdicts.Judgement("pending")
    difference = statistics.fmean(first) - (chance if second is None else statistics.fmean(second))
    if min(map(len, samples)) < verdicts.MINIMUM_SEEDS:
        return verdicts.Judgement("few seeds", difference)
    interval, narrower = (_interval(first, second, chance, level) for level in (0.95, 0.90))
    return verdicts.Judgement(_verdict(prediction.sign, interval, narrower), difference, interval)


def _accuracies(runs: Sequence[ByDistance], prediction: Prediction) -> list[float]:
    values = (run.accuracy(prediction.distances) for run in runs)
    return [value for value in values if value is not None]


def _interval(first: Sequence[float], second: Sequence[float] | None, chance: float, level: float) -> Interval:
    if second is None:
        return verdicts.mean_interval([value - chance for value in first], level)
    return verdicts.welch_interval(first, second, level)


def _verdict(sign: str, interval: Interval, narrower: Interval) -> str:
    if sign == "0":
        wrong = interval.low > MARGIN or interval.high < -MARGIN
        return "supported" if narrower.inside(MARGIN) else "contradicted" if wrong else "not resolved"
    low, high = (interval.low, interval.high) if sign == "+" else (-interval.high, -interval.low)
    return "supported" if low > 0 else "contradicted" if high < 0 else "not resolved"


def prediction_table(variant: Variant, panel: Subtask, runs: Mapping[str, Sequence[ByDistance]]) -> Table:
    """What was predicted of a sub-task's rows, and what came out, the refuted among them."""
    labels = {row.slug: row.label for row in variant.rows} | {CHANCE: "chance"}
    columns = (
        Column("Difference of", align="text"),
        Column("Distance (px)", align="left"),
        Column("Predicted", align="text"),
        Column("Because", align="text"),
        Column("Difference [95 % interval]"),
        Column("Outcome", align="left"),
        Column("Accuracies (%)", align="left"),
    )
    lines = []
    for place, prediction in enumerate(panel.predictions):
        judgement = judge(prediction, runs, 100 / panel.classes)
        identity: dict[str, Value] = {
            "study": variant.study.slug,
            "task": panel.task_name,
            "row": prediction.row,
            "reference": prediction.reference,
            "from": prediction.distances[0],
            "below": prediction.distances[1],
            "predicted": prediction.sign,
            "source": prediction.source,
            "seeds": len(runs.get(prediction.row, ())),
        }
        low, high = (judgement.interval.low, judgement.interval.high) if judgement.interval else (None, None)
        lines.append(
            Line(
                f"{prediction.row}-{prediction.reference}-{place}",
                (
                    Cell(f"{labels[prediction.row]} − {labels[prediction.reference]}", identity),
                    Cell(_range(prediction.distances)),
                    Cell(f"{_SIGNS[prediction.sign]}, says the {prediction.source}"),
                    Cell(prediction.why),
                    Cell(_shown(judgement), {"difference": judgement.difference, "low": low, "high": high}),
                    Cell(judgement.verdict, {"outcome": judgement.verdict}, verdict=judgement.verdict),
                    _both(prediction, runs, 100 / panel.classes),
                ),
            )
        )
    changes = ", ".join(f"{name} {value}" for name, value in panel.changes.items())
    caption = (
        f"Accuracy in percent of labelled pixels whose deciding cue lies at the distance named; chance is "
        f"{100 / panel.classes:.0f} %.",
        f"Written in studies/tables/{variant.study.slug}.py before the runs: every record's commit has it.",
        "The paper says what it claims of a part; the mechanism, what follows from the pixels that a row sees.",
        f"Outcome: Welch's 95 % interval over seeds on the predicted side of 0; for no difference, the 90 % interval "
        f"within ±{MARGIN:.0f} points. Not corrected for the number of predictions.",
        f"Every row trained with {changes}; what differs between rows is the table's.",
    )
    return Table(f"{variant.slug}-predictions", f"Predictions, {panel.title}", caption, columns, tuple(lines))


def _shown(judgement: verdicts.Judgement) -> str:
    if judgement.difference is None:
        return "–"
    interval = judgement.interval
    within = f" [{number(interval.low, 1, signed=True)}, {number(interval.high, 1, signed=True)}]" if interval else ""
    return number(judgement.difference, 1, signed=True) + within


def _both(prediction: Prediction, runs: Mapping[str, Sequence[ByDistance]], chance: float) -> Cell:
    shown, values, sources = [], dict[str, Value](), list[Source]()
    for name, slug in (("accuracy", prediction.row), ("reference_accuracy", prediction.reference)):
        found = _accuracies(runs.get(slug, ()), prediction)
        mean = chance if slug == CHANCE else statistics.fmean(found) if found else None
        values[name] = mean
        shown.append("–" if mean is None else f"{number(mean, 1)} ({len(found)})" if found else number(mean, 1))
        sources += [Source(f"{slug}@{run.seed}", run.record, "run record") for run in runs.get(slug, ())]
    return Cell(" − ".join(shown), values, sources=tuple(sources))


def _range(distances: tuple[int, int]) -> str:
    low, high = distances
    if high == 255:
        return "all" if low <= 1 else f"≥ {low}"
    return f"{low} to {high - 1}"


def matrix(shown: Sequence[tuple[Variant, Table]]) -> Table:
    """All predictions with their outcomes: these tables of predictions below each other."""
    place = (Column("Table", align="left"), Column("Sub-task", align="left"))
    lines, outcomes = [], Counter[str]()
    for variant, table in shown:
        for line in table.lines:
            of = Cell(variant.study.number, sources=(Source(variant.study.number, f"#{table.slug}"),))
            lines.append(Line(f"{table.slug}-{line.key}", (of, Cell(variant.panel.title), *line.cells)))
            outcomes[line.cells[-2].verdict] += 1
    counts = ", ".join(f"{outcomes[word]} {word}" for word in verdicts.RULES if outcomes[word])
    caption = (
        f"{len(lines)} predictions, written before the runs: {counts}.",
        "Accuracy in percent of labelled test pixels whose deciding cue lies at the distance named.",
        *shown[0][1].caption[2:4],
    )
    columns = (*place, *shown[0][1].columns)
    return Table("predictions", "Predictions about the generated data", caption, columns, tuple(lines))


def learning_table(variant: Variant, panel: Subtask, runs: Mapping[str, Sequence[ByDistance]], results: Path) -> Table:
    """How many seeds learnt the task, and when: such tasks are a plateau, then a jump, and one seed may lie."""
    columns = (
        Column("Row", align="text"),
        Column("Parameters trained"),
        Column("Accuracy (%)"),
        Column("Seeds", align="left"),
        Column("Learnt"),
        Column("Iterations to it"),
    )
    lines = []
    for row in variant.rows:
        found = runs.get(row.slug, ())
        values = [value for run in found if (value := run.accuracy((1, 255))) is not None]
        steps = [fallen(results / "curves" / f"{run.record}.csv") for run in found]
        reached = [step for step in steps if step is not None]
        threshold = learnt_from(panel)
        learnt = sum(value >= threshold for value in values)
        text = "–"
        if len(values) >= verdicts.MINIMUM_SEEDS:
            interval = verdicts.mean_interval(values)
            text = f"{number(statistics.fmean(values), 1)} ± {number(interval.half_width, 1)}"
        elif values:
            text = number(statistics.fmean(values), 1)
        sources = tuple(Source(f"@{run.seed}", run.record, "run record") for run in found)
        median = statistics.median(reached) if reached else None
        lines.append(
            Line(
                row.slug,
                (
                    Cell(row.label, {"study": variant.study.slug, "task": panel.task_name, "row": row.slug}),
                    _parameters(variant, row),
                    Cell(text, {"accuracy": statistics.fmean(values) if values else None}),
                    Cell(" ".join(number(value, 1) for value in values) or "–", sources=sources),
                    Cell(f"{learnt} of {len(values)}" if values else "–", {"seeds": len(values), "learnt": learnt}),
                    Cell("–" if median is None else f"{median:.0f}", {"iterations_to_learn": median}),
                ),
            )
        )
    caption = (
        f"Accuracy: of all labelled pixels outside the cue, mean over seeds ± half-width of the 95 % t-interval. "
        f"Learnt: at least {threshold:.0f} %, half of the way from chance to all.",
        f"Iterations to it: the median, over the seeds that get there, of when the training loss, averaged over "
        f"{10 * WINDOW} iterations, falls below half of what it begins with.",
    )
    return Table(f"{variant.slug}-learning", f"Learning, {panel.title}", caption, columns, tuple(lines))


def learnt_from(panel: Subtask) -> float:
    """The accuracy from which a run has learnt: `LEARNT` with two classes, as far from chance with more."""
    chance = 100 / panel.classes
    return chance + (100 - chance) * (LEARNT - 50) / 50


def _parameters(variant: Variant, row: Row) -> Cell:
    found = {line["trained_params"] for line in variant.finished if line["row"] == row.slug}
    value = found.pop() if len(found) == 1 else None
    return Cell("–" if value is None else f"{value:,}", {"trained_params": value})


def fallen(path: Path) -> int | None:
    """The iteration at which a training loss has fallen below half of what it began with; None where it has not."""
    if not path.exists():
        return None
    with path.open(newline="") as file:
        points = [(int(line["iteration"]), float(line["loss"])) for line in csv.DictReader(file)]
    means = [
        (points[end - 1][0], statistics.fmean(loss for _, loss in points[end - WINDOW : end]))
        for end in range(WINDOW, len(points) + 1)
    ]
    return next((iteration for iteration, loss in means if loss < means[0][1] / 2), None)


def distance_figure(variant: Variant, panel: Subtask, runs: Mapping[str, Sequence[ByDistance]]) -> Drawing | None:
    """Accuracy against the distance to the cue, a line per row: mean over seeds, and their range; None without runs."""
    if not runs:
        return None
    lines = [(row, points) for row in variant.rows if (points := _points(runs.get(row.slug, ())))]
    data: list[dict[str, Value]] = [
        {"row": row.slug, "distance": at, "accuracy": mean, "lowest": low, "highest": high}
        for row, points in lines
        for at, mean, low, high in points
    ]
    described = [
        f"{row.label}: " + ", ".join(f"{mean:.0f} % at {at:.0f} px" for at, mean, *_ in points) for row, points in lines
    ]
    caption = (
        f"{panel.title}: accuracy against distance to the cue; line: mean over seeds, band: from the lowest to the "
        "highest seed, dotted: chance."
    )

    def draw() -> Figure:
        styles = row_styles([row.slug for row in variant.study.trained])
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for row, points in lines:
            colour, marker = styles[row.slug]
            x, means, lows, highs = (list(values) for values in zip(*points, strict=True))
            axes.plot(x, means, color=colour, marker=marker, markersize=4, linewidth=1.4, label=row.label)
            axes.fill_between(x, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(100 / panel.classes, color=INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel="distance to the cue that decides the class (pixels)", ylabel="accuracy (%)")
        lowest = (low - 2 for _, points in lines for *_, low, _ in points)
        axes.set_ylim(min([100 / panel.classes - 8, *lowest]), 102)
        figure.legend(loc="outside upper left", ncols=2)
        return figure

    return Drawing(f"{variant.slug}-distance", caption, "; ".join(described), to_csv(data), draw)


def _points(runs: Sequence[ByDistance]) -> list[tuple[float, float, float, float]]:
    """Middle of a bin, mean over seeds, lowest and highest."""
    points = []
    for edges in itertools.pairwise(BINS):
        if any(sum(run.pixels[slice(*edges)]) < LEAST_PIXELS for run in runs) or not runs:
            continue
        values = [value for run in runs if (value := run.accuracy(edges)) is not None]
        pixels = runs[0].pixels[slice(*edges)]
        middle = sum(count * (edges[0] + place) for place, count in enumerate(pixels)) / sum(pixels)
        points.append((round(middle, 2), statistics.fmean(values), min(values), max(values)))
    return [point for point in points if not math.isnan(point[1])]
