"""Figures of a variant: every seed with the rows' intervals, training losses, and IoU by class."""

from __future__ import annotations

import csv
import io
import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.points import Curves, Drawn
from reports.blocks.style import INK, row_styles
from reports.blocks.table import METRICS, Value
from studies.declare.study import Row
from studies.facts.gather import Variant
from studies.judge import verdicts
from studies.records.lines import Line
from studies.records.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

MANY_SEEDS = 50  # of a row: the data of its losses are their mean and range, not every seed
BRIGHT = 55  # percent from which a cell is too bright for white words
MOST_ANNOTATED = 40  # classes whose numbers are written into the heat map
BY_CLASS = {"iou": "IoU", "boundary_iou": "Boundary IoU"}


def strip(variant: Variant) -> Drawing | None:
    """Every seed of every row as a dot, with mean and t-interval; None while nothing is measured."""
    rows = variant.rows
    metrics = [m for m in variant.panel.accuracies if any(variant.values(row.slug, m) for row in rows)]
    if not metrics:
        return None
    data: list[dict[str, Value]] = [
        {
            "row": row.slug,
            "metric": metric,
            "seed": seed.seed,
            "value": seed.value,
            "precision": variant.precision_of([seed]),
            "record": seed.record,
        }
        for metric in metrics
        for row in rows
        for seed in variant.measured(row.slug, metric)
    ]
    printed = {
        (row.slug, metric): value
        for row in rows
        for metric in metrics
        if variant.comparable and (value := row.prints(variant.panel, metric)) is not None
    }
    tick = " Vertical tick: the printed value." if variant.comparable else ""
    legend = f"one dot per seed; diamond and bar: mean and 95 % t-interval, from 3 seeds on.{tick}"
    seeds = {(row.slug, metric): variant.values(row.slug, metric) for row in rows for metric in metrics}
    described = [
        f"{row.label}, {METRICS[m]}: {', '.join(f'{value:.2f}' for value in variant.values(row.slug, m))}"
        + (f" (printed {printed[row.slug, m]})" if (row.slug, m) in printed else "")
        for row in rows
        for m in metrics
        if variant.values(row.slug, m)
    ]
    return Drawing(
        f"{variant.slug}-seeds",
        f"Protocol {variant.name}: {legend}{variant.mixtures}",
        "; ".join(described),
        to_csv(data),
        lambda: _strip(rows, metrics, seeds, printed),
    )


def _strip(
    rows: Sequence[Row],
    metrics: Sequence[str],
    seeds: Mapping[tuple[str, str], Sequence[float]],
    printed: Mapping[tuple[str, str], float],
) -> Figure:
    styles = row_styles([row.slug for row in rows])
    names = [textwrap.fill(row.label, 28, max_lines=3, placeholder=" …") for row in rows]
    figure = sheet(7.2, 0.7 + sum(0.2 + 0.16 * (1 + name.count("\n")) for name in names))
    for axes, metric in zip(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True):
        for place, row in enumerate(rows):
            colour = styles[row.slug][0]
            values = seeds[row.slug, metric]
            axes.scatter(values, [place - 0.14] * len(values), s=25, color=colour, alpha=0.75, linewidth=0)
            if len(values) >= verdicts.MINIMUM_SEEDS:
                found = verdicts.mean_interval(values)
                axes.hlines(place + 0.14, found.low, found.high, color=colour, linewidth=2)
                axes.plot(statistics.fmean(values), place + 0.14, marker="D", markersize=4.5, color=colour)
            if (row.slug, metric) in printed:
                axes.plot(printed[row.slug, metric], place, marker="|", markersize=16, markeredgewidth=1.5, color=INK)
        axes.set(title=METRICS[metric])
        axes.grid(False, axis="y")
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def losses(variant: Variant, curves: Curves) -> Drawing | None:
    """The training loss of every row, its seeds as a band; None while there is no curve."""
    found = [(line, drawn) for line in variant.finished if (drawn := curves.of(line.run_id)) and drawn.losses]
    if not found:
        return None
    labels = {row.slug: row.label for row in variant.study.trained}
    many = max(Counter(line.row for line, _ in found).values()) > MANY_SEEDS
    described, text = (_loss_of_rows if many else _loss_of_seeds)(found, labels)
    legend = "training loss, mean over seeds; band: from the lowest to the highest seed."
    legend += f" Its CSV has these, not each seed: a row has over {MANY_SEEDS}." if many else ""
    return Drawing(
        f"{variant.slug}-loss",
        f"Protocol {variant.name}: {legend}{variant.mixtures}",
        "; ".join(described),
        text,
        lambda: _losses(variant.rows, (_bands if many else _bands_of_seeds)(text)),
    )


Found = Sequence[tuple[Line, Drawn]]


def _loss_of_seeds(found: Found, labels: Mapping[str, str]) -> tuple[list[str], str]:
    """In words from where to where each seed's loss went, and all points as CSV."""
    described, buffer = list[str](), io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("row", "seed", "iteration", "loss"))
    for line, drawn in found:
        points, seed = drawn.points, line.seed or 0
        described.append(f"{labels[line.row]}, seed {seed}: from {points[0][1]:.2f} to {points[-1][1]:.2f}")
        writer.writerows((line.row, seed, *point) for point in points)
    return described, buffer.getvalue()


def _loss_of_rows(found: Found, labels: Mapping[str, str]) -> tuple[list[str], str]:
    """The same of rows with many seeds: by row and iteration how many there are, their mean, lowest and highest."""
    described, buffer = list[str](), io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("row", "iteration", "seeds", "mean", "lowest", "highest"))
    rows: dict[str, list[Drawn]] = {}
    for line, drawn in found:
        rows.setdefault(line.row, []).append(drawn)
    for row, own in rows.items():
        x = np.frombuffer(b"".join(drawn.iterations for drawn in own))
        order = np.argsort(x, kind="stable")
        y = np.frombuffer(b"".join(drawn.losses for drawn in own))[order]
        iterations, starts, seeds = np.unique(x[order], return_index=True, return_counts=True)
        means, lows, highs = (add.reduceat(y, starts) for add in (np.add, np.minimum, np.maximum))
        means = means / seeds
        described.append(f"{labels[row]}, {len(own)} seeds: from {means[0]:.2f} to {means[-1]:.2f}")
        told = ([f"{value:.6g}" for value in values] for values in (means, lows, highs))
        writer.writerows(zip(repeat(row), iterations.tolist(), seeds.tolist(), *told))
    return described, buffer.getvalue()


Band = tuple[float, float, float, float]
"""An iteration, and there the mean loss, the lowest and the highest."""


def _bands_of_seeds(text: str) -> dict[str, list[Band]]:
    """What is drawn of each row, from the CSV of every seed."""
    curves: dict[str, dict[float, list[float]]] = {}
    _, *lines = csv.reader(text.splitlines())
    for row, _, iteration, loss in lines:
        curves.setdefault(row, {}).setdefault(float(iteration), []).append(float(loss))
    return {
        row: [(x, statistics.fmean(values), min(values), max(values)) for x, values in sorted(own.items())]
        for row, own in curves.items()
    }


def _bands(text: str) -> dict[str, list[Band]]:
    """The same from the CSV of many seeds."""
    found: dict[str, list[Band]] = {}
    _, *lines = csv.reader(text.splitlines())
    for row, iteration, _, *values in lines:
        mean, low, high = map(float, values)
        found.setdefault(row, []).append((float(iteration), mean, low, high))
    return found


def _losses(rows: Sequence[Row], bands: Mapping[str, Sequence[Band]]) -> Figure:
    styles = row_styles([row.slug for row in rows])
    figure = sheet(7.2, 3.2)
    axes = figure.subplots()
    for row in (row for row in rows if row.slug in bands):
        x, means, lows, highs = zip(*bands[row.slug], strict=True)
        name = textwrap.fill(row.label, 40, max_lines=3, placeholder=" …")
        colour = styles[row.slug][0]
        axes.fill_between(x, lows, highs, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, means, color=colour, linewidth=1.1, label=name)
    axes.set(xlabel="iteration", ylabel="training loss")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def classes(variant: Variant, store: Store) -> Drawing | None:
    """IoU and boundary IoU of every class in every row, mean over seeds; None while no record has them."""
    data: list[dict[str, Value]] = []
    told = Counter[str]()
    for row in variant.rows:
        found = [store.finished(line.run_id) for line in variant.finished_by_row.get(row.slug, ())]
        for metric in BY_CLASS:
            known = [(record.classes, by_class) for record in found if (by_class := record.metrics.by_class(metric))]
            for place, name in enumerate(known[0][0] if known else ()):
                values = [value for _, by_class in known if (value := by_class[place]) is not None]
                mean = statistics.fmean(values) if values else None
                told[metric] += mean is not None
                data.append({"row": row.slug, "metric": metric, "class": name, "mean": mean, "n": len(values)})
    if not data:
        return None
    described = (
        "; ".join(f"{BY_CLASS[m]}: {told[m]} values" for m in BY_CLASS if told[m]) + f". Rows: {_names(variant)}"
    )
    legend = f"IoU and boundary IoU by class in percent, mean over seeds.{variant.mixtures}"
    caption = f"Protocol {variant.name}: {legend}"
    return Drawing(f"{variant.slug}-classes", caption, described, to_csv(data), lambda: _classes(variant.rows, data))


def _names(variant: Variant) -> str:
    return ", ".join(row.label for row in variant.rows)


def _classes(rows: Sequence[Row], data: Sequence[Mapping[str, Value]]) -> Figure:
    means = {(str(row), str(metric), str(name)): mean for row, metric, name, mean, _ in (one.values() for one in data)}
    measured = {(row, metric) for row, metric, _ in means}
    drawn = [row for row in rows if any((row.slug, metric) in measured for metric in BY_CLASS)]
    metrics = [metric for metric in BY_CLASS if any(metric == known for _, known in measured)]
    names = list(dict.fromkeys(name for *_, name in means))
    annotated = len(names) <= MOST_ANNOTATED
    room = 6.2 / len(metrics) / len(drawn)  # inches of a column
    upright = len(drawn) > 4
    if upright:  # as many lines as stand side by side
        width, lines = 28, min(3, max(1, int(room / 0.13)))
    else:
        width, lines = int(room / 0.07), 4
    labels = [textwrap.fill(row.label, width, max_lines=lines, placeholder=" …") for row in drawn]
    below = 0.6 + 0.065 * max(len(line) for label in labels for line in label.split("\n")) if upright else 1.1
    height = below + max(1.0, len(names) * (0.2 if annotated else 0.11))
    figure = sheet(7.2, height)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        # A row may lack one of the two metrics, a class be nowhere in the split.
        known = [[means.get((row.slug, metric, name)) for row in drawn] for name in names]
        values = np.array([[math.nan if value is None else value for value in line] for line in known], dtype=float)
        _heat_map(axes, values, annotated, axes is panels[-1])
        axes.set(title=BY_CLASS[metric])
        axes.set_xticks([place + 0.5 for place in range(len(drawn))], labels, rotation=90 if upright else 0)
        axes.set_yticks([place + 0.5 for place in range(len(names))], names)
    return figure


def _heat_map(axes: Axes, values: Array, annotated: bool, bar: bool) -> None:
    """Percents as colours, the first line at the top; `annotated`: with their numbers; `bar`: with the scale."""
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), vmin=0, vmax=100, cmap="cividis", edgecolors="white", linewidth=0.4
    )
    for place, line in enumerate(values if annotated else ()):
        for column, value in enumerate(line):
            if not math.isnan(value):
                colour = "white" if value < BRIGHT else INK
                axes.text(column + 0.5, place + 0.5, f"{value:.0f}", ha="center", va="center", size=7, color=colour)
    if bar:
        axes.figure.colorbar(mesh, ax=axes).outline.set_visible(False)
    axes.set_ylim(len(values), 0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=7)
    axes.grid(False)
