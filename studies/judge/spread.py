"""How far seeds spread: what a plan counts with, from our records, from what others report, or as stated."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import chdtri

from studies.judge.others import planning_sd

CONFIDENCE = 0.80
"""Of the upper limit of a spread that few seeds showed (Browne, Statistics in Medicine 14, 1995: else half of all
planned studies have less power than planned)."""

FEWEST_FREEDOM = 2
"""Degrees of freedom below which our own seeds say nothing of a spread: two seeds of one row may lie anywhere."""


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a metric over seeds, in its points, and where it is from."""

    sd: float
    source: Literal["records", "others", "stated"]
    words: str


STATED: dict[str, Spread] = {
    # Ours: nobody reports MSCAN's; ResNet-50's is about 0.1 (Picard, arXiv 2109.08203), small networks spread more.
    "top1": Spread(0.2, "stated", "stated: nobody reports one for these networks"),
}


def spread_of(metric: str, samples: Iterable[Sequence[float]]) -> Spread | None:
    """The spread to plan with: pooled over the seeds of a table's rows, else others', else stated; None: not known.

    Of our own it is the upper 80 % limit: with many seeds the pooled spread itself, with few rather too much.
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
