"""The page "On photographs": what each difference should be on CamVid, written before the runs, and what came out."""

from __future__ import annotations

from collections.abc import Sequence

from reports.blocks.table import Cell, Column, Line, Source, Table, Value, number
from studies.declare.expectations import EXPECTATIONS, MARGIN, METRICS, PROTOCOLS, THIN_CLASSES, Expectation
from studies.declare.study import Study
from studies.judge.photographs import WORDS, judge, outcomes, runs, value
from studies.judge.significance import RULE, Difference
from studies.records.schema import RunRecord
from studies.records.store import Store

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


def photograph_tables(chosen: Sequence[Study], store: Store) -> list[Table]:
    """A table for each protocol on CamVid: the expectations about these studies with their outcomes."""
    return [table for name in PROTOCOLS if (table := _table(name, chosen, store)).lines]


def _table(name: str, chosen: Sequence[Study], store: Store) -> Table:
    lines = []
    for study in chosen:
        expected = [one for one in EXPECTATIONS if one.study == study.slug]
        found = outcomes(store, name, study.slug) if expected else {}
        for place, one in enumerate(expected):
            sides = (runs(store, name, study.slug, one.row), runs(store, name, study.slug, one.reference))
            outcome = found[one.row, one.reference, one.metric]
            lines.append(Line(f"{study.slug}-{one.row}-{place}", _cells(name, study, one, outcome, sides)))
    caption = (
        f"Protocol {name}: CamVid from scratch; differences in percentage points. What these runs say is about 367 "
        "street images and a short schedule, never the paper's own claim.",
        "Each expectation was committed before the runs of its rows (studies/declare/expectations.py), but for those "
        "marked known. The paper's are its printed differences, trained from ImageNet's weights on other data; the "
        "generated data's are what this project measured there.",
        "Welch's test over seeds; the 5 % hold for all words about a table's mIoU, and apart from them for those about "
        f"its thin classes: {RULE}.",
        f"Thin classes: the mean over {', '.join(THIN_CLASSES)}.",
        " ".join(f"{word}: {rule}." for word, rule in WORDS.items()),
    )
    return Table(f"{SLUG}-{name}", f"{TITLE}, protocol {name}", caption, _COLUMNS, tuple(lines))


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
