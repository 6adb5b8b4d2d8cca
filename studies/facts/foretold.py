"""results/predictions.csv and results/accuracy-by-distance.csv: what was written before the runs, and what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from studies.declare.expectations import EXPECTATIONS, PROTOCOLS
from studies.declare.protocols import protocol
from studies.declare.subtasks import Prediction, Subtask
from studies.facts.gather import Evidence, Variant
from studies.judge import photographs, pooling
from studies.judge.predictions import ByDistance, Runs, Sides, by_distance, judge_family, points_by_distance, sides
from studies.judge.tiers import MECHANISM, SMALL
from studies.judge.verdicts import Judgement
from studies.records.store import Store
from studies.tables import study

SIGNS = {"+": "above", "-": "below", "0": "equal"}


class PredictionLine(Struct, frozen=True):
    """A prediction with what became of it; the difference is row - reference, in percentage points."""

    tier: str
    table: str
    protocol: str
    dataset: str
    split: str
    learning_rate: float | None
    iterations: int | None
    control: str
    row: str
    reference: str
    metric: str
    from_distance: int | None
    below_distance: int | None
    source: str
    predicted: str
    expected_low: float | None
    expected_high: float | None
    known: bool
    why: str
    difference: float | None
    low: float | None
    high: float | None
    n: int
    n_reference: int | None
    p: float | None
    p_adjusted: float | None
    verdict: str
    seeds_that_would_resolve_it: int | None
    mixed: str
    run_ids: str


class DistanceLine(Struct, frozen=True):
    """How accurate a row's runs are where the deciding cue lies at these distances (pixels), in percent, over seeds."""

    table: str
    row: str
    name: str
    protocol: str
    dataset: str
    split: str
    learning_rate: float
    iterations: int
    control: str
    from_distance: int
    below_distance: int
    distance: float
    n: int
    accuracy: float
    lowest: float
    highest: float


def by_row(variant: Variant, store: Store) -> dict[str, list[ByDistance]]:
    """Every finished run of a sub-task, by row."""
    found: dict[str, list[ByDistance]] = {}
    for line in variant.finished:
        if (own := by_distance(store.finished(line.run_id))) is not None:
            found.setdefault(line.row, []).append(own)
    return found


def judged(shown: Sequence[tuple[Variant, Subtask, Runs]]) -> dict[str, list[Judgement]]:
    """The judgements of a study's sub-tasks by variant: the 5 % hold for all that it predicts under a protocol."""
    families: dict[str, list[tuple[str, tuple[Prediction, Sides]]]] = {}
    for variant, panel, runs in shown:
        family = families.setdefault(variant.protocol.name if variant.full else variant.name, [])
        family += [(variant.slug, (one, sides(one, runs, 100 / panel.classes))) for one in panel.predictions]
    found: dict[str, list[Judgement]] = {}
    for family in families.values():
        for (slug, _), judgement in zip(family, judge_family([one for _, one in family]), strict=True):
            found.setdefault(slug, []).append(judgement)
    return {
        variant.slug: [
            dataclasses.replace(judgement, mixed=mixed_runs(variant, runs, prediction.row, prediction.reference))
            for prediction, judgement in zip(panel.predictions, found.get(variant.slug, ()), strict=True)
        ]
        for variant, panel, runs in shown
    }


def mixed_runs(variant: Variant, runs: Runs, *rows: str) -> str:
    """What the runs of these rows do not share, in words."""
    return variant.mixture(run.record for row in rows for run in runs.get(row, ()))


Shown = Sequence[tuple[Variant, Subtask, Mapping[str, Sequence[ByDistance]]]]
"""The sub-tasks of a study with their finished runs."""


def subtasks(evidence: Evidence, store: Store) -> Shown:
    """The variants of a study that are trained on a sub-task of the generated data."""
    return [
        (variant, variant.panel, by_row(variant, store))
        for variant in evidence.variants
        if isinstance(variant.panel, Subtask)
    ]


def prediction_lines(everything: Sequence[tuple[Evidence, Shown]], store: Store) -> Iterator[PredictionLine]:
    """The predictions about generated data, table by table, then the expectations about photographs."""
    for _, shown in everything:
        judgements = judged(shown)
        for variant, panel, runs in shown:
            for prediction, judgement in zip(panel.predictions, judgements[variant.slug], strict=True):
                yield _generated(variant, panel, runs, prediction, judgement)
    for name in PROTOCOLS:
        for slug in (evidence.study.slug for evidence, _ in everything):
            yield from _photographs(name, slug, store)


def _generated(
    variant: Variant, panel: Subtask, runs: Runs, prediction: Prediction, judgement: Judgement
) -> PredictionLine:
    behind = [run.record for row in (prediction.row, prediction.reference) for run in runs.get(row, ())]
    trained = prediction.reference in {row.slug for row in variant.study.trained}
    interval = judgement.interval
    data, train = variant.protocol.recipe(panel).data, variant.protocol.recipe(panel).train
    return PredictionLine(
        tier=MECHANISM,
        table=variant.study.slug,
        protocol=variant.protocol.name,
        dataset=panel.dataset,
        split=data.test_split,
        learning_rate=train.learning_rate,
        iterations=variant.iterations,
        control=panel.control,
        row=prediction.row,
        reference=prediction.reference,
        metric="accuracy",
        from_distance=prediction.distances[0],
        below_distance=prediction.distances[1],
        source=prediction.source,
        predicted=SIGNS[prediction.sign],
        expected_low=None,
        expected_high=None,
        known=False,
        why=prediction.why,
        difference=judgement.difference,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=len(runs.get(prediction.row, ())),
        n_reference=len(runs.get(prediction.reference, ())) if trained else None,
        p=judgement.p,
        p_adjusted=judgement.adjusted,
        verdict=judgement.verdict,
        seeds_that_would_resolve_it=judgement.seeds,
        mixed=judgement.mixed,
        run_ids=" ".join(dict.fromkeys(behind)),
    )


def _photographs(name: str, slug: str, store: Store) -> Iterator[PredictionLine]:
    """What is expected of a table's rows on photographs."""
    if not (expected := [one for one in EXPECTATIONS if one.study == slug]):
        return
    outcomes = photographs.outcomes(store, name, slug)
    recipe = protocol(name).recipe(study(slug).panel())
    train, data = recipe.train, recipe.data
    rows = {row for one in expected for row in (one.row, one.reference)}
    found_runs = {row: photographs.runs(store, name, slug, row) for row in rows}
    for one in expected:
        found = outcomes[one.row, one.reference, one.metric]
        records = [*found_runs[one.row], *found_runs[one.reference]]
        word, p = photographs.judge(found, one)
        _, test = found.outcome(one.sign)
        low, high = found.interval or (None, None)
        yield PredictionLine(
            tier=SMALL,
            table=slug,
            protocol=name,
            dataset=data.dataset,
            split=data.test_split,
            learning_rate=train.learning_rate,
            iterations=train.iterations,
            control="",
            row=one.row,
            reference=one.reference,
            metric=one.metric,
            from_distance=None,
            below_distance=None,
            source=one.source,
            predicted=SIGNS[one.sign],
            expected_low=one.low,
            expected_high=one.high,
            known=name in one.known,
            why=one.why,
            difference=found.difference,
            low=low,
            high=high,
            n=found.seeds[0],
            n_reference=found.seeds[1],
            p=p,
            p_adjusted=test.adjusted if test else None,
            verdict=word,
            seeds_that_would_resolve_it=None,
            mixed=pooling.mixture(map(pooling.origin, records)),
            run_ids=" ".join(record.id for record in records),
        )


def distance_lines(everything: Sequence[tuple[Evidence, Shown]]) -> Iterator[DistanceLine]:
    """Accuracy by distance of every row of every sub-task that was run."""
    for _, shown in everything:
        for variant, panel, runs in shown:
            recipe = variant.protocol.recipe(panel)
            for row in variant.rows:
                for point in points_by_distance(runs.get(row.slug, ())):
                    yield DistanceLine(
                        table=variant.study.slug,
                        row=row.slug,
                        name=row.label,
                        protocol=variant.protocol.name,
                        dataset=panel.dataset,
                        split=recipe.data.test_split,
                        learning_rate=recipe.train.learning_rate,
                        iterations=variant.iterations or recipe.train.iterations,
                        control=panel.control,
                        from_distance=point.distances[0],
                        below_distance=point.distances[1],
                        distance=point.middle,
                        n=point.seeds,
                        accuracy=point.mean,
                        lowest=point.lowest,
                        highest=point.highest,
                    )
