"""How cost, latency and peak memory grow with the number of pixels: exponents as a table and as a figure (Table 1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.style import row_styles
from reports.blocks.table import Cell, Column, Line, Source, Table, Value, number
from segnext.config import Platform
from studies.declare.study import Row
from studies.facts.gather import Evidence, Timings, marks
from studies.judge import verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUANTITIES = {"gmacs": "Cost (G)", "latency": "Latency (s)", "memory": "Peak memory (MB)"}


@dataclass(frozen=True)
class Point:
    """One row at one size: what is known of it, in the units of `QUANTITIES`, and the records that say so."""

    row: str
    side: int
    values: dict[str, float | None]
    sources: dict[str, Source]
    timing: dict[str, Value]  # of the speed record

    @property
    def predicted(self) -> float | None:
        """The peak memory that shapes alone give, in MB."""
        found = self.timing.get("predicted_memory")
        return found / 1e6 if isinstance(found, int) else None


def scaling(evidence: Evidence) -> tuple[tuple[Table, Drawing], ...]:
    """A table and a figure per platform that speeds were measured on; of costs alone where there is none."""
    if not evidence.growth:
        return ()
    found = []
    for timings, slug in zip(evidence.timings or (None,), scaling_slugs(evidence), strict=True):
        points = _points(evidence, timings)
        platform = timings.platform if timings else None
        found.append((_table(evidence, platform, points, slug), _drawing(evidence, platform, points, slug)))
    return tuple(found)


def scaling_slugs(evidence: Evidence) -> list[str]:
    """The names of the tables in file names and anchors."""
    names = [re.sub(r"[^a-z0-9]+", "-", named(timings.platform).lower()) for timings in evidence.timings]
    return [f"{evidence.study.slug}-exponents-{name}" for name in names] or [f"{evidence.study.slug}-exponents"]


def named(platform: Platform) -> str:
    """The platform in words."""
    threads = f"{platform.threads} thread" + ("s" if platform.threads > 1 else "")
    where = f"{platform.processor}, {platform.memory_gib} GiB, {threads}, {platform.precision}, torch {platform.torch}"
    return where if platform.device == "cpu" else f"{where}, {platform.device}"


def _points(evidence: Evidence, timings: Timings | None) -> list[Point]:
    points = []
    for row in evidence.study.trained:
        for side in evidence.study.squares:
            expense = evidence.growth.get((row.slug, side))
            record = timings.records.get((row.slug, side)) if timings else None
            values: dict[str, float | None] = dict.fromkeys(QUANTITIES)
            sources: dict[str, Source] = {}
            timing: dict[str, Value] = {}
            if expense:
                values |= {"gmacs": expense.printed_units["gflops"]}
                sources |= {"gmacs": Source(str(side), expense.record, "cost record")}
            if record:
                timing = {key: getattr(record, key) for key in _TIMING}
                values |= {"latency": record.latency, "memory": record.memory and record.memory / 1e6}
                link = Source(str(side), record.id, "speed record", marks(record))
                sources |= {"latency": link, "memory": link}
            points.append(Point(row.slug, side, values, sources, timing))
    return points


_TIMING = ("lower_quartile", "upper_quartile", "passes", "predicted_memory", "reason")


def _measured(points: Sequence[Point], row: str, quantity: str) -> list[tuple[Point, float]]:
    return [(p, value) for p in points if p.row == row and (value := p.values[quantity]) is not None]


def _exponent(measured: Sequence[tuple[Point, float]]) -> verdicts.Exponent | None:
    return verdicts.exponent([(point.side**2, value) for point, value in measured])


def _table(evidence: Evidence, platform: Platform | None, points: Sequence[Point], slug: str) -> Table:
    study = evidence.study
    shown = list(QUANTITIES) if platform else ["gmacs"]
    titles = {quantity: QUANTITIES[quantity].split(" (")[0] for quantity in shown}
    columns = [Column("Row", align="text")]
    columns += [Column(words, title) for title in titles.values() for words in ("fitted", "two largest")]
    lines, notes = [], list[str]()
    for row in study.trained:
        reasons = [f"{row.label} at {p.side}×{p.side}: {p.timing['reason']}." for p in points if _missing(p, row.slug)]
        notes += [" ".join(reasons)] if reasons else []
        names: dict[str, Value] = {"study": study.slug, "row": row.slug}
        names["platform"] = named(platform) if platform else None
        cells = [Cell(row.label, names, note=len(notes) if reasons else 0)]
        for quantity in shown:
            cells += _cells(_measured(points, row.slug, quantity), quantity, study.squares)
        lines.append(Line(row.slug, tuple(cells)))
    caption: tuple[str, ...] = (
        f"Exponent b of a · pixels^b over squares of {study.squares[0]} to {study.squares[-1]} pixels a side: by least "
        "squares of logarithms ± its standard error (number of squares), and between the two largest squares, where it "
        "is nearer to what it tends to: 1 for O(n), 2 for O(n²).",
        f"Cost: in the paper's convention, {study.panel().classes} classes.",
    )
    if platform:
        caption += (
            "Latency: median of repeated evaluations of one image; peak memory: what one takes above the "
            f"loaded network and its image; each square in a process of its own. Measured on {named(platform)}.",
        )
    return Table(slug, "Growth with the number of pixels", caption, tuple(columns), tuple(lines), tuple(notes))


def _missing(point: Point, row: str) -> bool:
    return point.row == row and bool(point.timing.get("reason"))


def _cells(measured: Sequence[tuple[Point, float]], quantity: str, squares: Sequence[int]) -> list[Cell]:
    names = [f"{quantity}_exponent", f"{quantity}_standard_error", f"{quantity}_squares", f"{quantity}_last_exponent"]
    found = _exponent(measured)
    if found is None:
        return [
            Cell(values={**dict.fromkeys(names[:2]), names[2]: len(measured)}),
            Cell(values={names[3]: None}),
        ]
    sources = tuple(point.sources[quantity] for point, _ in measured)
    values = dict(zip(names, (found.value, found.error, len(measured)), strict=False))
    fitted = Cell(f"{number(found.value, 3)} ± {number(found.error, 3)} ({len(measured)})", values, sources=sources)
    before, last = (point.side for point, _ in measured[-2:])
    between = "" if (before, last) == tuple(squares[-2:]) else f" ({before}–{last})"
    return [fitted, Cell(number(found.last, 3) + between, {names[3]: found.last})]


def _drawing(evidence: Evidence, platform: Platform | None, points: Sequence[Point], slug: str) -> Drawing:
    shown = list(QUANTITIES) if platform else ["gmacs"]
    rows, squares = evidence.study.trained, evidence.study.squares
    described = [
        f"{QUANTITIES[quantity]}, {_fitted(row, points, quantity)}"
        for quantity in shown
        for row in rows
        if _measured(points, row.slug, quantity)
    ]
    caption = (
        "Against the number of pixels, both axes logarithmic; beside each row its fitted exponent ± standard error."
    )
    if platform:
        caption += f" Bars: quartiles. Open markers: predicted from shapes, not measured. {named(platform)}."
    data = to_csv([_data(point) for point in points if point.sources])
    name = slug.replace("-exponents", "-scaling")
    return Drawing(name, caption, "; ".join(described), data, lambda: _figure(rows, squares, points, shown))


def _fitted(row: Row, points: Sequence[Point], quantity: str) -> str:
    found = _exponent(_measured(points, row.slug, quantity))
    return row.label + (f": {number(found.value, 2)} ± {number(found.error, 2)}" if found else "")


def _figure(rows: Sequence[Row], squares: Sequence[int], points: Sequence[Point], shown: Sequence[str]) -> Figure:
    styles = row_styles([row.slug for row in rows])
    figure = sheet(7.2 if len(shown) > 1 else 3.6, 3.4)
    for axes, quantity in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for row in rows:
            own = [point for point in points if point.row == row.slug]
            _draw_row(axes, own, quantity, *styles[row.slug], _fitted(row, points, quantity))
        axes.set(xscale="log", yscale="log", xlabel="pixels", title=QUANTITIES[quantity])
        ticks = [side for side in squares if side & (side - 1) == 0]
        axes.set_xticks([side**2 for side in ticks], [f"{side}²" for side in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1), fontsize=7, borderaxespad=0, handlelength=1.2)
    return figure


def _draw_row(axes: Axes, points: Sequence[Point], quantity: str, colour: str, marker: str, label: str) -> None:
    measured = [(point, value) for point in points if (value := point.values[quantity]) is not None]
    if not measured:
        return
    xs, ys = [point.side**2 for point, _ in measured], [value for _, value in measured]
    axes.plot(xs, ys, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
    if quantity == "latency":
        lower, upper = ([float(point.timing[key] or 0) for point, _ in measured] for key in _TIMING[:2])
        axes.vlines(xs, lower, upper, color=colour, linewidth=2.5, alpha=0.5)
    if quantity == "memory":
        predicted = [(p.side**2, p.predicted) for p in points if p.timing.get("reason") and p.predicted is not None]
        for x, y in predicted:
            axes.plot([xs[-1], x], [ys[-1], y], color=colour, linewidth=0.8, linestyle=":")
            axes.plot(x, y, color=colour, marker=marker, markersize=4, markerfacecolor="none")


def _data(point: Point) -> dict[str, Value]:
    """A line of the figure's CSV; seconds, and MB of 10^6 bytes."""
    records = {f"{key}_record": source.target for key, source in point.sources.items() if key != "memory"}
    timing = {key: value for key, value in point.timing.items() if key != "predicted_memory"}
    pixels: dict[str, Value] = {"row": point.row, "side": point.side, "pixels": point.side**2}
    return {**pixels, **point.values, "predicted_memory": point.predicted, **timing, **records}
