"""results/claims.csv: each claim of the paper, in every tier that says something of it, by what runs or by whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from studies.declare.study import COSTS, MEASURED_AS, Claim
from studies.facts.gather import Evidence, Variant
from studies.facts.rows import MILLION, in_files
from studies.judge import others, tiers
from studies.judge.verdicts import Judgement

DECIDING = "paper"


class ClaimLine(Struct, frozen=True):
    """What one tier says of a claim: the difference is better - worse, in the unit of its metric's column."""

    claim: str
    table: str
    tier: str
    protocol: str
    text: str
    better: str
    worse: str
    dataset: str
    metric: str
    kind: str
    printed: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n_better: int | None = None
    n_worse: int | None = None
    p: float | None = None
    p_adjusted: float | None = None
    verdict: str = "pending"
    seeds_that_would_resolve_it: int | None = None
    mixed: str = ""
    run_ids: str = ""


def claim_lines(everything: Sequence[Evidence]) -> Iterator[ClaimLine]:
    """Table by table, claim by claim: costs, or the paper's protocol, then what others published, then smaller data."""
    for evidence in everything:
        for claim in evidence.study.claims:
            line = _start(evidence, claim)
            if claim.metric in COSTS:
                yield _of_costs(evidence, claim, line)
                continue
            yield from _of_runs(evidence, claim, line)


def _start(evidence: Evidence, claim: Claim) -> ClaimLine:
    return ClaimLine(
        claim.slug,
        evidence.study.slug,
        tiers.COSTS,
        "",
        claim.text,
        claim.better,
        claim.worse,
        evidence.study.panel(claim.dataset).dataset,
        MEASURED_AS.get(claim.metric, claim.metric),
        claim.kind,
        None if claim.printed is None else in_files(claim.printed, claim.metric),
    )


def _of_costs(evidence: Evidence, claim: Claim, line: ClaimLine) -> ClaimLine:
    """Exact: without seeds, p or interval. A claim about growth is about exponents, which have no unit."""
    unit = 1.0 if claim.kind == "slope" else MILLION.get(claim.metric, 1)
    judgement = evidence.judge_cost(claim)
    rows, dataset = (claim.better, claim.worse), line.dataset
    if claim.kind == "slope":
        behind = [expense.record for (row, _), expense in evidence.growth.items() if row in rows]
    else:
        behind = [evidence.expenses[dataset, row].record for row in rows if (dataset, row) in evidence.expenses]
    difference = judgement.difference
    return structs.replace(
        _judged(line, judgement),
        difference=None if difference is None else difference * unit,
        run_ids=" ".join(dict.fromkeys(behind)),
    )


def _of_runs(evidence: Evidence, claim: Claim, line: ClaimLine) -> Iterator[ClaimLine]:
    """What the paper's own protocol says comes first, said or not; the others only where there are runs or sources."""
    found = [variant for variant in evidence.variants if variant.counted and claim in variant.claims]
    deciding = [variant for variant in found if variant.protocol.name == DECIDING]
    yield (
        _of_variant(evidence, deciding[0], claim, line)
        if deciding
        else structs.replace(line, tier=DECIDING, protocol=DECIDING)
    )
    theirs = _of_others(evidence, claim, line)
    yield from [theirs] if theirs.n_better else []
    for variant in found:
        if variant not in deciding and tiers.tier_of(variant.protocol.name):
            said = _of_variant(evidence, variant, claim, line)
            yield from [said] if said.verdict != "pending" else []


def _of_variant(evidence: Evidence, variant: Variant, claim: Claim, line: ClaimLine) -> ClaimLine:
    judgement = evidence.judge(variant, claim)
    tier = tiers.tier_of(variant.protocol.name)
    sides = [variant.measured(row, claim.metric) for row in (claim.better, claim.worse)]
    trained = {row.slug for row in variant.rows}
    counts = [
        len(side) if row in trained else None for side, row in zip(sides, (claim.better, claim.worse), strict=True)
    ]
    return structs.replace(
        _judged(line, judgement),
        tier=tier,
        protocol=variant.protocol.name,
        n_better=counts[0],
        n_worse=None if claim.kind == "at least" else counts[1],
        verdict=tiers.word_of(judgement, tier),
        run_ids=" ".join(dict.fromkeys(seed.record for side in sides for seed in side)),
    )


def _of_others(evidence: Evidence, claim: Claim, line: ClaimLine) -> ClaimLine:
    """What other projects published: `n` counts sources; the difference shows where there is one."""
    said = others.claim(others.published(), evidence.study, claim)
    behind = [own.id for found in said.differences for own in (found.better, found.worse)]
    alone = said.differences[0].value if len(said.differences) == 1 else None
    count = len(said.differences)
    return structs.replace(
        line,
        tier=tiers.PUBLISHED,
        difference=alone,
        n_better=count,
        n_worse=count,
        verdict=said.word,
        run_ids=" ".join(behind),
    )


def _judged(line: ClaimLine, judgement: Judgement) -> ClaimLine:
    interval = judgement.interval
    return structs.replace(
        line,
        difference=judgement.difference,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=judgement.p,
        p_adjusted=judgement.adjusted,
        verdict=judgement.verdict,
        seeds_that_would_resolve_it=judgement.seeds,
        mixed=judgement.mixed,
    )
