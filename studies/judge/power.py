"""The seeds that a claim or a level needs: the power, planned before the runs, of the tests that judge them.

A claim of a difference is judged by Welch's t over seeds (against a printed value by Student's t), a claim of no
difference by two one-sided tests (`studies.judge.verdicts`). For normal values the power is an integral over the spread
that the seeds will show. Welch's degrees of freedom depend on that spread, so the noncentral t with 2 (n - 1) degrees
promises too much: for 3 seeds per row at 0.5 % it gives 0.24 instead of 0.13. `tests/test_next.py` checks every number
here by simulation.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv, chdtri, ndtr, stdtrit

from studies.judge.others import planning_sd
from studies.judge.significance import ERROR, LEVEL, MINIMUM_SEEDS

POWER = 0.80
"""The power that plans aim at."""

MOST_SEEDS = 100_000
"""The largest number of seeds that is given; beyond it the answer is None."""

CONFIDENCE = 0.80
"""Confidence of the upper limit of a spread estimated from few seeds. Without it half of all planned studies have less
power than planned (Browne, Statistics in Medicine 14, 1995)."""

FEWEST_FREEDOM = 2
"""Degrees of freedom below which our own seeds do not estimate a spread: two seeds of one row may be anywhere."""


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a metric over seeds, in the metric's unit, and its source."""

    sd: float
    source: Literal["records", "others", "stated"]
    words: str


STATED: dict[str, Spread] = {
    # Ours: nobody reports it for MSCAN. For ResNet-50 it is about 0.1 (Picard, arXiv 2109.08203), and higher for small
    # networks.
    "top1": Spread(0.2, "stated", "stated: nobody reports one for these networks"),
}


def spread_of(metric: str, samples: Iterable[Sequence[float]]) -> Spread | None:
    """The spread to plan with: pooled over the seeds of a table's rows, else others', else stated; None if unknown.

    From our own seeds we take the upper 80 % limit: close to the pooled spread for many seeds, cautious for few.
    """
    several = [values for values in samples if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    if freedom >= FEWEST_FREEDOM and squares > 0:
        sd = math.sqrt(squares / float(chdtri(freedom, CONFIDENCE)))
        pooled = math.sqrt(squares / freedom)
        words = f"our records: {pooled:.2f} with {freedom} degrees of freedom, its upper 80 % limit"
        return Spread(sd, "records", words)
    if told := planning_sd(metric):
        return Spread(told[0], "others", told[1])
    return STATED.get(metric)


@functools.cache
def ordering_power(difference: float, sd: float, seeds: int, alpha: float, rows: int = 2) -> float:
    """The chance to show a true difference with the right sign, two-sided at `alpha`.

    `rows` is 2 for two rows with equally many seeds, or 1 against a printed value, which is taken as exact.
    """
    error = sd * math.sqrt(rows / seeds)
    spread, critical, weight = _spreads(seeds, rows, 1 - alpha / 2)
    return float((ndtr(abs(difference) / error - critical * spread) * weight).sum())


@functools.cache
def equivalence_power(difference: float, margin: float, sd: float, seeds: int, alpha: float, rows: int = 2) -> float:
    """The chance to show that a true difference is within ±margin, by two one-sided tests at `alpha` each."""
    error = sd * math.sqrt(rows / seeds)
    spread, critical, weight = _spreads(seeds, rows, 1 - alpha)
    room = margin / error - critical * spread
    inside = ndtr(room - difference / error) - ndtr(-room - difference / error)
    return float((np.maximum(inside, 0) * weight).sum())


def claim_power(kind: str, difference: float, margin: float, sd: float, seeds: int, alpha: float, rows: int) -> float:
    """The chance to decide a claim correctly if this is the true difference.

    A claim of no difference (`equivalent`) should be contradicted if the difference is beyond the margin.
    """
    if kind != "equivalent":
        return ordering_power(difference, sd, seeds, alpha, rows)
    if abs(difference) > margin:
        return ordering_power(abs(difference) - margin, sd, seeds, alpha, rows)
    return equivalence_power(difference, margin, sd, seeds, alpha, rows)


def claim_seeds(kind: str, difference: float, margin: float, sd: float, alpha: float, rows: int) -> int | None:
    """The fewest seeds per row with power `POWER`; None if `MOST_SEEDS` do not reach it."""
    return fewest(lambda seeds: claim_power(kind, difference, margin, sd, seeds, alpha, rows) >= POWER)


def half_width(sd: float, seeds: int) -> float:
    """The half-width of the 95 % t-interval of a mean if the seeds show exactly this spread."""
    return float(stdtrit(seeds - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(seeds)


def level_seeds(sd: float, tolerance: float) -> int | None:
    """The fewest seeds with which the half-width of a row's interval is at most the tolerance; None as above."""
    return fewest(lambda seeds: half_width(sd, seeds) <= tolerance)


def level_power(sd: float, tolerance: float, seeds: int) -> float:
    """The chance of the verdict `reproduced` if the true level is the printed one."""
    return equivalence_power(0.0, tolerance, sd, seeds, (1 - LEVEL) / 2, 1)


def first_step(claims: int) -> float:
    """The level of Holm's first step over a table's claims, at which each claim is planned."""
    return ERROR / max(1, claims)


def fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds, at least `MINIMUM_SEEDS`, that is enough; None if `MOST_SEEDS` are not."""
    high = MINIMUM_SEEDS
    while not enough(high):
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = max(MINIMUM_SEEDS, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


@functools.cache
def _spreads(seeds: int, rows: int, quantile: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The quadrature of a test: observed spreads relative to the true one, their critical values, and weights.

    The pooled spread follows a chi distribution with rows (n - 1) degrees of freedom, integrated by the trapezoidal
    rule over its logarithm. Independently, the share of one row's variance in the sum of two follows Beta((n - 1) / 2,
    (n - 1) / 2) and gives Welch's degrees of freedom.
    """
    freedom = rows * (seeds - 1)
    wide = 10 / math.sqrt(2 * freedom)
    x = np.linspace(-max(wide, 36 / freedom), wide, 400)
    density = np.exp(freedom * (x - np.expm1(2 * x) / 2))
    shares = betaincinv((seeds - 1) / 2, (seeds - 1) / 2, (np.arange(32) + 0.5) / 32) if rows == 2 else np.ones(1)
    critical = stdtrit((seeds - 1) / (shares**2 + (1 - shares) ** 2), quantile)
    weight = np.outer(density / density.sum(), np.full(len(shares), 1 / len(shares)))
    return np.exp(x)[:, None], critical[None, :], weight
