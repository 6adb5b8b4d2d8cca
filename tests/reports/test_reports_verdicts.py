"""The rules of the verdicts: as a table, and as properties."""

import itertools
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.blocks.style import GLYPHS
from reports.blocks.table import Notes
from reports.sections.tables import verdict_cell
from studies.judge import verdicts
from studies.judge.power import ordering_power
from studies.judge.verdicts import Interval

settings.register_profile("reports", deadline=None, derandomize=True)  # a shared machine may pause; no surprises
settings.load_profile("reports")

FINITE = st.floats(-200, 200).map(lambda value: round(value, 3))
INTERVALS = st.tuples(FINITE, FINITE).map(lambda ends: Interval(*sorted(ends)))
SAMPLES = st.lists(st.floats(0, 100).map(lambda value: round(value, 2)), min_size=3, max_size=8)
FEW = st.lists(st.floats(0, 100), min_size=1, max_size=2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.5, "reproduced"),
        (-1.0, 1.0, "reproduced"),
        (1.01, 3.0, "above"),
        (-3.0, -1.01, "below"),
        (-3.0, -1.0, "inconclusive"),
        (1.0, 3.0, "inconclusive"),
        (0.9, 1.1, "inconclusive"),
        (-5.0, 5.0, "inconclusive"),
    ],
)
def test_levels(low, high, verdict):
    assert verdicts.level_verdict(Interval(low, high), 1.0) == verdict


@pytest.mark.parametrize(
    ("ours", "printed", "verdict"),
    [
        ([], 41.1, "pending"),
        ([41.1], 41.1, "few seeds"),
        ([41.1, 41.1], 41.1, "few seeds"),
        ([41.1, 41.2, 41.0], 41.1, "reproduced"),
        ([43.1, 43.2, 43.0], 41.1, "above"),
        ([39.1, 39.2, 39.0], 41.1, "below"),
        ([40.1, 42.1, 41.1], 41.1, "inconclusive"),
        ([41.1, 41.2, 41.0], None, ""),
        ([41.1], None, "few seeds"),
        ([41.1] * 3, 41.1, "inconclusive"),
        ([43.1] * 3, 41.1, "inconclusive"),
    ],
)
def test_ours_against_printed(ours, printed, verdict):
    assert verdicts.level(ours, printed, 1.0).verdict == verdict


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([], [1.0, 2.0, 3.0], "pending"),
        ([1.0, 2.0, 3.0], [], "pending"),
        ([41.0, 41.1], [30.0, 30.1, 30.2], "few seeds"),
        ([41.0, 41.1, 41.2], [40.0, 40.1, 40.2], "supported"),
        ([40.0, 40.1, 40.2], [41.0, 41.1, 41.2], "contradicted"),
        ([41.0, 40.1, 41.2], [40.0, 41.1, 40.2], "not resolved"),
        ([41.0, 41.0, 41.0], [41.0, 41.0, 41.0], "not resolved"),
        ([1.01] * 3, [1.0] * 3, "not resolved"),
        ([54.0] * 3, 50.0, "not resolved"),
    ],
)
def test_orderings(better, worse, verdict):
    assert verdicts.ordering(better, worse).verdict == verdict


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, "supported"), (0.3, "supported"), (0.5, "not resolved"), (0.7, "contradicted")]
)
def test_equivalences(shift, verdict):
    sample = [41.0, 41.05, 41.1, 41.05]
    assert verdicts.equivalence([value + shift for value in sample], sample).verdict == verdict
    assert verdicts.equivalence(sample, [value + shift for value in sample]).verdict == verdict
    assert verdicts.equivalence(sample[:2], sample).verdict == "few seeds"
    assert verdicts.equivalence([], sample).verdict == "pending"


@pytest.mark.parametrize(
    ("better", "worse", "kind", "verdict"),
    [
        (12.1, 6.6, "greater", "supported"),
        (6.6, 12.1, "greater", "contradicted"),
        (6.6, 6.6, "greater", "contradicted"),
        (6.6, 6.65, "equivalent", "supported"),
        (6.6, 6.7, "equivalent", "contradicted"),
        (None, 6.6, "greater", "pending"),
    ],
)
def test_costs(better, worse, kind, verdict):
    assert verdicts.costs(better, worse, kind).verdict == verdict


@pytest.mark.parametrize(
    ("measured", "printed", "expected"),
    [
        (4.263414, 4.3, True),
        (6.5929, 6.6, True),
        (4.36, 4.3, True),
        (4.24, 4.3, True),
        (4.37, 4.3, False),
        (4.2, 4.4, False),
    ],
)
def test_costs_agree_to_within_a_printed_rounding(measured, printed, expected):
    assert verdicts.agrees(measured, printed) is expected


def test_epsilon_is_the_larger_of_default_and_spread():
    assert verdicts.epsilon("miou_ss") == 1.0
    assert verdicts.epsilon("top1") == 0.5
    assert verdicts.epsilon("miou_ss", 1.4) == 1.4


@given(INTERVALS, st.floats(0.1, 5), st.floats(0, 50))
def test_levels_are_monotone_under_a_shift(interval, tolerance, shift):
    up = Interval(interval.low + shift, interval.high + shift)
    down = Interval(interval.low - shift, interval.high - shift)
    verdict = verdicts.level_verdict(interval, tolerance)
    if verdict == "above":
        assert verdicts.level_verdict(up, tolerance) == "above"
    if verdict == "below":
        assert verdicts.level_verdict(down, tolerance) == "below"


@given(INTERVALS, st.floats(0.1, 5), st.floats(0, 1), st.floats(0, 1))
def test_a_narrower_interval_never_changes_a_decision(interval, tolerance, first, second):
    ends = sorted(interval.low + share * (interval.high - interval.low) for share in (first, second))
    inner = Interval(max(ends[0], interval.low), min(ends[1], interval.high))
    verdict = verdicts.level_verdict(interval, tolerance)
    if verdict != "inconclusive":
        assert verdicts.level_verdict(inner, tolerance) == verdict


@given(SAMPLES, SAMPLES)
def test_swapping_the_rows_swaps_the_verdict(first, second):
    forth, back = verdicts.ordering(first, second), verdicts.ordering(second, first)
    opposite = {"supported": "contradicted", "contradicted": "supported", "not resolved": "not resolved"}
    assert back.verdict == opposite[forth.verdict]
    assert back.seeds == forth.seeds
    assert verdicts.equivalence(first, second).verdict == verdicts.equivalence(second, first).verdict


@given(FEW, st.lists(st.floats(0, 100), max_size=5), st.floats(0, 100))
def test_fewer_than_three_seeds_never_decide(few, others, printed):
    undecided = {"few seeds", "pending"}
    assert verdicts.level(few, printed, 1.0).verdict == "few seeds"
    for judge in (verdicts.ordering, verdicts.equivalence):
        assert judge(few, others).verdict in undecided
        assert judge(others, few).verdict in undecided
        assert judge(few, others).interval is None


@given(SAMPLES, SAMPLES)
@settings(max_examples=50)
def test_intervals_equal_scipys(first, second):
    if statistics.stdev(first) < 0.01 or statistics.stdev(second) < 0.01:
        return
    first, second = (values[: min(len(first), len(second))] for values in (first, second))
    if statistics.stdev(first) < 0.01 or statistics.stdev(second) < 0.01:
        return
    reference = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    interval = verdicts.ordering(first, second).interval
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), abs=1e-6)
    alone = stats.ttest_1samp(first, 0).confidence_interval(0.95)
    assert verdicts.mean_interval(first).low == pytest.approx(alone.low, abs=1e-6)
    assert verdicts.mean_interval(first).high == pytest.approx(alone.high, abs=1e-6)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.long
def test_intervals_cover_what_they_promise(seeds):
    draw = random.Random(seeds)
    truth, trials, covered, equal = 41.1, 4000, 0, 0
    for _ in range(trials):
        first, second = ([draw.gauss(truth, 0.4) for _ in range(seeds)] for _ in range(2))
        interval, difference = verdicts.mean_interval(first), verdicts.ordering(first, second).interval
        covered += interval.low <= truth <= interval.high
        equal += difference.low <= 0 <= difference.high
    assert covered / trials == pytest.approx(0.95, abs=0.012)
    assert 0.938 <= equal / trials <= 0.985  # Welch errs to the safe side in samples this small


def test_the_stated_number_of_seeds_resolves_the_claim():
    first, second = [40.0, 40.6, 41.2], [39.6, 40.2, 40.8]  # difference 0.4, spread 0.6
    needed = verdicts.ordering(first, second).seeds
    assert needed is not None
    draw = random.Random(0)
    trials = 500
    resolved = sum(
        verdicts.ordering(*([draw.gauss(mean, 0.6) for _ in range(needed)] for mean in (40.4, 40.0))).verdict
        == "supported"
        for _ in range(trials)
    )
    assert resolved / trials == pytest.approx(0.8, abs=0.05)


def test_the_stated_number_of_seeds_shows_an_equivalence():
    first, second = [40.0, 40.6, 41.2], [39.95, 40.55, 41.15]
    needed = verdicts.equivalence(first, second).seeds
    assert needed is not None
    draw = random.Random(1)
    trials = 500
    pairs = [([draw.gauss(m, 0.6) for _ in range(needed)] for m in (40.05, 40.0)) for _ in range(trials)]
    resolved = sum(verdicts.equivalence(*pair).verdict == "supported" for pair in pairs)
    assert resolved / trials >= 0.76


def test_hopeless_claims_name_no_number():
    judgement = verdicts.ordering([40.0, 41.0, 42.0], [40.001, 41.001, 42.001])
    assert judgement.verdict == "not resolved"
    assert judgement.seeds is None


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("bad", [NAN, INFINITE, -INFINITE])
def test_what_is_no_number_is_never_judged(bad):
    judging = (
        lambda: verdicts.equivalence([bad, 1.0, 2.0], [1.0, 2.0, 3.0]),
        lambda: verdicts.ordering([1.0, 2.0, 3.0], [bad]),
        lambda: verdicts.ordering([1.0, 2.0, 3.0], bad),
        lambda: verdicts.level([bad, 1.0, 2.0], 1.0, 0.5),
        lambda: verdicts.level([bad], None, 0.5),
        lambda: verdicts.mean_interval([1.0, bad]),
        lambda: verdicts.learnt([bad] * 3, [1.0] * 3, 0.5),
        lambda: verdicts.costs(bad, 1.0, "greater"),
        lambda: verdicts.exponent([(1, 1), (2, 2), (3, bad)]),
    )
    for judge in judging:
        with pytest.raises(ValueError, match="not finite"):
            judge()


@given(st.floats(0.01, 30), st.floats(0.1, 10), st.floats(0.9, 0.99999), st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_more_seeds_never_have_less_power(difference: float, spread: float, level: float, rows: int):
    powers = [
        ordering_power(difference, spread, count, 1 - level, rows)
        for count in (4, 5, 7, 10, 21, 41, 100, 300, 550, 1000)
    ]
    assert all(less <= more + 1e-9 for less, more in itertools.pairwise(powers))


def test_rows_that_never_differ_are_not_told_how_many_seeds_would_do():
    judgement = verdicts.equivalence([100.0] * 3, [100.0] * 3)
    assert (judgement.verdict, judgement.p, judgement.interval) == ("not resolved", None, None)
    assert verdict_cell(judgement, {}, Notes()).text == "not resolved"


def test_every_verdict_has_a_rule_and_a_glyph():
    assert set(GLYPHS) == set(verdicts.RULES)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "pending"),
        ([48.0, 48.2], "few seeds"),
        ([48.0, 48.2, 48.1], "supported"),
        ([46.0, 46.2, 46.1], "contradicted"),
        ([46.0, 47.2, 46.6], "not resolved"),
    ],
)
def test_a_quoted_row_counts_with_its_printed_value(values, verdict):
    judgement = verdicts.ordering(values, 46.5)
    assert judgement.verdict == verdict
    opposite = {"supported": "contradicted", "contradicted": "supported"}
    assert verdicts.ordering(46.5, values).verdict == opposite.get(verdict, verdict)
    if judgement.interval:
        reference = stats.ttest_1samp(values, 46.5).confidence_interval(0.95)
        assert judgement.interval.low == pytest.approx(reference.low - 46.5)
        assert judgement.interval.high == pytest.approx(reference.high - 46.5)
    if verdict == "not resolved":
        assert judgement.seeds > len(values)
        assert judgement.seeds < verdicts.ordering(values, [46.4, 46.5, 46.6, 46.0, 47.0]).seeds


def test_a_printed_equal_is_an_equivalence():
    assert verdicts.equivalence([83.9, 83.95, 83.85], 83.9).verdict == "supported"
    assert verdicts.equivalence([85.9, 85.95, 85.85], 83.9).verdict == "contradicted"


SHIFTS = st.lists(st.floats(-3, 3).map(lambda value: round(value, 2)), min_size=1, max_size=6)


def family(shifts, judge=verdicts.ordering):
    """Claims about rows that differ by these shifts, each with a spread of its own, as functions of the level."""
    base = [40.0, 40.3, 40.6, 40.1]
    rows = [[value + shift + 0.05 * k * (-1) ** k for k, value in enumerate(base)] for shift in shifts]
    return [lambda level, row=row: judge(row, base, level) for row in rows]


@given(SHIFTS)
@settings(max_examples=50)
def test_holm_is_the_textbooks(shifts):
    judged = verdicts.holm(family(shifts))
    ordered = sorted(judged, key=lambda judgement: judgement.p)
    before = 0.0
    for step, judgement in enumerate(ordered):
        before = max(before, min(1.0, (len(ordered) - step) * judgement.p))
        assert judgement.adjusted == pytest.approx(before)
        decided = judgement.verdict != "not resolved"
        assert decided is (before <= 0.05) or before == pytest.approx(0.05)


@given(SHIFTS)
@settings(max_examples=50)
def test_a_larger_family_never_decides_more(shifts):
    alone = [judge(verdicts.LEVEL) for judge in family(shifts)]
    for single, together in zip(alone, verdicts.holm(family(shifts)), strict=True):
        assert together.verdict in (single.verdict, "not resolved")
        assert together.interval == single.interval
        if single.verdict == together.verdict == "not resolved" and single.seeds and together.seeds:
            assert together.seeds >= single.seeds


def test_undecidable_claims_do_not_count_in_a_family():
    sure, open_ = family([2.0])[0], [lambda level: verdicts.ordering([1.0], [0.0], level)] * 9
    first, *others = verdicts.holm([sure, *open_])
    assert first.adjusted == first.p
    assert {judgement.verdict for judgement in others} == {"few seeds"}
    assert {judgement.adjusted for judgement in others} == {None}


def test_a_family_is_rarely_wrong_anywhere():
    draw, trials, wrong = random.Random(3), 600, 0
    for _ in range(trials):
        rows = [[draw.gauss(41.1, 0.4) for _ in range(4)] for _ in range(6)]
        judged = verdicts.holm([lambda level, row=row: verdicts.ordering(row, 41.1, level) for row in rows])
        wrong += any(judgement.verdict != "not resolved" for judgement in judged)
    assert wrong / trials <= 0.05 + 0.025


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([], [1.0] * 3, "pending"),
        ([1.0] * 2, [0.5] * 5, "few seeds"),
        ([1.0] * 5, [0.5] * 5, "supported"),
        ([0.5] * 5, [1.0] * 5, "contradicted"),
        ([1.0] * 3, [0.5] * 3, "not resolved"),  # 3 of 3 against 0 of 3: p = 0.1
        ([1.0] * 5, [1.0] * 5, "not resolved"),
    ],
)
def test_learnt_or_not_is_judged_on_counts(better, worse, verdict):
    assert verdicts.learnt(better, worse, 0.9).verdict == verdict


@given(st.integers(3, 8), st.integers(3, 8), st.data())
@settings(max_examples=40)
def test_the_exact_test_is_fishers(of_first, of_second, data):
    first, second = data.draw(st.integers(0, of_first)), data.draw(st.integers(0, of_second))
    samples = [[1.0] * k + [0.0] * (of - k) for k, of in ((first, of_first), (second, of_second))]
    reference = stats.fisher_exact([[first, of_first - first], [second, of_second - second]]).pvalue
    assert verdicts.learnt(*samples, 0.5).p == pytest.approx(reference)


def test_the_stated_number_of_runs_resolves_what_is_learnt_or_not():
    needed = verdicts.learnt([1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], 0.5).seeds
    assert needed is not None
    draw = random.Random(2)
    rates = [[[float(draw.random() < share) for _ in range(needed)] for share in (0.75, 0.25)] for _ in range(500)]
    resolved = sum(verdicts.learnt(*pair, 0.5).verdict == "supported" for pair in rates)
    assert resolved / 500 >= 0.75
    assert verdicts.learnt([1.0] * 3, [1.0] * 3, 0.5).seeds is None
