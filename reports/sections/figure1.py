"""Fig. 1: mIoU against FLOPs, circles as large as the networks; and what the rows of a table cost, as bars."""

from __future__ import annotations

import itertools
import math
import re
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.style import COLOURS, INK, row_styles
from reports.blocks.table import METRICS, Value, number
from reports.sections.tables import cost_slug
from studies.declare.study import Panel, Reported, Row
from studies.facts.gather import UNITS, Evidence
from studies.judge import others, verdicts
from studies.judge.pooling import mixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLUG = "figure1"
PANELS = ("cityscapes", "ade20k")  # the left and the right of Fig. 1
AREA = 6.0  # of a circle, in square points per million parameters
UNKNOWN = 30.0  # the same where the paper prints no size
OURS = "SegNeXt"

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""


@dataclass(frozen=True)
class Spot:
    """A row on one dataset: what the paper prints and, of our own rows, what was measured."""

    dataset: str
    row: str
    family: str
    label: str
    gflops: float
    printed: float
    parameters: float | None
    measured: tuple[float, ...]
    mixed: str  # what the runs behind them do not share
    counted: float | None  # GFLOPs measured here
    others: tuple[float, ...]  # mIoU in others' runs, one value a source

    @property
    def area(self) -> float:
        """In square points."""
        return UNKNOWN if self.parameters is None else AREA * self.parameters


def figure1(everything: Sequence[Evidence]) -> Drawing | None:
    """Fig. 1 from Table 9: printed values of all rows, and our own where they are measured."""
    evidence = next((found for found in everything if found.study.slug == "table9"), None)
    if evidence is None:
        return None
    spots = [spot for name in PANELS for spot in _spots(evidence, evidence.study.panel(name))]
    data: list[dict[str, Value]] = [
        {
            "dataset": spot.dataset,
            "row": spot.row,
            "gflops_printed": spot.gflops,
            "gflops_measured": spot.counted,
            "params_m_printed": spot.parameters,
            "miou_ss_printed": spot.printed,
            "miou_ss_mean": statistics.fmean(spot.measured) if spot.measured else None,
            "miou_ss_values": " ".join(map(repr, spot.measured)),
            "miou_ss_mixed": spot.mixed or None,
            "miou_ss_others": " ".join(map(repr, spot.others)),
        }
        for spot in spots
    ]
    caption = (
        "Fig. 1, mIoU (SS) against GFLOPs. Circles: as printed, their area the parameters (cross: none printed); dots: "
        "FLOPs measured here; dashes: mIoU in others' runs."
    )
    if any(spot.measured for spot in spots):
        caption += " Diamonds: mIoU measured here, mean with its 95 % t-interval from 3 seeds on."
    caption += "".join(f" † {spot.label}, {spot.dataset}: {spot.mixed}." for spot in spots if spot.mixed)
    described = "; ".join(f"{spot.label}, {spot.dataset}: {spot.gflops} G, {spot.printed}" for spot in spots)
    titles = [evidence.study.panel(name).title for name in PANELS]
    return Drawing(SLUG, caption, described, to_csv(data), lambda: _figure1(spots, titles))


def _spots(evidence: Evidence, panel: Panel) -> Iterator[Spot]:
    first, known = evidence.study.panels[0], others.published()
    for row in evidence.study.rows:
        gflops, printed = row.prints(panel, "gflops"), row.prints(panel, "miou_ss")
        if gflops is None or printed is None:
            continue
        family, _, size = row.name.partition("-")
        shown = [v for v in evidence.variants if isinstance(row, Row) and v.comparable and v.panel == panel]
        values = [value for variant in shown for value in variant.values(row.slug, "miou_ss")]
        behind = (v.origins[seed.record] for v in shown for seed in v.measured(row.slug, "miou_ss"))
        within = re.search(r"\((.*)\)", row.name)  # `Swin-T` of `MaskFormer (Swin-T)`
        label = within[1] if within else size or row.name
        yield Spot(
            panel.dataset,
            row.slug,
            re.sub(r" .*", "", family if size else row.name),
            label,
            gflops,
            printed,
            row.prints(first, "params_m"),
            tuple(values),
            mixture(behind),
            expense.printed_units["gflops"] if (expense := evidence.expenses.get((panel.dataset, row.slug))) else None,
            tuple(line.value for line in others.level(known, evidence.study, row, panel, "miou_ss").sources),
        )


def _figure1(spots: Sequence[Spot], titles: Sequence[str]) -> Figure:
    figure = sheet(7.2, 3.6)
    families = list(dict.fromkeys(spot.family for spot in spots))
    peers = [family for family in families if family != OURS]
    colours = {OURS: COLOURS[5]} | {family: COLOURS[place % 5] for place, family in enumerate(peers)}
    panels = figure.subplots(1, len(PANELS))
    for axes, name, title in zip(panels, PANELS, titles, strict=True):
        shown = [spot for spot in spots if spot.dataset == name]
        for family in families:
            members = sorted((spot for spot in shown if spot.family == family), key=lambda spot: spot.gflops)
            _draw_family(axes, members, colours[family])
        axes.set(xscale="log", xlabel="GFLOPs", title=title)
        axes.margins(0.14)
        ticks = [value for value in (10, 20, 50, 100, 200, 500, 1000, 2000) if _within(value, shown)]
        axes.set_xticks(ticks, [str(value) for value in ticks])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("mIoU (SS)")
    figure.draw_without_rendering()
    for axes, name in zip(panels, PANELS, strict=True):
        place_labels(
            axes, [(s.label, s.gflops, s.printed, s.area, colours[s.family]) for s in spots if s.dataset == name]
        )
        ends = {s.family: s for s in sorted((s for s in spots if s.dataset == name), key=lambda spot: spot.gflops)}
        handles = [axes.plot([], [], marker="o", color=colours[family], label=family)[0] for family in ends]
        axes.legend(handles=handles, loc="lower right", fontsize=7, handlelength=1.2)
    return figure


def _within(value: float, spots: Sequence[Spot]) -> bool:
    found = [spot.gflops for spot in spots]
    return min(found) * 0.8 <= value <= max(found) * 1.25


def _draw_family(axes: Axes, members: Sequence[Spot], colour: str) -> None:
    axes.plot([s.gflops for s in members], [s.printed for s in members], color=colour, linewidth=0.9, zorder=1)
    for spot in members:
        known = spot.parameters is not None
        style = {"facecolor": colour, "alpha": 0.35, "edgecolor": colour} if known else {"color": colour, "marker": "x"}
        axes.scatter(spot.gflops, spot.printed, s=spot.area, linewidth=0.8, zorder=2, **style)
        if spot.counted is not None:
            axes.plot([spot.gflops, spot.counted], [spot.printed] * 2, color=INK, linewidth=0.8, zorder=3)
            axes.plot(
                spot.counted, spot.printed, marker="o", markersize=2.5, color=colour, markeredgecolor=INK, zorder=4
            )
        if spot.others:
            around = [spot.gflops] * len(spot.others)
            axes.scatter(around, spot.others, s=26, marker="_", color=INK, linewidth=0.9, zorder=3)
        if spot.measured:
            mean = statistics.fmean(spot.measured)
            axes.plot(spot.gflops, mean, marker="D", markersize=4, color=colour, markeredgecolor=INK, zorder=4)
        if len(spot.measured) >= verdicts.MINIMUM_SEEDS:
            interval = verdicts.mean_interval(spot.measured)
            axes.vlines(spot.gflops, interval.low, interval.high, color=INK, linewidth=1.2, zorder=3)


def place_labels(axes: Axes, spots: Sequence[tuple[str, float, float, float, str]]) -> None:
    """Write (label, x, y, area in square points, colour) beside each spot, where it covers least of what is there.

    Greedy: every label takes the first of the places around its circle that nothing else needs.
    """
    figure = axes.get_figure()
    assert figure is not None
    scale = figure.dpi / 72
    taken: list[Box] = []
    for _, x, y, area, _ in spots:
        centre, radius = axes.transData.transform((x, y)), math.sqrt(area / math.pi) * scale
        taken.append((centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius))
    for line in axes.lines:
        taken += _along(axes.transData.transform(line.get_xydata()).tolist(), 3 * scale)
    frame = axes.get_window_extent().extents
    for label, x, y, area, colour in spots:
        text = axes.annotate(label, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=7, zorder=5)
        text.set_color(colour)
        radius = math.sqrt(area / math.pi)
        best: tuple[float, tuple[float, float], str, str] | None = None
        for distance in (2.0, 9.0, 18.0):
            for horizontal, vertical in ((0, 1), (0, -1), (-1, 0), (1, 0), (-1, 1), (1, 1), (-1, -1), (1, -1)):
                reach = (radius + distance) / math.hypot(horizontal, vertical)
                offset = (horizontal * reach, vertical * reach)
                across = {-1: "right", 0: "center", 1: "left"}[horizontal]
                along = {-1: "top", 0: "center", 1: "bottom"}[vertical]
                text.set(position=offset, ha=across, va=along)
                box = text.get_window_extent().padded(scale).extents
                covered = sum(_overlap(box, other) for other in taken) + (_outside(box, frame) * 4)
                if best is None or covered + distance < best[0]:
                    best = (covered + distance, offset, across, along)
        assert best is not None
        text.set(position=best[1], ha=best[2], va=best[3])
        taken.append(text.get_window_extent().extents)


def _along(points: Sequence[Sequence[float]], side: float) -> list[Box]:
    """Squares of this side along a line, in pixels."""
    boxes = []
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        steps = max(1, round(math.hypot(to_x - x, to_y - y) / side))
        for step in range(steps + 1):
            at_x, at_y = x + (to_x - x) * step / steps, y + (to_y - y) * step / steps
            boxes.append((at_x - side / 2, at_y - side / 2, at_x + side / 2, at_y + side / 2))
    return boxes


def _overlap(first: Box, second: Box) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    along = min(first[3], second[3]) - max(first[1], second[1])
    return across * along if across > 0 and along > 0 else 0.0


def _outside(box: Box, frame: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)


@dataclass(frozen=True)
class Bar:
    """What a row costs by one measure, and what the paper prints for it."""

    row: str
    metric: str
    measured: float
    printed: float | None


def cost_bars(evidence: Evidence, panel: Panel) -> Drawing | None:
    """What every row of a table costs on a dataset, measured, with the printed value as a tick; None if nothing is."""
    rows = [row for row in evidence.study.rows if (panel.dataset, row.slug) in evidence.expenses]
    if not rows or not set(UNITS) & set(panel.columns):
        return None
    bars = [
        Bar(
            row.slug,
            metric,
            evidence.expenses[panel.dataset, row.slug].printed_units[metric],
            row.prints(panel, metric),
        )
        for metric in UNITS
        for row in rows
    ]
    told = [f"{row.label}: {_told(evidence, panel, row)}" for row in rows]
    caption = (
        f"Measured costs on {panel.title} at {panel.input_size[0]}×{panel.input_size[1]}, FLOPs in the paper's "
        "convention."
        + (" Vertical tick: the printed value." if any(bar.printed is not None for bar in bars) else "")
        + (" Pale: another method's network." if any(isinstance(row, Reported) for row in rows) else "")
    )
    slug = f"{cost_slug(evidence, panel)}-bars"
    return Drawing(slug, caption, "; ".join(told), to_csv([asdict(bar) for bar in bars]), lambda: _bars(rows, bars))


def _told(evidence: Evidence, panel: Panel, row: Row | Reported) -> str:
    expense = evidence.expenses[panel.dataset, row.slug]
    return ", ".join(f"{METRICS[metric]} {number(expense.printed_units[metric], 2)}" for metric in UNITS)


def _bars(rows: Sequence[Row | Reported], costs: Sequence[Bar]) -> Figure:
    names = [textwrap.fill(row.label, 30, max_lines=3, placeholder=" …") for row in rows]
    height = 0.7 + sum(0.15 + 0.15 * (1 + name.count("\n")) for name in names)
    figure = sheet(7.2, height)
    colours = [colour for colour, _ in row_styles([row.slug for row in rows]).values()]
    for axes, metric in zip(figure.subplots(1, len(UNITS), sharey=True), UNITS, strict=True):
        chosen = [cost for cost in costs if cost.metric == metric]
        values = [float(cost.measured) for cost in chosen]
        bars = axes.barh(range(len(rows)), values, height=0.6, color=colours)
        for bar, row in zip(bars, rows, strict=True):
            bar.set_alpha(0.35 if isinstance(row, Reported) else 0.85)
        for place, (cost, value) in enumerate(zip(chosen, values, strict=True)):
            end = value
            if cost.printed is not None:
                end = max(end, float(cost.printed))
                axes.plot(float(cost.printed), place, marker="|", markersize=13, markeredgewidth=1.3, color=INK)
            past = {"xytext": (8, 0), "textcoords": "offset points"}
            axes.annotate(number(value, 1), (end, place), **past, va="center", fontsize=7)
        axes.set(title=METRICS[metric])
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.grid(False, axis="y")
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure
