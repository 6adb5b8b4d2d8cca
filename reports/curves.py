"""Figures: per-seed strips with intervals, and training losses. Each as SVG, PNG and PDF with the CSV behind it."""

from __future__ import annotations

import csv
import io
import statistics
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import verdicts
from reports.evidence import Variant
from reports.formats import to_csv
from reports.style import FIGURE, row_styles
from reports.table import METRICS, Value

MOST_POINTS = 300  # of a drawn curve; longer ones are averaged over windows


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption, the words for those who cannot see it, and the data it was drawn from."""

    slug: str
    caption: str
    description: str
    svg: str
    png: bytes
    pdf: bytes
    csv: str

    @property
    def files(self) -> dict[str, str | bytes]:
        """By name."""
        return {f"{self.slug}.{ending}": getattr(self, ending) for ending in ("svg", "png", "pdf", "csv")}


def strip(variant: Variant) -> Drawing | None:
    """Every seed of every row as a dot, with mean and t-interval; None while nothing is measured."""
    rows = variant.rows
    metrics = [m for m in variant.panel.accuracies if any(variant.values(row.slug, m) for row in rows)]
    if not metrics:
        return None
    styles = row_styles([row.slug for row in rows])
    names = [textwrap.fill(row.label, 28) for row in rows]
    height = 0.7 + sum(0.2 + 0.16 * (1 + name.count("\n")) for name in names)
    data: list[dict[str, Value]] = []
    with matplotlib.rc_context(FIGURE):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        for axes, metric in zip(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True):
            for place, row in enumerate(rows):
                seeds = variant.measured(row.slug, metric)
                _strip_row(axes, place, [seed.value for seed in seeds], *styles[row.slug])
                printed = row.prints(variant.panel, metric)
                if variant.comparable and printed is not None:
                    axes.plot(
                        printed,
                        place,
                        marker="|",
                        markersize=16,
                        markeredgewidth=1.5,
                        color=FIGURE["text.color"],
                    )
                data += [
                    {"row": row.slug, "metric": metric, "seed": s.seed, "value": s.value, "record": s.record}
                    for s in seeds
                ]
            axes.set_title(METRICS[metric])
            axes.grid(False, axis="y")
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        pictures = save(figure)
    tick = " Vertical tick: the printed value." if variant.comparable else ""
    legend = f"one dot per seed; diamond and bar: mean and 95 % t-interval, from 3 seeds on.{tick}"
    caption = f"Protocol {variant.name}: {legend}"
    described = [
        f"{row.label}, {METRICS[m]}: {', '.join(f'{value:.2f}' for value in variant.values(row.slug, m))}"
        for row in rows
        for m in metrics
        if variant.values(row.slug, m)
    ]
    return Drawing(f"{variant.slug}-seeds", caption, "; ".join(described), *pictures, to_csv(data))


def _strip_row(axes: Axes, place: int, values: list[float], colour: str, marker: str) -> None:
    axes.plot(values, [place - 0.14] * len(values), linestyle="", marker=marker, markersize=5, color=colour, alpha=0.75)
    if len(values) >= verdicts.MINIMUM_SEEDS:
        interval = verdicts.mean_interval(values)
        axes.plot([interval.low, interval.high], [place + 0.14] * 2, color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(statistics.fmean(values), place + 0.14, marker="D", markersize=5, color=colour)


def losses(variant: Variant, results: Path) -> Drawing | None:
    """The training loss of every finished run with a curve; None while there is none."""
    paths = {(line["row"], line["seed"]): results / "curves" / f"{line['run_id']}.csv" for line in variant.finished}
    found = {key: read_curve(path) for key, path in paths.items() if path.exists()}
    curves = {key: points for key, points in found.items() if points}
    if not curves:
        return None
    study = variant.study
    styles = row_styles([row.slug for row in study.trained])
    with matplotlib.rc_context(FIGURE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for (slug, _), points in curves.items():
            axes.plot(*zip(*points, strict=True), color=styles[slug][0], linewidth=0.9, alpha=0.8)
        axes.set(xlabel="iteration", ylabel="training loss")
        axes.set_ylim(bottom=0)
        drawn = {slug: study.row(slug).label for slug, _ in curves}
        handles = [Line2D([], [], color=styles[slug][0], label=textwrap.fill(name, 40)) for slug, name in drawn.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
        pictures = save(figure)
    legend = "training loss, one thin line per seed, averaged over windows where curves are long."
    described = "; ".join(
        f"{drawn[slug]}, seed {seed}: from {points[0][1]:.2f} to {points[-1][1]:.2f}"
        for (slug, seed), points in curves.items()
    )
    data = [
        {"row": slug, "seed": seed, "iteration": iteration, "loss": loss}
        for (slug, seed), points in curves.items()
        for iteration, loss in points
    ]
    return Drawing(f"{variant.slug}-loss", f"Protocol {variant.name}: {legend}", described, *pictures, to_csv(data))


def read_curve(path: Path) -> list[tuple[float, float]]:
    """(iteration, loss), averaged over windows to at most MOST_POINTS. `ValueError` names a damaged file."""
    try:
        with path.open(newline="") as file:
            points = [(float(line["iteration"]), float(line["loss"])) for line in csv.DictReader(file, strict=True)]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable training curve ({error}); restore it from git or delete it") from None
    window = max(1, -(-len(points) // MOST_POINTS))
    chunks = (points[start : start + window] for start in range(0, len(points), window))
    return [(statistics.fmean(x for x, _ in chunk), statistics.fmean(y for _, y in chunk)) for chunk in chunks]


def save(figure: Figure) -> tuple[str, bytes, bytes]:
    """The figure as SVG, PNG and PDF."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not for every format
    svg, png, pdf = io.StringIO(), io.BytesIO(), io.BytesIO()
    nothing: Mapping[str, None] = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # the same bytes at any time
    figure.savefig(svg, format="svg", metadata=nothing)
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    figure.savefig(pdf, format="pdf", metadata=dict.fromkeys(("Creator", "Producer", "CreationDate")))
    return svg.getvalue(), png.getvalue(), pdf.getvalue()
