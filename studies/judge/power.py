"""How many seeds a claim or a level needs: power, planned before the runs, of the tests that judge them.

A claim of a difference is judged by Welch's t over seeds (to a printed value: Student's), one of no difference by two
one-sided tests (`studies.judge.verdicts`). Of normal values the power of each is an integral over the spread that the
seeds will show: Welch's degrees of freedom depend on it, so the noncentral t of 2 (n - 1) degrees alone promises too
much (of 3 seeds a row at 0.5 %: 0.24 for 0.13). `tests/test_next.py` holds every number here by simulation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv, ndtr, stdtrit

from studies.judge.significance import ERROR, LEVEL, MINIMUM_SEEDS

POWER = 0.80
"""What is planned for."""

MOST_SEEDS = 100_000
"""Beyond it no number is given."""


@functools.cache
def ordering_power(difference: float, sd: float, seeds: int, alpha: float, rows: int = 2) -> float:
    """The chance that a true difference is shown, with its sign, two-sided at `alpha`.

    `rows`: 2 with as many seeds each, 1 against a printed value, which is held without an error of its own.
    """
    error = sd * math.sqrt(rows / seeds)
    spread, critical, weight = _spreads(seeds, rows, 1 - alpha / 2)
    return float((ndtr(abs(difference) / error - critical * spread) * weight).sum())


@functools.cache
def equivalence_power(difference: float, margin: float, sd: float, seeds: int, alpha: float, rows: int = 2) -> float:
    """The chance that a true difference is shown to lie within ±margin, by two one-sided tests at `alpha` each."""
    error = sd * math.sqrt(rows / seeds)
    spread, critical, weight = _spreads(seeds, rows, 1 - alpha)
    room = margin / error - critical * spread
    inside = ndtr(room - difference / error) - ndtr(-room - difference / error)
    return float((np.maximum(inside, 0) * weight).sum())


def claim_power(kind: str, difference: float, margin: float, sd: float, seeds: int, alpha: float, rows: int) -> float:
    """The chance that a claim is decided as it should be, were this the true difference.

    A claim of no difference (`equivalent`) is contradicted where the difference lies beyond the margin.
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
    """Of the 95 % t-interval of a mean, were the spread shown just this one."""
    return float(stdtrit(seeds - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(seeds)


def level_seeds(sd: float, tolerance: float) -> int | None:
    """The fewest seeds of a row whose interval's half-width is within the tolerance of its level."""
    return fewest(lambda seeds: half_width(sd, seeds) <= tolerance)


def level_power(sd: float, tolerance: float, seeds: int) -> float:
    """The chance of the word `reproduced`, were the true level the printed one."""
    return equivalence_power(0.0, tolerance, sd, seeds, (1 - LEVEL) / 2, 1)


def first_step(claims: int) -> float:
    """The level of Holm's first step over so many claims of a table: what a claim is planned at."""
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
    """Of a test: shown spreads, relative to the true one, the critical values that go with them, and their weights.

    The pooled spread is a chi of rows (n - 1) degrees, by the trapezoidal rule over its logarithm. Independent of it,
    the share of one row's variance in the sum of two is Beta((n - 1) / 2, (n - 1) / 2), and gives Welch's freedom.
    """
    freedom = rows * (seeds - 1)
    wide = 10 / math.sqrt(2 * freedom)
    x = np.linspace(-max(wide, 36 / freedom), wide, 400)
    density = np.exp(freedom * (x - np.expm1(2 * x) / 2))
    shares = betaincinv((seeds - 1) / 2, (seeds - 1) / 2, (np.arange(32) + 0.5) / 32) if rows == 2 else np.ones(1)
    critical = stdtrit((seeds - 1) / (shares**2 + (1 - shares) ** 2), quantile)
    weight = np.outer(density / density.sum(), np.full(len(shares), 1 / len(shares)))
    return np.exp(x)[:, None], critical[None, :], weight
