"""The page "On photographs": what each difference should be on CamVid, written before the runs, and what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.style import COLOURS, INK
from reports.blocks.table import Cell, Column, Fold, Line, Source, Table, Value, number
from reports.sections.predictions import in_counts
from studies.declare.expectations import EXPECTATIONS, MARGIN, METRICS, PROTOCOLS, THIN_CLASSES, Expectation
from studies.declare.study import Study
from studies.judge.photographs import WORDS, judge, outcomes, runs, value
from studies.judge.significance import RULE, Difference
from studies.records.schema import RunRecord
from studies.records.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLUG = "photographs"
TITLE = "On photographs"

_SIGNS = {"+": "above", "-": "below", "0": f"equal (±{MARGIN:.0f})"}
_COLUMNS = (
    Column("Table", align="left"),
    Column("Difference of", align="text"),
    Column("Metric", align="left"),
    Column("Expected", align="text"),
    Column("Because", align="text"),
    Column("Difference [95 % interval]"),
    Column("Seeds", align="left"),
    Column("Outcome", align="left"),
    Column("Class by class", align="text"),
)


@dataclass(frozen=True)
class Told:
    """An expectation under a protocol, what came out, and its line."""

    protocol: str
    study: Study
    expectation: Expectation
    found: Difference
    word: str
    line: Line

    @property
    def place(self) -> str:
        """What is compared."""
        return f"{self.study.number}: {self.expectation.row} − {self.expectation.reference}"


@dataclass(frozen=True)
class Photographs:
    """All expectations about some studies, in the order of protocols and tables."""

    told: Sequence[Told]

    @property
    def tables(self) -> list[Table]:
        """A table for each protocol."""
        return [_table(f"{SLUG}-{name}", name, "", own) for name in PROTOCOLS if (own := self._of(name))]

    @property
    def glance(self) -> Table:
        """By protocol and table that has runs: what became of the paper's expectations, and of the generated data's."""
        columns = (
            Column("Protocol", align="left"),
            Column("Table", align="left"),
            Column("What the paper lets expect", align="text"),
            Column("What the generated data let expect", align="text"),
        )
        lines = []
        for name, study, own in self._by_study():
            told = [_counted([one for one in own if one.expectation.source == s]) for s in ("paper", "generated")]
            if _ran(own):
                cells = (Cell(name), Cell(study.number), *(Cell(words or "–") for words in told))
                lines.append(Line(f"{name}-{study.slug}", cells))
        caption = ("What became of each expectation, of mIoU and of the thin classes, written before the runs.",)
        return Table(f"{SLUG}-glance", "Outcomes", caption, columns, tuple(lines))

    @property
    def folds(self) -> list[Fold]:
        """Every expectation by protocol and table; those without any run together, as the last."""
        made, waiting = list[Fold](), list[Table]()
        for name, study, own in self._by_study():
            shown = _table(f"{SLUG}-{name}-{study.slug}", name, study.number, own)
            if _ran(own):
                words = f"{study.number}, protocol {name}: {len(own)} expectations: {_counted(own)}"
                made.append(Fold(words, (shown,)))
            else:
                waiting.append(shown)
        count = sum(len(table.lines) for table in waiting)
        return [*made, *([Fold(f"{count} expectations that wait for their runs", tuple(waiting))] if waiting else [])]

    @cached_property
    def drawings(self) -> list[Drawing]:
        """By protocol with runs: each measured difference of mIoU with its interval, over what was expected of it."""
        return [found for name in PROTOCOLS if (found := _drawing(name, self._of(name)))]

    def _of(self, name: str) -> list[Told]:
        return [one for one in self.told if one.protocol == name]

    def _by_study(self) -> list[tuple[str, Study, list[Told]]]:
        found: dict[tuple[str, str], list[Told]] = {}
        for one in self.told:
            found.setdefault((one.protocol, one.study.slug), []).append(one)
        return [(name, own[0].study, own) for (name, _), own in found.items()]


def photographs(chosen: Sequence[Study], store: Store) -> Photographs:
    """The expectations about these studies with their outcomes."""
    told = []
    for name in PROTOCOLS:
        for study in chosen:
            expected = [one for one in EXPECTATIONS if one.study == study.slug]
            found = outcomes(store, name, study.slug) if expected else {}
            for place, one in enumerate(expected):
                sides = (runs(store, name, study.slug, one.row), runs(store, name, study.slug, one.reference))
                outcome = found[one.row, one.reference, one.metric]
                line = Line(f"{study.slug}-{one.row}-{place}", _cells(name, study, one, outcome, sides))
                told.append(Told(name, study, one, outcome, judge(outcome, one)[0], line))
    return Photographs(told)


def _table(slug: str, name: str, study: str, told: Sequence[Told]) -> Table:
    caption = (
        f"Protocol {name}: CamVid from scratch; differences in percentage points. What these runs say is about 367 "
        "street images and a short schedule, never the paper's own claim.",
        "Each expectation was committed before the runs of its rows (studies/declare/expectations.py), but for those "
        "marked known. The paper's are its printed differences, trained from ImageNet's weights on other data; the "
        "generated data's are what this project measured there.",
        "Welch's test over seeds; the 5 % hold for all words about a table's mIoU, and apart from them for those about "
        f"its thin classes: {RULE}. The claims page judges the same runs among all claims of a table, in one scale and "
        "in six, and by Holm's method: what is shown here by little need not be shown there.",
        f"Thin classes: the mean over {', '.join(THIN_CLASSES)}.",
        " ".join(f"{word}: {rule}." for word, rule in WORDS.items()),
    )
    title = f"{study}, protocol {name}" if study else f"{TITLE}, protocol {name}"
    return Table(slug, title, caption, _COLUMNS, tuple(one.line for one in told))


def _counted(told: Sequence[Told]) -> str:
    return in_counts(Counter(one.word for one in told))


def _ran(told: Sequence[Told]) -> bool:
    return any(one.word != "pending" for one in told)


def _drawing(name: str, told: Sequence[Told]) -> Drawing | None:
    shown = [one for one in told if one.expectation.metric == "miou_ss" and one.found.difference is not None]
    places = list(dict.fromkeys(one.place for one in shown))
    if not shown:
        return None
    data: list[dict[str, Value]] = []
    for one in shown:
        low, high = one.found.interval or (None, None)
        expected, measured = one.expectation, {"difference": one.found.difference, "low": low, "high": high}
        names = {"study": expected.study, "row": expected.row, "reference": expected.reference}
        limits = {"source": expected.source, "expected_low": expected.low, "expected_high": expected.high}
        data.append({**names, **limits, **measured})
    described = "; ".join(dict.fromkeys(f"{one.place}: {_shown(one.found)}" for one in shown))
    caption = (
        f"Differences of mIoU under {name}, in points: dot and line, measured with its 95 % interval; bars, what the "
        "paper's prints and our generated data let expect."
    )

    def draw() -> Figure:
        from matplotlib.patches import Patch

        figure = sheet(7.2, 0.9 + 0.3 * len(places))
        axes = figure.subplots()
        for one in shown:
            level, paper = -places.index(one.place), one.expectation.source == "paper"
            low, size = one.expectation.low, one.expectation.high - one.expectation.low
            colour = COLOURS[0 if paper else 1]
            axes.barh(level + (0.16 if paper else -0.16), size, 0.28, low, color=colour, alpha=0.35)
            if one.found.interval:
                axes.plot(one.found.interval, [level] * 2, color=INK, linewidth=1.2)
            axes.plot([one.found.difference or 0], [level], color=INK, marker="o", markersize=4)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yticks([-level for level in range(len(places))], places)
        axes.set_xlabel("points of mIoU (SS), row − reference")
        handles = [Patch(color=COLOURS[place], alpha=0.35) for place in (0, 1)]
        labels = ["expected from the paper", "expected from generated data"]
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return figure

    return Drawing(f"{SLUG}-{name}-differences", caption, described, to_csv(data), draw)


def _cells(
    name: str, study: Study, one: Expectation, found: Difference, sides: tuple[list[RunRecord], list[RunRecord]]
) -> tuple[Cell, ...]:
    identity: dict[str, Value] = {
        "study": study.slug,
        "protocol": name,
        "row": one.row,
        "reference": one.reference,
        "metric": one.metric,
        "expected": one.sign,
        "expected_low": one.low,
        "expected_high": one.high,
        "source": one.source,
        "known": name in one.known,
    }
    low, high = found.interval or (None, None)
    word, p = judge(found, one)
    sources = tuple(
        Source(f"{slug}@{record.config.seed}", record.id, "run record")
        for slug, records in zip((one.row, one.reference), sides, strict=True)
        for record in records
    )
    return (
        Cell(study.number),
        Cell(f"{one.row} − {one.reference}", identity),
        Cell(METRICS[one.metric]),
        Cell(f"{_SIGNS[one.sign]}, {number(one.low, 1, True)} to {number(one.high, 1, True)}, says the {_says(one)}"),
        Cell(one.why + (" (known when written)" if name in one.known else "")),
        Cell(_shown(found), {"difference": found.difference, "low": low, "high": high}, sources=sources),
        Cell(f"{found.seeds[0]}, {found.seeds[1]}", {"seeds": found.seeds[0], "reference_seeds": found.seeds[1]}),
        Cell(word + _mixed([*sides[0], *sides[1]]), {"outcome": word, "p": p}),
        Cell("" if one.metric == "miou_ss" else _by_class(one.metric, sides)),
    )


def _says(one: Expectation) -> str:
    return "paper" if one.source == "paper" else "generated data"


def _shown(found: Difference) -> str:
    if found.difference is None:
        return "–"
    within = f" [{', '.join(number(end, 1, True) for end in found.interval)}]" if found.interval else ""
    return number(found.difference, 1, signed=True) + within


def _by_class(metric: str, sides: tuple[list[RunRecord], list[RunRecord]]) -> str:
    """The differences of means of the thin classes, one by one; of these nothing is tested."""
    told = []
    for thin in THIN_CLASSES:
        means = [[found for record in side if (found := value(record, metric, (thin,))) is not None] for side in sides]
        if all(means):
            first, second = (sum(values) / len(values) for values in means)
            told.append(f"{thin} {number(first - second, 1, signed=True)}")
    return ", ".join(told) or "–"


def _mixed(records: Sequence[RunRecord]) -> str:
    """What a reader must know of runs that are compared although they were not made alike."""
    made = [record.provenance for record in records]
    ways: dict[str, set[str | None]] = {
        "precisions": {one.precision for one in made},
        "versions of torch": {one.torch for one in made},
        "data": {one.data.test_fingerprint for one in made if one.data},
    }
    mixed = [what for what, found in ways.items() if len(found) > 1]
    return f" (mixed {', '.join(mixed)})" if mixed else ""
