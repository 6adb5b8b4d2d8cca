"""One results folder against another, as tables and a figure (`python -m reports.compare`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.table import METRICS, Cell, Column, Line, Notes, Source, Table, Value, number
from studies.judge.significance import mean
from studies.judge.two_results import TOLERANCE, WORDS, Comparison, Likeness, Pair, Row, Values
from studies.judge.verdicts import EPSILON

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JUDGED = ("differs", "not resolved", "no difference", "few seeds")
_BAND = EPSILON["miou_ss"]
_LIKE: tuple[Likeness, ...] = ("equal", "equal to rounding", "different")
_LOOKS = {  # colour, marker, filled
    "differs": ("#cc3311", "D", True),
    "no difference": ("#009988", "o", True),
    "not resolved": ("#0077bb", "s", True),
    "few seeds": ("#ee7733", "^", False),
}
_MOST_TABLES = 2  # that a row is named by

Way = Callable[[str], str]
"""Where the page finds a record of one side; empty: nowhere."""


def finding(found: Comparison) -> str:
    """What came out, in a sentence."""
    differ, costs = len(found.of("differs")), len(found.other_costs)
    told = [f"{differ or 'none'} of {_count(found.tested, 'comparison')} {_verb(differ, 'differ')} beyond chance"]
    if not found.tested:
        told = ["nothing can be tested: no row has three seeds on both sides, and other runs on one than on the other"]
    if costs:
        told.append(f"{_count(costs, 'model')} {_verb(costs, 'have', 'has')} another cost, which no chance explains")
    if alike := len(found.of("no difference")):
        told.append(f"{alike} {_verb(alike, 'lie')} within the tolerance ({TOLERANCE})")
    if same := len(found.of("same runs")):
        told.append(f"{same} {_verb(same, 'rest')} on the very same runs")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."


def _count(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _verb(count: int, many: str, one: str = "") -> str:
    return (one or f"{many}s") if count < 2 else many


def summary_table(found: Comparison) -> Table:
    """How many records of each kind are equal on both sides."""
    columns = (Column("Records", align="text"), *(Column(word) for word in (*_LIKE, "only A", "only B")))
    likeness = Counter((pair.kind, pair.likeness) for pair in found.pairs)
    only = [Counter(side.values()) for side in found.only]
    kinds = sorted({kind for kind, _ in likeness} | set(only[0]) | set(only[1]))
    lines = []
    for kind in kinds:
        counts = [*(likeness[kind, word] for word in _LIKE), *(side[kind] for side in only)]
        lines.append(Line(kind, (Cell(kind), *(Cell(str(count)) for count in counts))))
    caption = (
        "Records of both sides, by their ids. Equal: every measured number is the same.",
        "Equal to rounding: every metric within 0.01 points; of speeds, the ranges between the quartiles overlap.",
        "A run that differs is one seed of its row: whether the row does, beyond chance, is said there.",
        f"{_made(found)}",
    )
    return Table("records", "Records of the same id", caption, columns, tuple(lines))


def _made(found: Comparison) -> str:
    """What differs most often in how records of the same id were made."""
    pairs = [pair for pair in found.pairs if pair.made]
    if not pairs:
        return "Where both say how they were made, they say the same." if found.pairs else ""
    counts = Counter(told.split(" ", 1)[0] for pair in pairs for told in pair.made)
    return f"Made otherwise: {', '.join(f'{name} in {count}' for name, count in counts.most_common(5))}."


def pairs_table(found: Comparison, way_a: Way, way_b: Way) -> Table:
    """The records of both sides that are not equal, those that differ most first."""
    columns = (
        Column("Record", align="left"),
        Column("Kind", align="left"),
        Column("", align="left"),
        Column("Differs most in", align="text"),
        Column("A"),
        Column("B"),
    )
    pairs = [pair for pair in found.pairs if pair.likeness != "equal"]
    pairs.sort(key=lambda pair: (pair.likeness == "equal to rounding", pair.kind, -_size(pair)))
    lines, notes = [], Notes()
    for pair in pairs:
        name, *values = pair.largest or ("counts of pixels alone", None, None)
        ways = [(side, to) for side, way in (("A", way_a), ("B", way_b)) if (to := way(pair.id))]
        sources = tuple(Source(side, to, f"record of {side}") for side, to in ways)
        likeness = Cell(pair.likeness, note=notes.mark(_otherwise(pair.made)))
        cells = (Cell(pair.id, sources=sources), Cell(pair.kind), likeness, Cell(name), *map(_value, values))
        lines.append(Line(pair.id, cells))
    caption = ("Each with the number that differs most, and a note of what differs in how the two were made.",)
    return Table("unequal", "Records that are not equal", caption, columns, tuple(lines), tuple(notes))


def _otherwise(made: Sequence[str]) -> str:
    return f"Made otherwise: {'; '.join(made)}." if made else "Made alike, as far as both say."


def _size(pair: Pair) -> float:
    _, one, other = pair.largest or ("", None, None)
    return abs(other - one) if isinstance(one, float | int) and isinstance(other, float | int) else 0.0


def _value(value: object) -> Cell:
    if isinstance(value, int):
        return Cell(f"{value:,}")
    return Cell(number(value, 4 if abs(value) < 1 else 2)) if isinstance(value, float) else Cell()


def rows_table(found: Comparison, way_a: Way, way_b: Way) -> Table:
    """The rows that both sides have, but those on the very same runs: the means, the difference, what is said of it."""
    columns = (
        Column("Row, protocol, data, metric", align="text"),
        Column("Verdict", align="left"),
        Column("B − A [95 %]"),
        Column("A (seeds)"),
        Column("B (seeds)"),
        Column("p"),
    )
    where, lines, notes = _where(found), [], Notes()
    for place, row in enumerate(sorted(found.of(*JUDGED), key=_order)):
        adjusted = row.found.differs.adjusted if row.found and row.found.differs else None
        mixed = [f"among those of {side}, {words}" for side, words in zip("AB", row.mixed, strict=True) if words]
        cells = (
            Cell(f"{_named(row)}: {where[id(row)]}"),
            Cell(row.word, verdict=row.word),
            Cell(difference(row), note=notes.mark(_otherwise([*row.made, *mixed]))),
            _side(row.a, way_a),
            _side(row.b, way_b),
            Cell(_p(adjusted)),
        )
        lines.append(Line(str(place), cells))
    caption = (
        f"Means over seeds in percent; B − A with Welch's 95 % interval; p by Holm's method over {found.tested} "
        "comparisons, each of a row on a metric.",
        "Runs that both sides share count on both: that makes the interval wider, never too narrow.",
        "The notes say what differs in how the runs that are not shared were made.",
    )
    return Table("rows", "Rows on both sides", caption, columns, tuple(lines), tuple(notes))


def folded_table(found: Comparison, way_a: Way, way_b: Way, word: str) -> Table:
    """The rows that are not compared, and why: `same runs`, `only A` or `only B`."""
    columns = (Column("Row, protocol, data, metric", align="text"), Column("A (seeds)"), Column("B (seeds)"))
    where, rows = _where(found), found.of(word)
    sides = [(_side(row.a, way_a), _side(row.b, way_b)) for row in rows]
    lines = [
        Line(str(place), (Cell(f"{_named(row)}: {where[id(row)]}"), *cells))
        for place, (row, cells) in enumerate(zip(rows, sides, strict=True))
    ]
    slug = f"rows-{word.lower().replace(' ', '-')}"
    return Table(slug, f"Rows: {word}", ("Means over seeds in percent.",), columns, tuple(lines))


def short_table(found: Comparison, most: int) -> Table:
    """For a terminal of 80 columns: what differs, then the largest differences."""
    rows = sorted(found.of(*JUDGED), key=_order)
    columns = (Column("Row", align="text"), Column("A"), Column("B"), Column("B − A ± 95 %"), Column("", align="left"))
    where, lines = _where(found), []
    for place, row in enumerate(rows[:most]):
        sides = (f"{number(mean(side), 1)} ({len(side)})" for side in reversed(row.sides))
        cells = (f"{row.names[0]}: {where[id(row)]}", *sides, _short(row))
        lines.append(Line(str(place), (*map(Cell, cells), Cell(row.word, verdict=row.word))))
    left = len(rows) - most
    caption = f"{_count(left, 'more row')} on the page." if left > 0 else "Seeds in brackets."
    return Table("short", "Rows on both sides", (caption,), columns, tuple(lines))


def _short(row: Row) -> str:
    """The difference and half of its interval, which is as wide to both sides."""
    if row.found is None or row.found.difference is None:
        return "–"
    half = f" ± {number((row.found.interval[1] - row.found.interval[0]) / 2, 2)}" if row.found.interval else ""
    return number(row.found.difference, 2, signed=True) + half


def _order(row: Row) -> tuple[int, float]:
    """What is shown to differ first, by its p; then the largest differences."""
    p = row.found.differs.p if row.found and row.found.differs and row.word == "differs" else 0.0
    size = abs(row.found.difference) if row.found and row.found.difference is not None else 0.0
    return ([*JUDGED, *WORDS].index(row.word), p or -size)


def _named(row: Row) -> str:
    first, more = row.names[:_MOST_TABLES], len(row.names) - _MOST_TABLES
    return ", ".join(first) + (f" and in {_count(more, 'other table')}" if more > 0 else "")


def _where(found: Comparison) -> dict[int, str]:
    """Protocol, data and metric of every row, with what else is needed to tell it from another."""
    keys = [(row.names[0], row.protocol, row.dataset, row.metric) for row in found.rows]
    rates, lengths = (
        {
            key: {getattr(row, field) for row, own in zip(found.rows, keys, strict=True) if own == key}
            for key in set(keys)
        }
        for field in ("learning_rate", "iterations")
    )
    told = {}
    for row, key in zip(found.rows, keys, strict=True):
        rate = f" at learning rate {row.learning_rate:g}" if len(rates[key]) > 1 else ""
        length = f", {row.iterations:,} iterations" if len(lengths[key]) > 1 else ""
        dataset = row.dataset.removeprefix("diagnostic/")
        told[id(row)] = f"{row.protocol}, {dataset}{rate}{length}, {METRICS[row.metric]}"
    return told


def _side(values: Values, way: Way) -> Cell:
    if not values:
        return Cell()
    sources = tuple(
        Source(str(seed), to, "run record") for seed, (key, _) in sorted(values.items()) if (to := way(key))
    )
    return Cell(f"{number(mean([value for _, value in values.values()]), 2)} ({len(values)})", sources=sources)


def difference(row: Row) -> str:
    """B - A with its interval, as far as there is one."""
    if row.found is None or row.found.difference is None:
        return "–"
    ends = row.found.interval
    within = f" [{', '.join(number(end, 2, signed=True) for end in ends)}]" if ends else ""
    return number(row.found.difference, 2, signed=True) + within


def _p(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def rows_csv(found: Comparison) -> str:
    """Every row at full precision. Empty means not measured."""
    return to_csv([_row_values(row) for row in found.rows])


def _row_values(row: Row) -> dict[str, Value]:
    test = row.found.differs if row.found else None
    low, high = (row.found.interval if row.found else None) or (None, None)
    of_b, of_a = row.sides
    return {
        "rows": " ".join(row.names),
        "protocol": row.protocol,
        "dataset": row.dataset,
        "learning_rate": row.learning_rate,
        "iterations": row.iterations,
        "metric": row.metric,
        "a": mean(of_a) if of_a else None,
        "b": mean(of_b) if of_b else None,
        "a_seeds": len(of_a),
        "b_seeds": len(of_b),
        "shared_runs": row.shared,
        "difference": row.found.difference if row.found else None,
        "low": low,
        "high": high,
        "p": test.p if test else None,
        "p_holm": test.adjusted if test else None,
        "outcome": row.word,
        "made_otherwise": "; ".join(row.made),
        "a_runs": " ".join(key for key, _ in row.a.values()),
        "b_runs": " ".join(key for key, _ in row.b.values()),
    }


def records_csv(found: Comparison) -> str:
    """Every record of either side, by its id."""
    lines: list[dict[str, Value]] = []
    for pair in found.pairs:
        name, one, other = pair.largest or (None, None, None)
        values: dict[str, Value] = {"record": pair.id, "kind": pair.kind, "outcome": pair.likeness}
        values |= {"numbers": pair.compared, "differs_most_in": name, "a": one, "b": other}
        lines.append({**values, "made_otherwise": "; ".join(pair.made)})
    for side, records in zip("AB", found.only, strict=True):
        lines += [{"record": key, "kind": kind, "outcome": f"only {side}"} for key, kind in sorted(records.items())]
    return to_csv(lines)


def drawing(found: Comparison) -> Drawing | None:
    """Every row of both sides: B - A with its interval, over A's mean. None where nothing is to be compared."""
    rows = [row for row in sorted(found.of(*JUDGED), key=_order) if row.found and row.found.difference is not None]
    if not rows:
        return None
    caption = (
        f"B − A over A's mean, {_count(len(rows), 'row')} of both sides, with Welch's 95 % intervals; the band is "
        f"±{_BAND:g}; an interval that reaches the edge goes on beyond it. Open: fewer than three seeds on a side. "
        "Rows on the very same runs are not drawn."
    )
    described = [
        f"{_named(row)} {row.protocol} {row.dataset} {row.metric}: {difference(row)}, {row.word}" for row in rows
    ]
    return Drawing("difference", caption, "; ".join(described), rows_csv(found), lambda: _figure(rows))


def _figure(rows: Sequence[Row]) -> Figure:
    figure = sheet(7.2, 3.6)
    axes = figure.subplots()
    axes.axhspan(-_BAND, _BAND, color="#777777", alpha=0.15, linewidth=0)
    axes.axhline(0, color="#777777", linewidth=0.8)
    points = [
        (row.word, mean(row.sides[1]), row.found.difference or 0, row.found.interval) for row in rows if row.found
    ]
    for word, (colour, marker, filled) in _LOOKS.items():
        own = [(x, y, interval) for said, x, y, interval in points if said == word]
        for x, _, interval in own:
            if interval:
                axes.vlines(x, *interval, color=colour, linewidth=1, alpha=0.7)
        if own:
            face, label = colour if filled else "none", f"{word} ({len(own)})"
            places = [x for x, _, _ in own], [y for _, y, _ in own]
            axes.plot(*places, marker, color=colour, markerfacecolor=face, markersize=5, label=label)
    # To the longest interval, unless one row that learnt in some seeds alone would make a line of all others.
    farthest = max(abs(y) for _, _, y, _ in points)
    longest = max((abs(end) for *_, interval in points for end in interval or ()), default=0.0)
    reach = 1.1 * max(farthest, min(longest, 3 * farthest), 2 * _BAND)
    axes.set(xlabel="A, percent", ylabel="B − A, points", ylim=(-reach, reach))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=8, handletextpad=0.3)
    return figure
