"""What the runs on photographs say of the expectations about them (DESIGN.md, tier 5): words of their own.

A comparison is a pair of rows on one metric. Its two decisions are tested by Welch's t over seeds: that the two differ
(two-sided), and that they do not, by more than `MARGIN` (two one-sided tests: the 90 % interval within the margin).
At most one of the two null hypotheses is true, so of a family of m comparisons, at most m less those decided both ways
are true nulls: Holm's method, with Shaffer's count. Every declared comparison counts in m, run or not, so that a word
does not depend on which run ended first. Families: a table's mIoU, and apart from it its thin classes, by protocol.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

from studies.expectations import EXPECTATIONS, MARGIN, PROTOCOLS, THIN_CLASSES, Expectation
from studies.protocols import protocol
from studies.store import Record, Store
from studies.study import study

ERROR = 0.05  # of any wrong decision in a family
MINIMUM_SEEDS = 3

WORDS = {
    "here too": "what was expected shows: the sign, or for none the 90 % interval within ±1.0",
    "no difference here": "a sign was expected, and the 90 % interval lies within ±1.0",
    "opposite here": "the other sign shows; where none was expected, a difference of more than ±1.0",
    "not resolved here": "neither",
    "few seeds": "one or two seeds in a row: the difference shows, nothing is said",
    "pending": "a row has no run yet",
}
"""Every word and its rule, at 5 % for a family (Holm)."""


@dataclass(frozen=True)
class Difference:
    """What was found between two rows: the difference of means, its intervals, and what is decided of it.

    `sign` is `+` or `-` where a difference shows, `equal` whether none shows, `beyond` whether it exceeds `MARGIN`.
    `p` is that of the test that decided, or the smaller one. None where there are too few seeds.
    """

    seeds: tuple[int, int]
    difference: float | None = None
    interval: tuple[float, float] | None = None  # 95 %
    sign: str = ""
    equal: bool = False
    beyond: bool = False
    p: float | None = None

    def word(self, expectation: Expectation) -> str:
        """One of `WORDS`."""
        if 0 in self.seeds:
            return "pending"
        if min(self.seeds) < MINIMUM_SEEDS:
            return "few seeds"
        if expectation.sign == "0":
            return "here too" if self.equal else "opposite here" if self.beyond else "not resolved here"
        if self.sign:
            return "here too" if self.sign == expectation.sign else "opposite here"
        return "no difference here" if self.equal else "not resolved here"


Pair = tuple[str, str, str]
"""A comparison within a table: row, reference, metric."""


@dataclass(frozen=True)
class _Welch:
    difference: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.difference - half, self.difference + half

    @property
    def differs(self) -> float:
        """p of no difference."""
        return 2 * float(stdtr(self.freedom, -abs(self.difference) / self.error))

    @property
    def equal(self) -> float:
        """p of a difference of `MARGIN` or more."""
        return float(stdtr(self.freedom, (abs(self.difference) - MARGIN) / self.error))


def decide(family: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[Difference]:
    """The decisions on a family of comparisons, each the values of a row and of its reference, one a seed.

    `ValueError` for a value that is not finite. Without any spread nothing is certain: not resolved.
    """
    for values in (values for pair in family for values in pair):
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{list(values)}: a value is not finite; look at the records that it comes from")
    found, tests = [], list[tuple[float, int, str]]()
    for place, (row, reference) in enumerate(family):
        welch = _welch(row, reference)
        found.append(welch)
        if welch is not None:
            tests += [(welch.differs, place, "differs"), (welch.equal, place, "equal")]
    rejected: dict[tuple[int, str], float] = {}
    for p, place, which in sorted(tests):
        both = sum((other, "differs") in rejected and (other, "equal") in rejected for other in range(len(family)))
        level = ERROR / (len(family) - both)
        if p > level:
            break
        rejected[place, which] = level
    return [
        _difference(row, reference, welch, rejected.get((place, "differs")), (place, "equal") in rejected)
        for place, ((row, reference), welch) in enumerate(zip(family, found, strict=True))
    ]


def _welch(row: Sequence[float], reference: Sequence[float]) -> _Welch | None:
    """None where there are too few seeds, or no spread."""
    if min(len(row), len(reference)) < MINIMUM_SEEDS:
        return None
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (row, reference)]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return None
    freedom = total**2 / sum(variance**2 / own for variance, own in parts)
    return _Welch(statistics.fmean(row) - statistics.fmean(reference), math.sqrt(total), freedom)


def _difference(
    row: Sequence[float], reference: Sequence[float], welch: _Welch | None, level: float | None, equal: bool
) -> Difference:
    seeds = (len(row), len(reference))
    if 0 in seeds:
        return Difference(seeds)
    if welch is None:
        return Difference(seeds, statistics.fmean(row) - statistics.fmean(reference))
    low, high = welch.interval(1 - level) if level is not None else (-math.inf, math.inf)
    return Difference(
        seeds,
        welch.difference,
        welch.interval(0.95),
        sign="" if level is None else "+" if welch.difference > 0 else "-",
        equal=equal,
        beyond=low > MARGIN or high < -MARGIN,
        p=welch.differs if level is not None else welch.equal if equal else min(welch.differs, welch.equal),
    )


def value(record: Record, metric: str, classes: Sequence[str] = THIN_CLASSES) -> float | None:
    """What a run's record says: its mIoU, or the mean over these classes; None where one of them was not measured."""
    if metric == "miou_ss":
        return None if record["metrics"]["miou_ss"] is None else float(record["metrics"]["miou_ss"])
    by_class = dict(zip(record["classes"], record["metrics"].get(metric, ()), strict=False))
    values = [by_class[name] for name in classes if by_class.get(name) is not None]
    return statistics.fmean(values) if len(values) == len(classes) else None


def runs(store: Store, name: str, slug: str, row: str) -> list[Record]:
    """The records of a row of a table under a protocol, by seed: at full length only."""
    declared, chosen = study(slug), protocol(name)
    (panel,) = chosen.panels(declared)
    seeds = sorted({record["config"]["seed"] for record in store.kind("run") if record["config"]["protocol"] == name})
    found = (store.run(chosen.run(panel, declared.row(row), seed)) for seed in seeds)
    return [record for record in found if record is not None]


def outcomes(store: Store, name: str, slug: str) -> Mapping[Pair, Difference]:
    """What is decided under a protocol of every comparison that is declared for a table."""
    assert name in PROTOCOLS, name
    pairs = list(dict.fromkeys((e.row, e.reference, e.metric) for e in EXPECTATIONS if e.study == slug))
    records = {row: runs(store, name, slug, row) for row in {row for pair in pairs for row in pair[:2]}}
    found: dict[Pair, Difference] = {}
    for thin in (False, True):
        family = [pair for pair in pairs if (pair[2] != "miou_ss") == thin]
        sides = [tuple(_values(records[row], metric) for row in (first, second)) for first, second, metric in family]
        found |= dict(zip(family, decide([(first, second) for first, second in sides]), strict=True))
    return {pair: found[pair] for pair in pairs}


def _values(records: Sequence[Record], metric: str) -> list[float]:
    return [found for record in records if (found := value(record, metric)) is not None]
