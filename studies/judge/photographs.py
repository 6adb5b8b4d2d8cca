"""Judges the expectations about photographs by the runs on them (DESIGN.md, tier 5), in words of their own.

A comparison is a pair of rows on one metric, judged by `studies.judge.significance` with `MARGIN`. Under each protocol
a table has two families: comparisons of mIoU, and those of thin classes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from studies.declare.expectations import EXPECTATIONS, MARGIN, PROTOCOLS, THIN_CLASSES, Expectation
from studies.declare.protocols import protocol
from studies.judge.significance import Difference, Outcome, decide
from studies.records.schema import RunRecord
from studies.records.store import Store
from studies.tables import study

WORDS = {
    "here too": "what was expected shows: the sign, or for none the 90 % interval within ±1.0",
    "no difference here": "a sign was expected, and the 90 % interval lies within ±1.0",
    "opposite here": "the other sign shows; where none was expected, a difference of more than ±1.0",
    "not resolved here": "neither; nor is anything said where no seed differs from another: no spread is no certainty",
    "few seeds": "one or two seeds in a row: the difference shows, nothing is said",
    "pending": "a row has no run yet",
}
"""Every word and its rule, at 5 % per family."""

_WORDS: Mapping[Outcome, str] = {
    "as said": "here too",
    "none": "no difference here",
    "otherwise": "opposite here",
    "open": "not resolved here",
    "few seeds": "few seeds",
    "pending": "pending",
}


Pair = tuple[str, str, str]
"""A comparison within a table: row, reference, metric."""


def judge(found: Difference, expectation: Expectation) -> tuple[str, float | None]:
    """One of `WORDS`, and the p of the test behind it."""
    outcome, test = found.outcome(expectation.sign)
    return _WORDS[outcome], test.p if test else None


def value(record: RunRecord, metric: str, classes: Sequence[str] = THIN_CLASSES) -> float | None:
    """A run's mIoU, or the mean of another metric over these classes; None if one of them was not measured."""
    if metric == "miou_ss":
        return record.metrics.miou_ss
    by_class = dict(zip(record.classes, record.metrics.by_class(metric), strict=False))
    values = [known for name in classes if (known := by_class.get(name)) is not None]
    return statistics.fmean(values) if len(values) == len(classes) else None


def runs(store: Store, name: str, slug: str, row: str) -> list[RunRecord]:
    """The records of a table's row under a protocol at full length, by seed."""
    declared, chosen = study(slug), protocol(name)
    (panel,) = chosen.panels(declared)
    first = chosen.run(panel, declared.row(row), 0)
    found = (store.run(first.seeded(seed)) for seed in store.seeds(name))
    return [record for record in found if record is not None]


def outcomes(store: Store, name: str, slug: str) -> Mapping[Pair, Difference]:
    """The decision, under a protocol, on every comparison declared for a table."""
    assert name in PROTOCOLS, name
    pairs = list(dict.fromkeys((e.row, e.reference, e.metric) for e in EXPECTATIONS if e.study == slug))
    records = {row: runs(store, name, slug, row) for row in {row for pair in pairs for row in pair[:2]}}
    found: dict[Pair, Difference] = {}
    for thin in (False, True):
        family = [pair for pair in pairs if (pair[2] != "miou_ss") == thin]
        sides = [tuple(_values(records[row], metric) for row in (first, second)) for first, second, metric in family]
        found |= dict(zip(family, decide([(first, second) for first, second in sides], MARGIN), strict=True))
    return {pair: found[pair] for pair in pairs}


def _values(records: Sequence[RunRecord], metric: str) -> list[float]:
    return [found for record in records if (found := value(record, metric)) is not None]
