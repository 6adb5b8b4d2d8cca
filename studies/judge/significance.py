"""What the seeds of a family of comparisons show: one procedure for photographs and for generated data.

A comparison has two rows, or a row and a constant. Welch's t over seeds (Student's t for a constant) can show three
things: that the two differ (two-sided), that they differ by less than `margin` (two one-sided tests), and that they
differ by more than `margin` (two-sided).

The rule. The p values of all tests of a family are sorted. Each is compared with `ERROR` / (m - b), where m is the
number of comparisons in the family and b the number of those already decided both ways, that is, shown to differ and to
differ by less than `margin`. The procedure stops at the first test that fails.

Why the error rate holds. A comparison tested at a level is wrong in any way with at most that chance: if the true
difference is 0, only a difference can be shown wrongly; if it is `margin` or more, only equality and the wrong side
can, and both need the same one-sided test to fail. At the first wrong decision all earlier ones are right, and a
comparison that is correctly decided both ways cannot become wrong, so at most m - b can. Hence the chance of any error
in a family is at most `ERROR`, however the comparisons depend on each other, as they do if they share a row. For the
side of a true difference between 0 and `margin` this is checked by simulation (test_significance.py), not proved.

Degrees of freedom. We use Welch's formula with the smaller number of seeds for both sides; with equal numbers it is the
usual one. With unequal numbers Welch's own formula is too bold far out in the tails, where a family's tests are
decided: for 3 seeds against 10 with equal spreads, a test at 0.1 % is wrong 0.4 % of the time (measured); with the
smaller number it is never wrong more often than stated. The t test assumes normal values with similar spreads. Spreads
within a factor of 2 do no harm; if one row spreads 5 times as much as the other, a test at 0.1 % over 5 seeds each is
wrong 0.2 % of the time (measured).

Every declared comparison counts in m, run or not, so that a verdict does not depend on which run ended first.
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
"""With fewer seeds a difference is shown, but nothing is decided."""

RULE = (
    "the p of all tests are sorted, each is compared with 5 % / (m - b), and at the first that fails all stop: m "
    "comparisons in the family, run or not, and b of them shown before to differ and also to lie within the margin"
)
"""The rule of a family, for pages."""

LEVEL = 0.95
"""The level of all intervals that are shown."""

NO_SPREAD = 1e-9
"""A spread this small relative to the means is only rounding, and counts as none."""

Side = Sequence[float] | float
"""One side of a comparison: measured values, one per seed, or a constant."""

Outcome = Literal["as said", "none", "otherwise", "open", "few seeds", "pending"]
"""The outcome of a predicted sign."""


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
        """One-sided p of the null that the true difference is not above `bound`."""
        return float(stdtr(self.freedom, (bound - self.difference) / self.error))

    @property
    def turned(self) -> Welch:
        """The same test for the opposite difference."""
        return dataclasses.replace(self, difference=-self.difference)

    @property
    def differs(self) -> float:
        """Two-sided p of the null that there is no difference."""
        return self.beyond(0)

    def equal(self, margin: float) -> float:
        """p of the null that the difference is `margin` or more, to either side (two one-sided tests)."""
        return float(stdtr(self.freedom, (abs(self.difference) - margin) / self.error))

    def beyond(self, margin: float) -> float:
        """Two-sided p of the null that the difference is within ±`margin`."""
        return min(1.0, 2 * min(self.above(margin), self.turned.above(margin)))


def welch(first: Side, second: Side) -> Welch | None:
    """The Welch statistics of mean(first) - mean(second); a measured side needs at least two values.

    None if no side has any spread, because the error is then unknown. Raises `ValueError` for a value that is not
    finite.
    """
    finite(first, second)
    samples = [side for side in (first, second) if not isinstance(side, float | int)]
    # Not statistics.variance: its fractions take ten times as long, and a simulation calls this millions of times.
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
    """Raise `ValueError` if a value is NaN or infinite: it is no measurement, and it would decide every test."""
    for side in sides:
        values = [side] if isinstance(side, float | int) else list(side)
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{values}: a value is not finite; look at the records that it comes from")


def mean(side: Side) -> float:
    """The mean of a side of a comparison."""
    return float(side) if isinstance(side, float | int) else statistics.fmean(side)


@dataclass(frozen=True)
class Test:
    """A test's p, alone and adjusted for its family. It rejects its null if the adjusted p is at most `ERROR`."""

    p: float
    adjusted: float

    @property
    def shows(self) -> bool:
        """Whether the null hypothesis is rejected."""
        return self.adjusted <= ERROR


@dataclass(frozen=True)
class Difference:
    """The result of a comparison: the difference of means, its 95 % interval, and the three tests.

    `seeds` are those of each measured side. `level` is the level at which the procedure stopped. The tests are None if
    there are too few seeds or no spread.
    """

    seeds: tuple[int, ...]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    differs: Test | None = None
    equal: Test | None = None
    beyond: Test | None = None
    level: float = ERROR

    def outcome(self, sign: Literal["+", "-", "0"]) -> tuple[Outcome, Test | None]:
        """The outcome of a predicted sign and the test behind it; for an open one, the test with the smallest p."""
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
    """Decide a family of comparisons by the rule above.

    A comparison without any spread has no tests. Raises `ValueError` for a value that is not finite.
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
