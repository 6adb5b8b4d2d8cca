"""Figures of a variant: every seed with the rows' intervals, training losses, and IoU by class."""

from __future__ import annotations

import csv
import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing
from reports.blocks.style import INK, row_styles
from reports.blocks.table import METRICS, Value
from reports.evidence.gather import Variant
from studies.declare.study import Row
from studies.judge import verdicts
from studies.records.store import Store
from studies.records.typed import Damaged, content_of

MOST_POINTS = 300  # of a drawn curve; longer ones are averaged over windows
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
        lambda: _strip(rows, metrics, data, printed),
    )


def _strip(
    rows: Sequence[Row],
    metrics: Sequence[str],
    data: Sequence[Mapping[str, Value]],
    printed: Mapping[tuple[str, str], float],
) -> Figure:
    import pandas as pd
    import seaborn as sns

    frame = pd.DataFrame(data)
    slugs = [row.slug for row in rows]
    styles = row_styles(slugs)
    colours = {slug: styles[slug][0] for slug in slugs}
    names = [textwrap.fill(row.label, 28, max_lines=3, placeholder=" …") for row in rows]
    figure = Figure(
        figsize=(7.2, 0.7 + sum(0.2 + 0.16 * (1 + name.count("\n")) for name in names)), layout="constrained"
    )
    common = {"x": "value", "y": "row", "hue": "row", "order": slugs, "hue_order": slugs, "palette": colours}
    for axes, metric in zip(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True):
        chosen = frame[frame.metric == metric]
        sns.stripplot(chosen, **common, ax=axes, jitter=False, size=5, alpha=0.75, legend=False)
        for dots in axes.collections:
            dots.set_offsets(dots.get_offsets() - np.array([[0, 0.14]]))
        enough = chosen.groupby("row").filter(lambda found: len(found) >= verdicts.MINIMUM_SEEDS)
        if len(enough):
            options = {"linestyle": "none", "marker": "D", "markersize": 4.5, "err_kws": {"linewidth": 2}}
            before = len(axes.lines)
            sns.pointplot(enough, **common, ax=axes, errorbar=_interval, legend=False, **options)
            for line in axes.lines[before:]:
                line.set_ydata([y + 0.14 for y in line.get_ydata()])
        for place, slug in enumerate(slugs):
            if (slug, metric) in printed:
                axes.plot(printed[slug, metric], place, marker="|", markersize=16, markeredgewidth=1.5, color=INK)
        axes.set(title=METRICS[metric], xlabel="", ylabel="")
        axes.grid(False, axis="y")
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _interval(values: Sequence[float]) -> tuple[float, float]:
    found = verdicts.mean_interval(list(values))
    return found.low, found.high


def losses(variant: Variant, store: Store) -> Drawing | None:
    """The training loss of every row, its seeds as a band; None while there is no curve."""
    curves: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for line in variant.finished:
        try:
            points = read_curve(store.folder / "curves" / f"{line.run_id}.csv")
        except Damaged as damaged:
            store.damage.append(damaged)
            continue
        if points:
            curves[line.row, line.seed or 0] = points
    if not curves:
        return None
    described = "; ".join(
        f"{variant.study.row(slug).label}, seed {seed}: from {points[0][1]:.2f} to {points[-1][1]:.2f}"
        for (slug, seed), points in curves.items()
    )
    data: list[dict[str, Value]] = [
        {"row": slug, "seed": seed, "iteration": iteration, "loss": loss}
        for (slug, seed), points in curves.items()
        for iteration, loss in points
    ]
    legend = "training loss, mean over seeds; band: from the lowest to the highest seed."
    return Drawing(
        f"{variant.slug}-loss",
        f"Protocol {variant.name}: {legend}{variant.mixtures}",
        described,
        to_csv(data),
        lambda: _losses(variant.rows, data),
    )


def _losses(rows: Sequence[Row], data: Sequence[Mapping[str, Value]]) -> Figure:
    import pandas as pd
    import seaborn as sns

    frame = pd.DataFrame(data)
    styles = row_styles([row.slug for row in rows])
    drawn = [row for row in rows if row.slug in set(frame.row)]
    names = {row.slug: textwrap.fill(row.label, 40, max_lines=3, placeholder=" …") for row in drawn}
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    sns.lineplot(
        frame.assign(row=frame.row.map(names)),
        x="iteration",
        y="loss",
        hue="row",
        hue_order=list(names.values()),
        palette={names[row.slug]: styles[row.slug][0] for row in drawn},
        errorbar=("pi", 100),
        linewidth=1.1,
        ax=axes,
    )
    axes.set(xlabel="iteration", ylabel="training loss")
    axes.set_ylim(bottom=0)
    handles, labels = axes.get_legend_handles_labels()
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure


@dataclass(frozen=True)
class Point:
    """A line of a training curve's CSV: what of it is drawn."""

    iteration: float
    loss: float


def points_of(lines: Iterable[Mapping[str, str]]) -> list[Point]:
    """The points of the lines of a training curve's CSV. `ValueError` where one has no numbers."""
    return [msgspec.convert(line, Point, strict=False) for line in lines]


def read_curve(path: Path) -> list[tuple[float, float]]:
    """(iteration, finite loss), averaged over windows to at most MOST_POINTS; none without a file. Raises `Damaged`."""
    remedy = "restore it from git or delete it"
    content = content_of(path, remedy)
    try:
        lines = csv.DictReader((content or b"").decode().splitlines(), strict=True)
        points = [(point.iteration, point.loss) for point in points_of(lines)]
    except (ValueError, csv.Error) as error:
        raise Damaged(path, f"not a readable training curve ({error})", remedy) from None
    points = [(iteration, loss) for iteration, loss in points if math.isfinite(loss)]
    window = max(1, -(-len(points) // MOST_POINTS))
    chunks = (points[start : start + window] for start in range(0, len(points), window))
    return [(statistics.fmean(x for x, _ in chunk), statistics.fmean(y for _, y in chunk)) for chunk in chunks]


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
    import pandas as pd
    import seaborn as sns

    frame = pd.DataFrame(data).astype({"mean": float})
    drawn = [row for row in rows if row.slug in set(frame.row)]
    metrics = [metric for metric in BY_CLASS if metric in set(frame.metric)]
    names = list(dict.fromkeys(frame["class"]))
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
    figure = Figure(figsize=(7.2, height), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        chosen = frame[frame.metric == metric].pivot(index="class", columns="row", values="mean")
        chosen = chosen.reindex(index=names, columns=[row.slug for row in drawn])  # a row may lack one of the two
        sns.heatmap(
            chosen,
            vmin=0,
            vmax=100,
            cmap="cividis",
            annot=annotated,
            fmt=".0f",
            annot_kws={"size": 7},
            linewidths=0.4,
            cbar=axes is panels[-1],
            yticklabels=True,
            ax=axes,
        )
        axes.set(title=BY_CLASS[metric], xlabel="", ylabel="")
        axes.set_xticks([place + 0.5 for place in range(len(drawn))], labels, rotation=90 if upright else 0)
        axes.tick_params(length=0, labelsize=7)
        axes.tick_params(axis="y", labelrotation=0)
        axes.grid(False)
    return figure
