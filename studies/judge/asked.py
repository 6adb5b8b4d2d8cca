"""The paper's claims and levels with our values, each judged by today's records.

Families are those of the report: all claims of a table on accuracies, under a protocol at full length (Holm).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studies.declare.protocols import Protocol
from studies.declare.study import COSTS, LOOKED_AT, MEASURED_AS, Claim, Panel, Reported, Row, Study
from studies.judge import verdicts
from studies.judge.significance import Side
from studies.judge.verdicts import EPSILON, Judgement
from studies.records.store import Store, square_cost

DECIDED = ("supported", "contradicted")
LEVEL_DECIDED = ("reproduced", "above", "below")

Values = Mapping[str, Mapping[int, float]]
"""Values by row, then by seed."""


@dataclass(frozen=True)
class Asked:
    """A claim of a table, or the level of a row if `claim` is None, under a protocol.

    `rows` are those with our seeds; `constant` is the printed value that they are compared with, if there is one.
    `family` is the number of the table's claims that are judged together.
    """

    study: Study
    panel: Panel
    metric: str
    rows: tuple[str, ...]
    values: Values
    judgement: Judgement
    claim: Claim | None = None
    constant: float | None = None
    family: int = 0

    @property
    def name(self) -> str:
        """The claim's slug, or `table9/t ade20k miou_ss`."""
        return self.claim.slug if self.claim else f"{self.study.slug}/{self.rows[0]} {self.panel.dataset} {self.metric}"

    @property
    def decided(self) -> bool:
        """Whether more runs could not change the verdict."""
        return self.judgement.verdict in (DECIDED if self.claim else LEVEL_DECIDED)

    @property
    def seeds(self) -> int:
        """The number of seeds of the row with the fewest."""
        return min((len(self.values.get(row, ())) for row in self.rows), default=0)


def claims(study: Study, chosen: Protocol, store: Store) -> list[Asked]:
    """The claims of a study on accuracies that a protocol trains, in the paper's order."""
    panels = chosen.panels(study)
    trained = {row.slug for row in study.trained}
    asked = [
        claim
        for claim in study.claims
        if claim.metric not in COSTS
        and study.panel(claim.dataset) in panels
        and (chosen.comparable or (claim.kind != "at least" and {claim.better, claim.worse} <= trained))
    ]
    values = {panel.dataset: measured(study, panel, chosen, store) for panel in panels}
    found = [_claim(study, claim, values[study.panel(claim.dataset).dataset], len(asked)) for claim in asked]
    judged = verdicts.holm([functools.partial(_judge, one) for one in found])
    return [dataclasses.replace(one, judgement=judgement) for one, judgement in zip(found, judged, strict=True)]


def levels(study: Study, chosen: Protocol, store: Store) -> list[Asked]:
    """The printed accuracies of a study's rows that a protocol trains."""
    found = []
    for panel in chosen.panels(study):
        values = measured(study, panel, chosen, store)
        for row in filter(panel.trains, study.trained):
            for metric in (metric for metric in panel.accuracies if metric in EPSILON):
                printed = row.prints(panel, metric)
                if printed is None:
                    continue
                own = values.get(metric, {}).get(row.slug, {})
                judgement = verdicts.level(list(own.values()), printed, tolerance(row, panel, metric))
                found.append(Asked(study, panel, metric, (row.slug,), {row.slug: own}, judgement, constant=printed))
    return found


def tolerance(row: Row, panel: Panel, metric: str) -> float:
    """The difference within which a level counts as reproduced."""
    return verdicts.epsilon(metric, row.spread(panel, metric))


def measured(study: Study, panel: Panel, chosen: Protocol, store: Store) -> Mapping[str, Values]:
    """By metric, the values of a panel's rows under a protocol at full length, from runs and servers, not imports."""
    full = chosen.recipe(panel).train.iterations
    found: dict[str, dict[str, dict[int, float]]] = {}
    for view in store.views(study):
        if view.protocol.name != chosen.name or view.panel != panel or view.iterations != full:
            continue
        for line in (line for line in view.lines if line.state == "done"):
            assert line.seed is not None, line.run_id
            for metric in panel.accuracies:
                if (value := line.measured(MEASURED_AS[metric])) is not None:
                    found.setdefault(metric, {}).setdefault(line.row, {})[line.seed] = value
    return found


def costs_missing(study: Study, claim: Claim, store: Store) -> bool:
    """Whether a claim about costs still needs a measurement."""
    rows = [row for row in study.rows if row.slug in (claim.better, claim.worse) and isinstance(row, Row)]
    if claim.kind == "slope":
        return any(store.cost(square_cost(study, row, side)) is None for row in rows for side in study.squares)
    return any(store.row_cost(study.panel(claim.dataset), row) is None for row in rows)


def _claim(study: Study, claim: Claim, values: Mapping[str, Values], family: int) -> Asked:
    panel = study.panel(claim.dataset)
    rows = {row.slug: row for row in study.rows}
    worse = rows[claim.worse]
    trained = [slug for slug in (claim.better, claim.worse) if isinstance(rows[slug], Row)]
    if claim.kind == "at least":
        trained, constant = [claim.better], worse.prints(panel, claim.metric)
    else:
        constant = worse.prints(panel, claim.metric) if isinstance(worse, Reported) else None
    own = {row: values.get(claim.metric, {}).get(row, {}) for row in trained}
    return Asked(study, panel, claim.metric, tuple(trained), own, Judgement("pending"), claim, constant, family)


def _judge(asked: Asked, level: float) -> Judgement:
    claim = asked.claim
    assert claim is not None
    if claim.metric in LOOKED_AT or (len(asked.rows) == 1 and asked.constant is None):
        return Judgement("pending")
    sides: Sequence[Side] = [list(asked.values[row].values()) for row in asked.rows]
    if asked.constant is not None:
        sides = [*sides, asked.constant]
    if claim.kind == "learnt":
        first, second = (list(asked.values[row].values()) for row in asked.rows)
        return verdicts.learnt(first, second, claim.threshold or 0.0, level)
    return (verdicts.equivalence if claim.kind == "equivalent" else verdicts.ordering)(sides[0], sides[1], level)
