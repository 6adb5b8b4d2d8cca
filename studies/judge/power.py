"""The seeds that a claim or a level needs: the power, planned before the runs, of the tests that judge them.

A claim of a difference is judged by Welch's t over seeds (against a printed value by Student's t), a claim of no
difference by two one-sided tests (`studies.judge.verdicts`). For normal values the power is an integral over the spread
that the seeds will show. Welch's degrees of freedom depend on that spread, so the noncentral t with 2 (n - 1) degrees
promises too much: for 3 seeds per row at 0.5 % it gives 0.24 instead of 0.13. `test_next.py` checks every number
here by simulation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv, ndtr, stdtrit

from studies.judge.significance import ERROR, LEVEL, MINIMUM_SEEDS

POWER = 0.80
"""The power that plans aim at."""

MOST_SEEDS = 100_000
"""The largest number of seeds that is given; beyond it the answer is None."""


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


def claim_seeds(
    kind: str,
    difference: float,
    margin: float,
    sd: float,
    alpha: float,
    rows: int,
    least: int = MINIMUM_SEEDS,
    most: int = MOST_SEEDS,
) -> int | None:
    """The fewest seeds a row, `least` or more, with power `POWER`; None: `most` do not reach it."""
    return fewest(lambda seeds: claim_power(kind, difference, margin, sd, seeds, alpha, rows) >= POWER, least, most)


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


def fewest(enough: Callable[[int], bool], least: int = MINIMUM_SEEDS, most: int = MOST_SEEDS) -> int | None:
    """The smallest number of seeds, `least` or more, that is enough; None beyond `most`."""
    high = least
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = max(least, high // 2)
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
