"""Verdicts, decided by code with written rules (DESIGN.md, "Reports"). Pure statistics: numbers in, words out.

Levels are judged on the t-interval of (ours - printed) against +-epsilon; claims on Welch's interval of the difference
between two rows, because seeds are not paired across architectures (`studies.judge.significance`); outcomes that are
learnt or not by Fisher's exact test. The claims of a table on accuracies are a family, corrected by Holm's method;
predictions have the rule of `studies.judge.significance`. No claim is ever made from fewer than three seeds, nor from
seeds that do not differ at all. What is no finite number is a `ValueError`, never a verdict.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from studies.judge import significance
from studies.judge.power import POWER, claim_seeds
from studies.judge.significance import Side, Welch, finite, mean, welch

MINIMUM_SEEDS = significance.MINIMUM_SEEDS  # below it a difference is shown and no claim is made
LEVEL = significance.LEVEL  # of every interval that is shown
MOST_SEEDS = 1000  # beyond it the answer is "more than"
MOST_COUNTED = 30  # the same where outcomes are counted: every outcome of so many seeds is enumerated
EPSILON = {"miou_ss": 1.0, "miou_ms": 1.0, "top1": 0.5}  # DESIGN: stated defaults, never fitted to results
MARGIN = 0.5  # of an equivalence claim, in the metric's own points
LINEAR = 0.05  # how far from 1 the exponent of a cost that grows with the number of pixels may lie
QUADRATIC = 1.5  # of a x + b x²: 1 + the share of b x² is the exponent at x, so above this most of it is quadratic
ROUNDING = 0.06  # a printed cost is rounded to 0.1, sometimes twice (4.2507 -> 4.25 -> 4.3)

RULES = {
    "reproduced": "the 95 % t-interval of (ours − printed) lies wholly inside ±ε",
    "above": "that interval lies wholly above +ε",
    "below": "that interval lies wholly below −ε",
    "inconclusive": "that interval crosses +ε or −ε, or no seed differs from another: no spread is no certainty",
    "supported": (
        "the difference is as claimed, by Welch's test (to a printed value: Student's) at 5 %; for a claim of no "
        f"difference, two one-sided tests of ±{MARGIN} at 5 % each; where runs learn a task or do not, Fisher's exact "
        "test. The 5 % hold for all claims of a table under a protocol together (Holm), and apart from them for all "
        f"its predictions about generated data: {significance.RULE}. That supposes that seeds spread alike in two "
        "rows, to a factor of about 2. A constant (a printed value, chance) is held without any error of its own: "
        "chance is one class in so many, and a row that guesses one class for all is right as often as that class "
        "occurs in the test images (key: 46 or 54 %, held against 50). For costs, the order is as claimed; "
        f"for how they grow, the exponent between the two largest images lies within ±{LINEAR} of 1 for the "
        f"first row and above {QUADRATIC} for the second: most of that cost then grows with the square"
    ),
    "contradicted": (
        "the difference has the other sign, by the same tests; for a claim of no difference, it lies beyond "
        f"±{MARGIN}; for costs, the order is not as claimed, or one of the two exponents"
    ),
    "no difference": (
        "of predictions about generated data: above or below was predicted, neither shows, and two one-sided tests of "
        "the ±5 points that count as equal say that there is no such difference"
    ),
    "not resolved": (
        "neither; in brackets the seeds per row that would resolve it at 80 % power and the level that the correction "
        "left it, were the true difference and the pooled spread those observed. Without a number where no seed "
        "differs from another (a row that always guesses the same class, 100 % in every run): no spread is no "
        "certainty, so nothing is tested"
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
    """A verdict with what it was decided on. `seeds` per row would resolve it; None where no number can be given.

    `p` is the test's own, `adjusted` the one that Holm's method makes of it within the family. `mixed` says what the
    runs behind it do not share.
    """

    verdict: str
    difference: float | None = None
    interval: Interval | None = None
    seeds: int | None = None
    p: float | None = None
    adjusted: float | None = None
    mixed: str = ""


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of the mean of n >= 2 values: mean ± t(n - 1) s / sqrt(n).

    `ValueError` for a value that is not finite.
    """
    finite(values)
    middle, deviation = mean(values), statistics.stdev(values)
    half = _t(level, len(values) - 1) * deviation / math.sqrt(len(values))
    return Interval(middle - half, middle + half)


def epsilon(metric: str, spread: float = 0.0) -> float:
    """The tolerance of a level: the larger of the stated default and the paper's own spread for this row."""
    return max(EPSILON[metric], spread)


def level(ours: Sequence[float], printed: float | None, tolerance: float) -> Judgement:
    """Ours against a printed value: pending, few seeds, reproduced, above, below, or inconclusive.

    `ValueError` for a value that is not finite.
    """
    finite(ours)
    if not ours:
        return Judgement("pending")
    if printed is None:
        return Judgement("few seeds" if len(ours) < MINIMUM_SEEDS else "")
    difference = statistics.fmean(ours) - printed
    if len(ours) < MINIMUM_SEEDS:
        return Judgement("few seeds", difference)
    if welch(ours, printed) is None:
        return Judgement("inconclusive", difference)  # without any spread there is no interval
    interval = mean_interval([value - printed for value in ours])
    return Judgement(level_verdict(interval, tolerance), difference, interval)


def level_verdict(interval: Interval, tolerance: float) -> str:
    """The rule of levels on an interval of (ours - printed)."""
    if interval.inside(tolerance):
        return "reproduced"
    if interval.outside(tolerance):
        return "above" if interval.low > tolerance else "below"
    return "inconclusive"


def ordering(better: Side, worse: Side, level: float = LEVEL) -> Judgement:
    """The claim that `better` lies above `worse`."""
    return _claim(better, worse, _ordering_test, ordering_seeds, level)


def equivalence(first: Side, second: Side, level: float = LEVEL, margin: float = MARGIN) -> Judgement:
    """The claim that two rows do not differ: an equivalence test (two one-sided tests) with ±margin."""
    test = functools.partial(_equivalence_test, margin)
    return _claim(first, second, test, functools.partial(equivalence_seeds, margin=margin), level)


def learnt(better: Sequence[float], worse: Sequence[float], threshold: float, level: float = LEVEL) -> Judgement:
    """The claim that more runs of `better` than of `worse` reach a threshold: Fisher's exact test on the counts.

    For bimodal outcomes, whose means say little. The difference is that of the shares of runs, in percent.
    """
    finite(better, worse)
    counts = [len(better), len(worse)]
    if 0 in counts:
        return Judgement("pending")
    reached = [sum(value >= threshold for value in values) for values in (better, worse)]
    difference = 100 * (reached[0] / counts[0] - reached[1] / counts[1])
    if min(counts) < MINIMUM_SEEDS:
        return Judgement("few seeds", difference)
    p = _fisher(reached[0], counts[0], reached[1], counts[1])
    word = ("supported" if difference > 0 else "contradicted") if p <= 1 - level and difference else "not resolved"
    needed = _counted_seeds(reached[0] / counts[0], reached[1] / counts[1], max(counts), level)
    return Judgement(word, difference, seeds=needed if word == "not resolved" else None, p=p)


def told(outcome: significance.Outcome) -> str:
    """The verdict on a prediction of which this became."""
    return {"as said": "supported", "otherwise": "contradicted", "none": "no difference", "open": "not resolved"}.get(
        outcome, outcome
    )


def holm(family: Sequence[Callable[[float], Judgement]]) -> list[Judgement]:
    """The claims of a family, each a function of the level it is judged at, corrected by Holm's method.

    From the smallest p on, the k-th of m is judged at 1 - (1 - LEVEL) / (m - k + 1), and once one is not resolved, none
    after it is. Claims that nothing can be decided on yet do not count. The chance of any wrong decision stays below
    1 - LEVEL; the intervals that are shown are each claim's own.
    """
    found = [judge(LEVEL) for judge in family]
    order = sorted((judgement.p, place) for place, judgement in enumerate(found) if judgement.p is not None)
    level, adjusted, closed = LEVEL, 0.0, False
    for step, (p, place) in enumerate(order):
        left = len(order) - step
        adjusted = max(adjusted, min(1.0, left * p))
        level = level if closed else 1 - (1 - LEVEL) / left
        judgement = family[place](level)
        closed = closed or judgement.verdict == "not resolved"
        if closed and judgement.verdict != "not resolved":  # a tie in p, at the level of the first that failed
            judgement = dataclasses.replace(judgement, verdict="not resolved")
        found[place] = dataclasses.replace(judgement, adjusted=adjusted)
    return found


def costs(better: float | None, worse: float | None, kind: str) -> Judgement:
    """A claim about costs, which are exact: `greater`, or `equivalent` to within the rounding of a print."""
    if better is None or worse is None:
        return Judgement("pending")
    finite(better, worse)
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
    finite(*points)
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
    test: Callable[[Welch], tuple[float, float]],
    seeds: Callable[[Side, Side, float], int | None],
    level: float,
) -> Judgement:
    finite(first, second)
    counts = [len(sample) for sample in _samples(first, second)]
    if 0 in counts:
        return Judgement("pending")
    difference = mean(first) - mean(second)
    if min(counts) < MINIMUM_SEEDS:
        return Judgement("few seeds", difference)
    found = welch(first, second)
    if found is None:
        return Judgement("not resolved", difference)  # without any spread nothing is certain
    support, contradiction = test(found)
    # At most one of the two can be a wrong decision, so the smaller p is that of the claim.
    p = min(support, contradiction)
    word = "not resolved" if p > 1 - level else "supported" if support <= contradiction else "contradicted"
    needed = seeds(first, second, level) if word == "not resolved" else None
    return Judgement(word, difference, Interval(*found.interval(LEVEL)), needed, p)


def _samples(*sides: Side) -> list[Sequence[float]]:
    return [side for side in sides if not isinstance(side, float | int)]


def _ordering_test(found: Welch) -> tuple[float, float]:
    """p of the claim and of its opposite, each twice the one-sided."""
    return min(1.0, 2 * found.above(0)), min(1.0, 2 * found.turned.above(0))


def _equivalence_test(margin: float, found: Welch) -> tuple[float, float]:
    """p of the difference lying within ±margin (two one-sided tests), and of its lying beyond."""
    return found.equal(margin), found.beyond(margin)


def ordering_seeds(first: Side, second: Side, level: float) -> int | None:
    """How many seeds per row would show, at this level, the difference that was observed; None: too many to say."""
    return _seeds(first, second, "greater", level, 0.0)


def equivalence_seeds(first: Side, second: Side, level: float, margin: float) -> int | None:
    """The same of a difference within ±margin, or beyond it if that was observed."""
    return _seeds(first, second, "equivalent", level, margin)


def _pooled(samples: Sequence[Sequence[float]]) -> float:
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in samples)
    return math.sqrt(squares / sum(len(values) - 1 for values in samples))


def _seeds(first: Side, second: Side, kind: str, level: float, margin: float) -> int | None:
    """The fewest seeds per row, more than there are, that reach POWER; None if MOST_SEEDS do not."""
    samples = _samples(first, second)
    spread, have = _pooled(samples), max(map(len, samples))
    if spread == 0 or have >= MOST_SEEDS:
        return None
    difference = mean(first) - mean(second)
    return claim_seeds(kind, difference, margin, spread, 1 - level, len(samples), have + 1, MOST_SEEDS)


@functools.cache
def _fisher(first: int, of_first: int, second: int, of_second: int) -> float:
    """Two-sided p of `first` of `of_first` against `second` of `of_second`: of tables at most as likely as this one."""
    both = first + second
    weights = [
        math.comb(of_first, k) * math.comb(of_second, both - k)
        for k in range(max(0, both - of_second), min(of_first, both) + 1)
    ]
    seen = math.comb(of_first, first) * math.comb(of_second, second)
    return sum(weight for weight in weights if weight <= seen) / sum(weights)


def _counted_seeds(better: float, worse: float, have: int, level: float) -> int | None:
    """The fewest runs per row, more than there are, at which `_fisher` reaches POWER; None beyond MOST_COUNTED."""

    def chance(share: float, of: int, count: int) -> float:
        return math.comb(of, count) * share**count * (1 - share) ** (of - count)

    for count in range(have + 1, MOST_COUNTED + 1) if better != worse else ():
        outcomes = [(k, chance(better, count, k), chance(worse, count, k)) for k in range(count + 1)]
        likely = (
            (p * q, k, j)
            for k, p, _ in outcomes
            for j, _, q in outcomes
            if p * q > 1e-9 and (k - j) * (better - worse) > 0
        )
        if sum(weight for weight, k, j in likely if _fisher(k, count, j, count) <= 1 - level) >= POWER:
            return count
    return None


def _t(level: float, freedom: float) -> float:
    """The two-sided critical value of Student's t."""
    return float(stdtrit(freedom, (1 + level) / 2))
