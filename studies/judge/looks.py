"""Sequential judging: claims are judged at planned looks, each after more seeds, until decided or past the last look.

Before the first run the 5 % are split over the looks (1 % at 5 seeds, 4 % at 10). A look uses only its own number of
seeds and applies Holm's method, at the look's share, to all claims of the table; a claim whose rows lack these seeds
counts with p = 1. A decided claim keeps its verdict. Overall the error stays below 5 %: at each look Holm keeps the
chance of any wrong decision below the look's share, whatever was decided or given up before, because a p of 1 never
rejects; and the shares add up to 5 %.

After each look except the last, an open claim is given up if it would hardly be decided at the last one: if its
conditional power is below 10 % both for the observed and for the printed difference. Giving up decides nothing, so it
adds no error. `tests/studies/test_next.py` checks the 5 % by simulation.
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
"""Conditional power below which a claim gets no more seeds."""

GROWTH = 4
"""Ratio of each look's share of the 5 % to that of the previous look: 1 % and 4 %."""

DRAWS = 2000
"""Simulated continuations per conditional power, which give it within about 2 points."""


@dataclass(frozen=True)
class Followed:
    """A claim of a family: the values of its two rows in the order of the plan's seeds, or a row against a constant."""

    name: str
    kind: Literal["greater", "equivalent"]
    first: Sequence[float]
    second: Sequence[float] | float
    printed: float | None = None

    def has(self, seeds: int) -> bool:
        """Whether every row has this many seeds."""
        return min(len(side) for side in (self.first, self.second) if not isinstance(side, float | int)) >= seeds

    def judge(self, seeds: int, level: float) -> Judgement:
        """The verdict on only the first `seeds` seeds."""
        second = self.second if isinstance(self.second, float | int) else self.second[:seeds]
        judge = verdicts.ordering if self.kind == "greater" else verdicts.equivalence
        return judge(self.first[:seeds], second, level)


@dataclass(frozen=True)
class Stand:
    """The state of a claim: its verdict and the look (1, 2, ...) at which it was decided or given up."""

    verdict: str = "pending"
    look: int = 0
    difference: float | None = None
    p: float | None = None
    conditional: float | None = None  # conditional power after the last look for which the claim has all seeds

    @property
    def over(self) -> bool:
        """Whether more seeds would be useless."""
        return self.verdict in ("supported", "contradicted", "given up")


def shares(looks: Sequence[int]) -> tuple[float, ...]:
    """Each look's share of the 5 %. Raises `ValueError` if the numbers of seeds do not grow or are too small."""
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < MINIMUM_SEEDS:
        sizes = ",".join(map(str, looks))
        raise ValueError(f"--looks {sizes}: numbers of seeds that grow, {MINIMUM_SEEDS} or more, such as 5,10")
    weights = [GROWTH**place for place in range(len(looks))]
    return tuple(ERROR * weight / sum(weights) for weight in weights)


def judged(family: Sequence[Followed], looks: Sequence[int], claims: int) -> dict[str, Stand]:
    """The state of each claim after all looks that have their seeds; `claims` is the number in the whole table."""
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
    """The chance to decide a claim at the last look, given the seeds so far.

    It assumes that future seeds have the spread of the present ones, and takes the larger of two chances: with the
    observed difference, and with the printed one.
    """
    sides = [np.asarray(side[:seeds]) for side in (one.first, one.second) if not isinstance(side, float | int)]
    constant = float(one.second) if isinstance(one.second, float | int) else 0.0
    sd = math.sqrt(sum(float(np.var(side, ddof=1)) for side in sides) / len(sides))
    if sd == 0:
        return 1.0  # the spread is unknown, so do not give up
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
    """The fraction of `DRAWS` continuations that the last look decides; `shift` moves the first row's new seeds."""
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
