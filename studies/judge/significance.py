"""What the seeds of a family of comparisons show: one procedure, for photographs and for generated data alike.

A comparison is two rows, or a row and a constant. Three things can be shown of it by Welch's t over seeds (Student's,
of a constant): that the two differ (two-sided), that they do not, by `margin` or more (two one-sided tests), and that
they differ by more than `margin` (two-sided).

The rule. The p of all tests of a family are sorted. Each is compared with `ERROR` / (m - b): m comparisons in the
family, b of them decided both ways so far, that is shown to differ and to differ by less than `margin`. At the first
that fails, all stop.

Why that holds. A comparison tested at a level is wrong in any way with no more than that chance: where the true
difference is 0, only a difference can be shown wrongly; where it is `margin` or more, only equality and the wrong side,
and both need the same one-sided test to fail. At the first wrong decision all before it are right, and a comparison
that is rightly decided both ways cannot become wrong: at most m - b can. So the chance that anything at all is wrong in
a family is at most `ERROR`, however the comparisons depend on each other, as they do where they share a row. For the
side of a true difference between 0 and `margin`, that is held by simulation (tests/test_significance.py), not proved.

Degrees of freedom. Welch's formula, with the smaller number of seeds on both sides: the same where both have as many.
His own is too bold far out in the tails, where a family's tests are decided, if the numbers differ: of 3 seeds against
10 with one spread, a test at 0.1 % is wrong 0.4 % of the time (measured), with the smaller number never more than told.
The t test itself supposes normal values whose spreads are alike: within a factor of 2 nothing is lost; where one row
spreads 5 times as much as the other, a test at 0.1 % over 5 seeds each is wrong 0.2 % of the time (measured).

Every comparison that was declared counts in m, run or not, so that a word does not depend on which run ended first.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtr, stdtrit

ERROR = 0.05
"""The chance of any wrong decision in a family."""

MINIMUM_SEEDS = 3
"""Below it a difference is shown and nothing is decided."""

RULE = (
    "the p of all tests are sorted, each is compared with 5 % / (m - b), and at the first that fails all stop: m "
    "comparisons in the family, run or not, and b of them shown before to differ and also to lie within the margin"
)
"""Of a family, in words."""

LEVEL = 0.95
"""Of every interval that is shown."""

NO_SPREAD = 1e-9
"""Relative to the means, what rounding leaves of a spread that is none."""

Side = Sequence[float] | float
"""One side of a comparison: what was measured, one value per seed, or a constant."""

Outcome = Literal["as said", "none", "otherwise", "open", "few seeds", "pending"]
"""What became of a predicted sign."""


@dataclass(frozen=True)
class Welch:
    """A difference of means, its standard error (never 0), and the error's degrees of freedom."""

    difference: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        """The interval of the true difference at this level."""
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.difference - half, self.difference + half

    def above(self, bound: float) -> float:
        """One-sided p of the true difference not lying above `bound`."""
        return float(stdtr(self.freedom, (bound - self.difference) / self.error))

    @property
    def turned(self) -> Welch:
        """The same of the opposite difference."""
        return dataclasses.replace(self, difference=-self.difference)

    @property
    def differs(self) -> float:
        """p of no difference, two-sided."""
        return self.beyond(0)

    def equal(self, margin: float) -> float:
        """p of a difference of `margin` or more, to either side: two one-sided tests."""
        return float(stdtr(self.freedom, (abs(self.difference) - margin) / self.error))

    def beyond(self, margin: float) -> float:
        """p of a difference within ±`margin`, two-sided."""
        return min(1.0, 2 * min(self.above(margin), self.turned.above(margin)))


def welch(first: Side, second: Side) -> Welch | None:
    """Of mean(first) - mean(second), two values or more on a side that was measured.

    None where no side has any spread: then nothing is known of the error. `ValueError` for a value that is not finite.
    """
    finite(first, second)
    samples = [side for side in (first, second) if not isinstance(side, float | int)]
    # Not statistics.variance: its fractions take ten times as long, of which a simulation has millions.
    parts = [
        math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values)
        for values in samples
        for middle in (mean(values),)
    ]
    total = sum(parts)
    if math.sqrt(total) <= NO_SPREAD * max(abs(mean(side)) for side in (first, second)):
        return None
    freedom = (min(map(len, samples)) - 1) * total**2 / sum(part**2 for part in parts)
    return Welch(mean(first) - mean(second), math.sqrt(total), freedom)


def finite(*sides: Side) -> None:
    """`ValueError` where a value is NaN or infinite: it is no measurement, and every test would be decided by it."""
    for side in sides:
        values = [side] if isinstance(side, float | int) else list(side)
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{values}: a value is not finite; look at the records that it comes from")


def mean(side: Side) -> float:
    """Of a side of a comparison."""
    return float(side) if isinstance(side, float | int) else statistics.fmean(side)


@dataclass(frozen=True)
class Test:
    """A test's p, alone and adjusted for its family: it shows something where that is at most `ERROR`."""

    p: float
    adjusted: float

    @property
    def shows(self) -> bool:
        """Whether its null hypothesis is rejected."""
        return self.adjusted <= ERROR


@dataclass(frozen=True)
class Difference:
    """What was found between two sides: the difference of means, its 95 % interval, and the three tests.

    `seeds`: of each side that was measured. `level`: what the procedure left to a test that showed nothing. Without
    tests there are too few seeds, or no spread.
    """

    seeds: tuple[int, ...]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    differs: Test | None = None
    equal: Test | None = None
    beyond: Test | None = None
    level: float = ERROR

    def outcome(self, sign: Literal["+", "-", "0"]) -> tuple[Outcome, Test | None]:
        """What became of a predicted sign, and the test that it rests on; of an open one, that with the smaller p."""
        if min(self.seeds) < MINIMUM_SEEDS:
            return "few seeds" if min(self.seeds) else "pending", None
        if self.difference is None or self.differs is None or self.equal is None or self.beyond is None:
            return "open", None
        if sign == "0":
            as_said, otherwise, none = self.equal.shows, self.beyond.shows, False
            against, agreeing = self.beyond, self.equal
        else:
            right = self.difference > 0 if sign == "+" else self.difference < 0
            as_said, otherwise = self.differs.shows and right, self.differs.shows and not right
            none = self.equal.shows
            against = agreeing = self.differs
        if as_said:
            return "as said", agreeing
        if otherwise:
            return "otherwise", against
        if none:
            return "none", self.equal
        return "open", min((agreeing, against, self.equal), key=lambda test: test.p)


def decide(family: Sequence[tuple[Side, Side]], margin: float) -> list[Difference]:
    """The decisions on a family of comparisons, by the rule above.

    `ValueError` for a value that is not finite. Without any spread nothing is certain: no test.
    """
    found, sorted_ = [_difference(*sides) for sides in family], list[tuple[float, int, str]]()
    for place, (difference, sides) in enumerate(zip(found, family, strict=True)):
        if min(difference.seeds) >= MINIMUM_SEEDS and (t := welch(*sides)):
            found[place] = dataclasses.replace(difference, interval=t.interval(LEVEL))
            tests = {"differs": t.differs, "equal": t.equal(margin), "beyond": t.beyond(margin)}
            sorted_ += [(p, place, name) for name, p in tests.items()]
    left, stopped, adjusted = len(family), len(family), 0.0
    tested: list[dict[str, Test]] = [{} for _ in family]
    for p, place, name in sorted(sorted_):
        adjusted = max(adjusted, min(1.0, max(1, left) * p))
        tested[place][name] = Test(p, adjusted)
        left -= name != "beyond" and {"differs", "equal"} <= set(tested[place])
        stopped = max(1, left) if adjusted <= ERROR else stopped
    level = ERROR / max(1, stopped)
    return [
        dataclasses.replace(
            difference, differs=of.get("differs"), equal=of.get("equal"), beyond=of.get("beyond"), level=level
        )
        for difference, of in zip(found, tested, strict=True)
    ]


def _difference(first: Side, second: Side) -> Difference:
    finite(first, second)
    seeds = tuple(len(side) for side in (first, second) if not isinstance(side, float | int))
    return Difference(seeds, mean(first) - mean(second) if all(seeds) else None)
