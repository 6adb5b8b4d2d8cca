"""Verdicts on predictions about generated data: accuracy at distances from the cue, compared over seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from studies.declare.subtasks import CHANCE, MARGIN, Prediction
from studies.judge import verdicts
from studies.judge.significance import Side, decide
from studies.judge.verdicts import Interval, Judgement
from studies.records.schema import RunRecord

BINS = (1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 112, 128, 255)
"""Edges of the distances that a point stands for, in pixels: 4 are one step of the first stage."""

LEAST_PIXELS = 500
"""A point needs as many in every run."""


@dataclass(frozen=True)
class ByDistance:
    """A run's counts of labelled pixels and of correctly predicted ones, by distance in pixels to the deciding cue."""

    seed: int
    record: str
    pixels: tuple[int, ...]
    right: Sequence[int]

    def accuracy(self, distances: tuple[int, int]) -> float | None:
        """Accuracy in percent over pixels in this range of distances, end excluded; None if there are none."""
        low, high = distances
        pixels, right = (_between(sums, low, high) for sums in self.sums)
        return 100 * right / pixels if pixels else None

    @cached_property
    def sums(self) -> tuple[Sequence[int], Sequence[int]]:
        """The labelled pixels nearer than each distance, and the right ones among them."""
        return _sums(self.pixels), array("q", itertools.accumulate(self.right, initial=0))


def by_distance(record: RunRecord) -> ByDistance | None:
    """The counts by distance in a run's record; None if it has none."""
    if (cue := record.cue) is None:
        return None
    known: dict[str, Any] = vars(record)  # several tables and files ask for those of the same run
    if "by_distance" not in known:
        right = array("q", map(int, cue.right.split()))  # of thousands of runs: a fourth of a tuple
        known["by_distance"] = ByDistance(record.config.seed, record.id, _pixels(cue.pixels), right)
    found: ByDistance = known["by_distance"]
    return found


@lru_cache(256)
def _pixels(counts: str) -> tuple[int, ...]:
    """The labelled pixels by distance, which all runs on the same images share."""
    return tuple(map(int, counts.split()))


@lru_cache(256)
def _sums(pixels: tuple[int, ...]) -> Sequence[int]:
    """The labelled pixels nearer than each distance, which all runs on the same images share."""
    return array("q", itertools.accumulate(pixels, initial=0))


def _between(sums: Sequence[int], low: int, high: int) -> int:
    """The pixels at these distances, end excluded, from those nearer than each."""
    last = len(sums) - 1
    return sums[min(high, last)] - sums[min(low, last)]


def _between_edges(sums: Sequence[int]) -> np.ndarray:
    """The pixels of each of `BINS`."""
    found: np.ndarray = np.diff(np.asarray(sums)[np.minimum(BINS, len(sums) - 1)])
    return found


Runs = Mapping[str, Sequence[ByDistance]]
"""The finished runs of a sub-task, by row."""

Sides = tuple[Side, Side]
"""The two sides of a comparison: two rows, or a row and a number."""


def judge(prediction: Prediction, runs: Runs, chance: float) -> Judgement:
    """Judge a prediction alone; `judge_family` judges it among all predictions of its family."""
    (judgement,) = judge_family([(prediction, sides(prediction, runs, chance))])
    return judgement


def judge_family(family: Sequence[tuple[Prediction, Sides]]) -> list[Judgement]:
    """Judge a family of predictions by the rule of `studies.judge.significance`, whose error rate is per family.

    The p of a judgement is that of the test behind its verdict.
    """
    judgements = []
    for (prediction, sides), found in zip(family, decide([sides for _, sides in family], MARGIN), strict=True):
        outcome, test = found.outcome(prediction.sign)
        judgement = Judgement(verdicts.told(outcome), found.difference)
        if found.interval and test:
            needed = None
            if outcome == "open" and prediction.sign == "0":
                needed = verdicts.equivalence_seeds(*sides, 1 - found.level, MARGIN)
            elif outcome == "open":
                needed = verdicts.ordering_seeds(*sides, 1 - found.level)
            judgement = dataclasses.replace(
                judgement, interval=Interval(*found.interval), seeds=needed, p=test.p, adjusted=test.adjusted
            )
        judgements.append(judgement)
    return judgements


def sides(prediction: Prediction, runs: Runs, chance: float) -> Sides:
    """The accuracies that a prediction compares, one per seed."""
    first = within(prediction.distances, runs.get(prediction.row, ()))
    if prediction.reference == CHANCE:
        return first, chance
    return first, within(prediction.distances, runs.get(prediction.reference, ()))


def within(distances: tuple[int, int], runs: Sequence[ByDistance]) -> list[float]:
    """The accuracies of these runs, in percent, over pixels at these distances."""
    values = (run.accuracy(distances) for run in runs)
    return [value for value in values if value is not None]


@dataclass(frozen=True)
class Point:
    """Accuracy in percent over the pixels at some distances, the second excluded: over the seeds of a row."""

    distances: tuple[int, int]
    middle: float  # the mean distance of these pixels
    seeds: int
    mean: float
    lowest: float
    highest: float


def points_by_distance(runs: Sequence[ByDistance]) -> list[Point]:
    """How accurate the runs of a row are, by distance; nothing where a run has too few pixels."""
    if not runs:
        return []
    points = []
    labelled = np.array([_between_edges(run.sums[0]) for run in runs])
    right = np.array([_between_edges(run.sums[1]) for run in runs])
    for edges, of, hits in zip(itertools.pairwise(BINS), labelled.T, right.T, strict=True):
        if of.min() < LEAST_PIXELS:
            continue
        values = (100 * hits / of).tolist()
        pixels = runs[0].pixels[slice(*edges)]
        middle = sum(count * (edges[0] + place) for place, count in enumerate(pixels)) / sum(pixels)
        points.append(Point(edges, round(middle, 2), len(values), statistics.fmean(values), min(values), max(values)))
    return [point for point in points if not math.isnan(point.mean)]
