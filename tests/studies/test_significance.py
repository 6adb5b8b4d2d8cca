"""Promises of the one procedure that judges comparisons: wrong words as rare as told, every p that of its test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from studies.judge.significance import ERROR, Difference, decide

MARGINS = {"wide": 5.0, "narrow": 1.0}
ROW = [40.0, 40.1, 40.2]


def wrong(found: Difference, true: float, margin: float) -> bool:
    """Whether anything that can be said of a comparison, whatever was predicted, is not so."""
    assert found.differs is not None
    assert found.equal is not None
    assert found.beyond is not None
    signed = found.differs.shows and (true == 0 or (found.difference > 0) != (true > 0))
    return signed or (found.equal.shows and abs(true) >= margin) or (found.beyond.shows and abs(true) < margin)


def share_wrong(
    true: tuple[float, ...], seeds: tuple[int, int], margin: float, *, shared: bool, trials: int, spread: float = 1.0
) -> float:
    """Of how many simulated families something is wrong: rows of sd 1 against references of sd `spread`."""
    random, count = np.random.default_rng([len(true), *seeds, shared, round(10 * spread), round(10 * sum(true))]), 0
    for _ in range(trials):
        rows = random.normal(np.array(true)[:, None], 1.0, (len(true), seeds[0])).tolist()
        references = random.normal(0.0, spread, (1 if shared else len(true), seeds[1])).tolist()
        references *= len(true) if shared else 1
        found = decide(list(zip(rows, references, strict=True)), margin)
        count += any(wrong(one, mean, margin) for one, mean in zip(found, true, strict=True))
    return count / trials


def at_most_5_percent(share: float, trials: int) -> bool:
    return share <= ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / trials)


SEEDS = [(3, 3), (5, 5), (10, 10), (3, 10), (10, 3)]


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "shared"])
@pytest.mark.parametrize("seeds", [(3, 3), (10, 10), (3, 10)], ids=str)
def test_a_wrong_word_in_a_family_is_as_rare_as_5_percent(seeds: tuple[int, int], shared: bool):
    """No true difference, a margin that every difference lies within: what the smaller of two p gave up to 20 % for."""
    assert at_most_5_percent(share_wrong((0.0,) * 10, seeds, 5.0, shared=shared, trials=300), 300)


@pytest.mark.long
@pytest.mark.parametrize("shared", [False, True], ids=["independent", "shared"])
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("count", [5, 20, 50])
def test_a_wrong_word_in_a_family_is_as_rare_as_5_percent_in_1000_studies(
    count: int, seeds: tuple[int, int], shared: bool
):
    assert at_most_5_percent(share_wrong((0.0,) * count, seeds, 5.0, shared=shared, trials=1000), 1000)


@pytest.mark.long
@pytest.mark.parametrize("shared", [False, True], ids=["independent", "shared"])
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("margin", [1.0, 5.0])
@pytest.mark.parametrize(
    "shares",
    [(1.0,) * 6, (1.0, -1.0) * 3, (0.0, 1.0, 0.99, 5.0, 0.0, -0.2), (0.01,) * 6, (0.0, 0.0, 0.0, 0.5, 0.5, 0.5)],
    ids=["margin", "both margins", "mixed", "nearly none", "half of them real"],
)
def test_whatever_is_true_a_wrong_word_is_as_rare_as_5_percent(
    shares: tuple[float, ...], margin: float, seeds: tuple[int, int], shared: bool
):
    true = tuple(margin * share for share in shares)
    assert at_most_5_percent(share_wrong(true, seeds, margin, shared=shared, trials=1000), 1000)


@pytest.mark.long
@pytest.mark.parametrize("spread", [0.5, 2.0])
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_rows_that_spread_twice_as_much_are_as_rarely_wrong(seeds: tuple[int, int], spread: float):
    for true in ((0.0,) * 6, (5.0,) * 6):
        assert at_most_5_percent(share_wrong(true, seeds, 5.0, shared=True, trials=1000, spread=spread), 1000)


def test_every_p_is_that_of_its_test():
    row, reference = [40.0, 40.4, 41.1, 40.2], [42.0, 41.1, 41.4, 41.7]
    (found,) = decide([(row, reference)], 1.0)
    both = {"equal_var": False}
    low = stats.ttest_ind(np.add(row, 1.0), reference, alternative="greater", **both).pvalue
    high = stats.ttest_ind(np.add(row, -1.0), reference, alternative="less", **both).pvalue
    assert found.differs.p == pytest.approx(stats.ttest_ind(row, reference, **both).pvalue)
    assert found.equal.p == pytest.approx(max(low, high))
    assert found.beyond.p == pytest.approx(min(1.0, 2 * min(1 - low, 1 - high)))
    assert found.interval == pytest.approx(tuple(stats.ttest_ind(row, reference, **both).confidence_interval(0.95)))


def test_what_is_decided_both_ways_no_longer_counts():
    """Three comparisons: the first is shown to differ and to be equal, so the second is held to 5 % / 2."""
    sure, close = ([1.0, 1.01, 1.02], [0.0, 0.01, 0.02]), ([0.0, 1.0, 2.0], [5.0, 6.0, 7.0])
    first, second, third = decide([sure, close, ([], [1.0])], 5.0)
    assert first.differs.adjusted == pytest.approx(3 * first.differs.p)
    assert first.equal.shows
    assert second.differs.adjusted == pytest.approx(2 * second.differs.p)
    assert third == Difference((0, 1), level=third.level)
    assert third.level == ERROR / 2


def test_no_spread_is_no_certainty():
    """Three equal values against three others, or against a constant; also where rounding leaves a trace."""
    for row, reference in (([1.01] * 3, [1.0] * 3), ([54.0] * 5, 50.0), ([0.1 + 0.2, 0.3, 0.3], [0.1] * 3)):
        (found,) = decide([(row, reference)], 0.5)
        assert found.differs is None
        assert found.difference == pytest.approx(np.mean(row) - np.mean(reference))
        assert {found.outcome(sign) for sign in ("+", "-", "0")} == {("open", None)}


def test_no_difference_needs_the_90_percent_interval_within_the_margin():
    """A family of one, where nothing is corrected: the word changes where that interval leaves the margin."""
    spread = np.array([-0.5, 0.0, 0.5]) * 0.5 / (2.131847 * math.sqrt(2 * 0.25 / 3))  # half the interval: 0.5
    for difference, equal in ((0.49, True), (0.51, False)):
        (found,) = decide([(list(spread + difference), list(spread))], 1.0)
        assert found.equal.shows == equal


def test_a_comparison_without_runs_counts_in_its_family():
    """So that a word does not depend on which run ended first."""
    pair = ([40.0, 40.4, 40.8], [41.2, 41.6, 42.0])
    (alone,) = decide([pair], 1.0)
    first, *others = decide([pair, *[([], [1.0])] * 9], 1.0)
    assert alone.outcome("-")[0] == "as said"
    assert first.outcome("-")[0] == "open"
    assert others[0] == Difference((0, 1), level=ERROR / 10)


def test_a_value_that_is_not_finite_is_refused():
    for bad in (math.nan, math.inf):
        for side in ([bad, 1.0, 2.0], [bad], bad):
            with pytest.raises(ValueError, match="not finite"):
                decide([(side, ROW)], 1.0)
