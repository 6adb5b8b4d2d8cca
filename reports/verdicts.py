"""Verdicts, decided by code with written rules (DESIGN.md, "Reports"). Pure statistics: numbers in, words out.

Levels are judged on the t-interval of (ours - printed) against +-epsilon; claims on Welch's interval of the difference
between two rows, because seeds are not paired across architectures. No claim is ever made from fewer than three seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import nctdtr, stdtrit

MINIMUM_SEEDS = 3  # below it a difference is shown and no claim is made
LEVEL = 0.95  # of every interval that is shown
POWER = 0.80  # at which "seeds that would resolve it" is counted
MOST_SEEDS = 1000  # beyond it the answer is "more than"
EPSILON = {"miou_ss": 1.0, "miou_ms": 1.0, "top1": 0.5}  # DESIGN: stated defaults, never fitted to results
MARGIN = 0.5  # of an equivalence claim, in the metric's own points
LINEAR = 0.05  # how far from 1 the exponent of a cost that grows with the number of pixels may lie
QUADRATIC = 1.5  # of a x + b x²: 1 + the share of b x² is the exponent at x, so above this most of it is quadratic
ROUNDING = 0.06  # a printed cost is rounded to 0.1, sometimes twice (4.2507 -> 4.25 -> 4.3)

Side = Sequence[float] | float
"""One side of a claim: what was measured, one value per seed, or a printed constant."""

RULES = {
    "reproduced": "the 95 % t-interval of (ours − printed) lies wholly inside ±ε",
    "above": "that interval lies wholly above +ε",
    "below": "that interval lies wholly below −ε",
    "inconclusive": "that interval crosses +ε or −ε",
    "supported": (
        "the 95 % Welch interval of the difference (to a printed value: Student's) lies wholly above 0; for "
        f"a claim of no difference, the 90 % interval lies wholly inside ±{MARGIN} (two one-sided tests at 5 %); for "
        "costs, the order is as claimed; for how they grow, the exponent between the two largest images lies within "
        f"±{LINEAR} of 1 for the first row and above {QUADRATIC} for the second: most of that cost then grows with the "
        "square"
    ),
    "contradicted": (
        f"the 95 % interval lies wholly below 0; for a claim of no difference, wholly outside ±{MARGIN}; "
        "for costs, the order is not as claimed, or one of the two exponents"
    ),
    "not resolved": (
        "neither; in brackets the seeds per row that would resolve it at 80 % power, were the true difference and the "
        "pooled spread those observed"
    ),
    "few seeds": "one or two seeds in a row: the difference shows, nothing is claimed",
    "imported": (
        "weights that were trained elsewhere, tested here: never counted as reproduced, and in no mean, claim or count"
    ),
    "pending": "nothing measured yet",
    "agrees": (
        f"a measured cost lies within {ROUNDING} of the printed one (a print is rounded to 0.1, sometimes twice); a "
        "recipe is the printed one"
    ),
    "differs": "a measured cost lies further from the printed one, or a recipe is another one; the row says why",
    "unexplained": "a measured cost lies further from the printed one, and no row says why",
}
"""Every verdict and its rule in words: the legend of the page."""


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    def inside(self, margin: float) -> bool:
        """Whether it lies wholly within ±margin."""
        return -margin <= self.low and self.high <= margin

    def outside(self, margin: float) -> bool:
        """Whether it lies wholly beyond +margin or wholly beyond -margin."""
        return self.low > margin or self.high < -margin


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it was decided on. `seeds` per row would resolve it; None where no number can be given."""

    verdict: str
    difference: float | None = None
    interval: Interval | None = None
    seeds: int | None = None


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of the mean of n >= 2 values: mean ± t(n - 1) s / sqrt(n)."""
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    half = _t(level, len(values) - 1) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def welch_interval(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Interval:
    """Welch's interval of mean(first) - mean(second), both with n >= 2, variances not assumed equal."""
    difference = statistics.fmean(first) - statistics.fmean(second)
    a, b = (statistics.variance(values) / len(values) for values in (first, second))
    if a + b == 0:
        return Interval(difference, difference)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    half = _t(level, freedom) * math.sqrt(a + b)
    return Interval(difference - half, difference + half)


def difference_interval(first: Side, second: Side, level: float = LEVEL) -> Interval:
    """Welch's interval; Student's where one side is a printed constant."""
    if isinstance(second, float | int):
        return mean_interval([value - second for value in _sample(first)], level)
    if isinstance(first, float | int):
        return mean_interval([first - value for value in second], level)
    return welch_interval(first, second, level)


def epsilon(metric: str, spread: float = 0.0) -> float:
    """The tolerance of a level: the larger of the stated default and the paper's own spread for this row."""
    return max(EPSILON[metric], spread)


def level(ours: Sequence[float], printed: float | None, tolerance: float) -> Judgement:
    """Ours against a printed value: pending, few seeds, reproduced, above, below, or inconclusive."""
    if not ours:
        return Judgement("pending")
    if printed is None:
        return Judgement("few seeds" if len(ours) < MINIMUM_SEEDS else "")
    difference = statistics.fmean(ours) - printed
    if len(ours) < MINIMUM_SEEDS:
        return Judgement("few seeds", difference)
    interval = mean_interval([value - printed for value in ours])
    return Judgement(level_verdict(interval, tolerance), difference, interval)


def level_verdict(interval: Interval, tolerance: float) -> str:
    """The rule of levels on an interval of (ours - printed)."""
    if interval.inside(tolerance):
        return "reproduced"
    if interval.outside(tolerance):
        return "above" if interval.low > tolerance else "below"
    return "inconclusive"


def ordering(better: Side, worse: Side) -> Judgement:
    """The claim that `better` lies above `worse`."""
    return _claim(better, worse, _ordering_verdict, _ordering_power)


def equivalence(first: Side, second: Side) -> Judgement:
    """The claim that two rows do not differ: an equivalence test (two one-sided tests) with ±MARGIN."""
    return _claim(first, second, _equivalence_verdict, _equivalence_power)


def costs(better: float | None, worse: float | None, kind: str) -> Judgement:
    """A claim about costs, which are exact: `greater`, or `equivalent` to within the rounding of a print."""
    if better is None or worse is None:
        return Judgement("pending")
    difference = better - worse
    holds = difference > 0 if kind == "greater" else abs(difference) <= ROUNDING
    return Judgement("supported" if holds else "contradicted", difference)


@dataclass(frozen=True)
class Exponent:
    """b of y = a x^b: by least squares of log y on log x, with its standard error, and between the two largest x."""

    value: float
    error: float
    last: float


def exponent(points: Sequence[tuple[float, float]]) -> Exponent | None:
    """How y > 0 grows with x > 0, from points in ascending x; None for fewer than three."""
    if len(points) < 3:
        return None
    xs, ys = ([math.log(value) for value in values] for values in zip(*points, strict=True))
    value, offset = statistics.linear_regression(xs, ys)
    rest = sum((y - value * x - offset) ** 2 for x, y in zip(xs, ys, strict=True))
    error = math.sqrt(rest / (len(xs) - 2) / (len(xs) - 1) / statistics.variance(xs))
    return Exponent(value, error, (ys[-1] - ys[-2]) / (xs[-1] - xs[-2]))


def slope(linear: Exponent | None, quadratic: Exponent | None) -> Judgement:
    """The claim that one cost grows with the number of pixels and another with its square."""
    if linear is None or quadratic is None:
        return Judgement("pending")
    holds = abs(linear.last - 1) <= LINEAR and quadratic.last > QUADRATIC
    return Judgement("supported" if holds else "contradicted", linear.last - quadratic.last)


def agrees(measured: float, printed: float) -> bool:
    """Whether a measured cost, in the printed unit, is one that could have been printed so."""
    return abs(measured - printed) <= ROUNDING + 1e-9


def _claim(
    first: Side,
    second: Side,
    verdict: Callable[[Interval, Interval], str],
    power: Callable[[float, float, float], float],
) -> Judgement:
    samples = [side for side in (first, second) if not isinstance(side, float | int)]
    counts = [len(sample) for sample in samples]
    if 0 in counts:
        return Judgement("pending")
    difference = _mean(first) - _mean(second)
    if min(counts) < MINIMUM_SEEDS:
        return Judgement("few seeds", difference)
    # Two one-sided tests at 1 - LEVEL each are one interval of level 2 LEVEL - 1 (90 %).
    interval, narrower = (difference_interval(first, second, width) for width in (LEVEL, 2 * LEVEL - 1))
    word = verdict(interval, narrower)
    needed = _seeds(difference, samples, power) if word == "not resolved" else None
    return Judgement(word, difference, interval, needed)


def _sample(side: Side) -> Sequence[float]:
    return [side] if isinstance(side, float | int) else side


def _mean(side: Side) -> float:
    return statistics.fmean(_sample(side))


def _ordering_verdict(interval: Interval, narrower: Interval) -> str:
    return "supported" if interval.low > 0 else "contradicted" if interval.high < 0 else "not resolved"


def _equivalence_verdict(interval: Interval, narrower: Interval) -> str:
    return "supported" if narrower.inside(MARGIN) else "contradicted" if interval.outside(MARGIN) else "not resolved"


def _ordering_power(difference: float, error: float, freedom: float) -> float:
    return 1 - float(nctdtr(freedom, abs(difference) / error, _t(LEVEL, freedom)))


def _equivalence_power(difference: float, error: float, freedom: float) -> float:
    if abs(difference) > MARGIN:  # then it is the contradiction that more seeds would show
        return _ordering_power(abs(difference) - MARGIN, error, freedom)
    critical = _t(2 * LEVEL - 1, freedom)
    # The chance to miss on either side, added up (Boole's inequality): errs towards more seeds.
    missed = sum(float(nctdtr(freedom, (MARGIN + side) / error, critical)) for side in (difference, -difference))
    return 1 - missed


def _pooled(samples: Sequence[Sequence[float]]) -> float:
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in samples)
    return math.sqrt(squares / sum(len(values) - 1 for values in samples))


def _seeds(
    difference: float, samples: Sequence[Sequence[float]], power: Callable[[float, float, float], float]
) -> int | None:
    """The fewest seeds per row, more than there are, that reach POWER; None if MOST_SEEDS do not."""
    spread, have, rows = _pooled(samples), max(map(len, samples)), len(samples)

    def enough(count: int) -> bool:
        return power(difference, spread * math.sqrt(rows / count), rows * (count - 1)) >= POWER

    low, high = have + 1, max(MOST_SEEDS, have + 1)
    if spread == 0 or not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _t(level: float, freedom: float) -> float:
    """The two-sided critical value of Student's t."""
    return float(stdtrit(freedom, (1 + level) / 2))
