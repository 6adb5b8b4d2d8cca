"""Claims judged in planned looks: after so many seeds, and again after more, until each is decided or the last is past.

The 5 % are split over the looks, before the first run (5 and 10 seeds: 1 % and 4 %). At a look only its seeds enter,
by Holm's method at the look's share over all claims of the table: one whose rows have not its seeds counts with p = 1.
A decided claim keeps its verdict. Why that holds: at each look Holm keeps the chance of any wrong decision at its
share, whatever was decided or given up before, since a p of 1 is never too small; the shares add up to 5 %.

After each look but the last an open claim is given up where it would hardly be decided at the last one: where its
conditional power is below 10 %, were the true difference the one that was observed and also were it the printed one.
Giving up decides nothing, so it cannot be wrong more often. `tests/test_next.py` holds the 5 % by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from studies.judge import verdicts
from studies.judge.significance import ERROR, MINIMUM_SEEDS
from studies.judge.verdicts import MARGIN, Judgement

GIVEN_UP = 0.10
"""Conditional power below which no further seeds are added."""

GROWTH = 4
"""Each look's share of the 5 % is so many times that of the look before: 1 % and 4 %."""

DRAWS = 2000
"""Of a conditional power: within about 2 points of it."""


@dataclass(frozen=True)
class Followed:
    """A claim of a family: its rows' values in the order of the plan's seeds, or a row's against a constant."""

    name: str
    kind: Literal["greater", "equivalent"]
    first: Sequence[float]
    second: Sequence[float] | float
    printed: float | None = None

    def has(self, seeds: int) -> bool:
        """Whether every row has so many."""
        return min(len(side) for side in (self.first, self.second) if not isinstance(side, float | int)) >= seeds

    def judge(self, seeds: int, level: float) -> Judgement:
        """The verdict on the first so many seeds alone."""
        second = self.second if isinstance(self.second, float | int) else self.second[:seeds]
        judge = verdicts.ordering if self.kind == "greater" else verdicts.equivalence
        return judge(self.first[:seeds], second, level)


@dataclass(frozen=True)
class Stand:
    """Where a claim stands: its verdict and the look (1, 2, ...) that decided it, or at which it was given up."""

    verdict: str = "pending"
    look: int = 0
    difference: float | None = None
    p: float | None = None
    conditional: float | None = None  # power, after the last look that has all seeds of the claim

    @property
    def over(self) -> bool:
        """Whether more seeds would be added to no purpose."""
        return self.verdict in ("supported", "contradicted", "given up")


def shares(looks: Sequence[int]) -> tuple[float, ...]:
    """What each look gets of the 5 %. `ValueError` for sizes that are no plan."""
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < MINIMUM_SEEDS:
        sizes = ",".join(map(str, looks))
        raise ValueError(f"--looks {sizes}: numbers of seeds that grow, {MINIMUM_SEEDS} or more, such as 5,10")
    weights = [GROWTH**place for place in range(len(looks))]
    return tuple(ERROR * weight / sum(weights) for weight in weights)


def judged(family: Sequence[Followed], looks: Sequence[int], claims: int) -> dict[str, Stand]:
    """Where each claim stands after every look whose seeds are there; `claims`: of the whole table, run or not."""
    found = {one.name: Stand() for one in family}
    for look, (seeds, share) in enumerate(zip(looks, shares(looks), strict=True), start=1):
        here = [one for one in family if not found[one.name].over and one.has(seeds)]
        alone = {one.name: one.judge(seeds, 1 - share) for one in here}
        closed = False
        for step, one in enumerate(sorted(here, key=lambda one: _p(alone[one.name]))):
            judgement = one.judge(seeds, 1 - share / (claims - step))
            closed = closed or judgement.verdict == "not resolved"
            stand = Stand("not resolved", look, judgement.difference, judgement.p)
            if not closed:
                stand = Stand(judgement.verdict, look, judgement.difference, judgement.p)
            elif look < len(looks):
                chance = conditional_power(one, seeds, looks[-1], shares(looks)[-1] / claims)
                word = "given up" if chance < GIVEN_UP else "not resolved"
                stand = Stand(word, look, judgement.difference, judgement.p, chance)
            found[one.name] = stand
    return found


def _p(judgement: Judgement) -> float:
    return 1.0 if judgement.p is None else judgement.p


def conditional_power(one: Followed, seeds: int, last: int, alpha: float) -> float:
    """The chance to decide a claim at the last look, given the seeds so far: the larger of two.

    The seeds to come have the spread of those that are there, and the difference that was observed, or the printed one.
    """
    sides = [np.asarray(side[:seeds]) for side in (one.first, one.second) if not isinstance(side, float | int)]
    constant = float(one.second) if isinstance(one.second, float | int) else 0.0
    sd = math.sqrt(sum(float(np.var(side, ddof=1)) for side in sides) / len(sides))
    if sd == 0:
        return 1.0  # nothing is known of the spread: it is not given up
    means = [float(side.mean()) for side in sides]
    shifts = {0.0}
    if one.printed is not None:
        observed = means[0] - (means[1] if len(means) == 2 else constant)
        shifts.add(one.printed - observed)
    return max(_decided(sides, means, constant, shift, sd, last, alpha, one.kind) for shift in shifts)


def _decided(
    sides: Sequence[np.ndarray],
    means: Sequence[float],
    constant: float,
    shift: float,
    sd: float,
    last: int,
    alpha: float,
    kind: str,
) -> float:
    """How often the last look decides, of `DRAWS` continuations in which the first row's new seeds are shifted."""
    draw = np.random.default_rng(0)
    whole = []
    for place, (side, mean) in enumerate(zip(sides, means, strict=True)):
        new = draw.normal(mean + (shift if place == 0 else 0.0), sd, (DRAWS, last - len(side)))
        whole.append(np.concatenate([np.broadcast_to(side, (DRAWS, len(side))), new], axis=1))
    parts = [values.var(axis=1, ddof=1) / last for values in whole]
    total = np.sum(parts, axis=0)
    freedom = (last - 1) * total**2 / np.sum(np.square(parts), axis=0)
    difference = whole[0].mean(axis=1) - (whole[1].mean(axis=1) if len(whole) == 2 else constant)
    t, two = np.abs(difference) / np.sqrt(total), stdtrit(freedom, 1 - alpha / 2)
    if kind == "greater":
        return float((t > two).mean())
    margin = MARGIN / np.sqrt(total)
    return float(((t + stdtrit(freedom, 1 - alpha) < margin) | (t - two > margin)).mean())
