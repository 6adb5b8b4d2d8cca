"""From evidence to claims: what each study asserts about its rows, judged; and the table of all claims."""

from __future__ import annotations

from collections.abc import Sequence

from reports import verdicts
from reports.evidence import UNITS, Evidence, Variant
from reports.scaling import scaling_slugs
from reports.table import METRICS, Cell, Column, Line, Source, Table, number
from reports.tables import cost_slug, verdict_cell
from reports.verdicts import Judgement
from studies.study import Claim


def claims_table(evidence: Evidence, variant: Variant | None) -> Table:
    """The claims about accuracies under a variant; about costs where there is none."""
    study = evidence.study
    claims = variant.claims if variant else evidence.cost_claims
    columns = (
        Column("Claim", align="text"),
        Column("Difference of", align="text"),
        Column("Metric", align="left"),
        Column("Printed"),
        Column("Ours"),
        Column("95 % interval"),
        Column("Verdict", align="left"),
    )
    lines = []
    for claim in claims:
        judgement = variant.judge(claim) if variant else evidence.judge_cost(claim)
        cells = (
            Cell(claim.text),
            Cell(_sides(evidence, claim)),
            Cell(_metric(claim)),
            Cell(_printed(claim), {"printed": claim.printed}),
            _difference(claim, judgement, _behind(evidence, variant, claim)),
            _interval(judgement),
            verdict_cell(judgement, {"verdict": judgement.verdict, "seeds_that_would_resolve_it": judgement.seeds}),
        )
        lines.append(Line(claim.slug, cells))
    if variant is None:
        return Table(
            f"{study.slug}-costs-claims",
            "Claims about costs",
            (
                "Judged on the measured costs above, which are exact: no seeds, the same under every protocol.",
                "A quoted row counts with its printed cost.",
            ),
            tuple(column for column in columns if column.title != "95 % interval"),
            tuple(Line(line.key, (*line.cells[:5], *line.cells[6:])) for line in lines),
        )
    caption = (
        "Difference: first row − second row, with Welch's 95 % interval over seeds (not paired; not corrected for the "
        "number of claims).",
        f"Claims of no difference: two one-sided tests with a margin of ±{verdicts.MARGIN}.",
        "No claim is made from fewer than 3 seeds per row.",
    )
    title = f"Claims, protocol {variant.name}"
    return Table(f"{variant.slug}-claims", title, caption, columns, tuple(lines))


def summary_table(everything: Sequence[Evidence]) -> Table:
    """The question "Does the paper hold?": every claim of every study, with its verdict per protocol."""
    protocols = list(dict.fromkeys(v.protocol.name for evidence in everything for v in evidence.variants if v.counted))
    columns = (
        Column("Claim", align="text"),
        Column("Difference of", align="text"),
        Column("Metric", align="left"),
        *(Column(name, "Verdict", align="left") for name in ("costs", *protocols)),
        Column("Printed difference"),
        Column("Table", align="left"),
    )
    lines = []
    for evidence in everything:
        study = evidence.study
        for claim in study.claims:
            judged = {"costs": Cell()}
            if claim.metric in UNITS:
                judged["costs"] = _linked(evidence.judge_cost(claim), f"#{study.slug}-costs-claims-{claim.slug}")
            for variant in evidence.variants:
                if variant.counted and claim in variant.claims:
                    anchor = f"#{variant.slug}-claims-{claim.slug}"
                    judged[variant.protocol.name] = _linked(variant.judge(claim), anchor)
            found = (judged.get(name, Cell()) for name in ("costs", *protocols))
            printed = Cell(_printed(claim))
            table = Cell(study.number, sources=(Source(study.number, f"#{study.slug}"),))
            dataset = f", {study.panel(claim.dataset).title}" if len(study.panels) > 1 else ""
            asserted = (Cell(claim.text), Cell(_sides(evidence, claim)), Cell(_metric(claim) + dataset))
            lines.append(Line(claim.slug, (*asserted, *found, printed, table)))
    caption = (
        "Every claim that the tables below make about their rows, judged on differences between our own runs, or to a "
        "peer's printed value.",
        "Costs are exact; accuracies need at least 3 seeds per row. Runs that were cut short are left out here.",
        "Only protocol paper can confirm or refute the paper; under another, a verdict says how the claim stands "
        "there, on other data and at another scale.",
    )
    return Table("claims", "Claims", caption, columns, tuple(lines))


def _metric(claim: Claim) -> str:
    return f"exponent of {METRICS[claim.metric]}" if claim.kind == "slope" else METRICS[claim.metric]


def _behind(evidence: Evidence, variant: Variant | None, claim: Claim) -> str:
    """The table whose rows a claim is about."""
    if variant:
        return variant.slug
    if claim.kind == "slope":
        return scaling_slugs(evidence)[0]
    return cost_slug(evidence, evidence.study.panel(claim.dataset))


def _sides(evidence: Evidence, claim: Claim) -> str:
    names = {row.slug: row.label for row in evidence.study.rows}
    return f"{names[claim.better]} − {names[claim.worse]}" + (", printed" if claim.kind == "at least" else "")


def _printed(claim: Claim) -> str:
    return "–" if claim.printed is None else number(claim.printed, 1, signed=True)


def _difference(claim: Claim, judgement: Judgement, table: str) -> Cell:
    if judgement.difference is None:
        return Cell(values={"difference": None})
    rows = dict.fromkeys((claim.better, claim.worse))
    sources = tuple(Source(f"row {row}", f"#{table}-{row}", "computed from") for row in rows)
    return Cell(number(judgement.difference, 2, signed=True), {"difference": judgement.difference}, sources=sources)


def _interval(judgement: Judgement) -> Cell:
    if (interval := judgement.interval) is None:
        return Cell(values={"low": None, "high": None})
    text = f"[{number(interval.low, 2, signed=True)}, {number(interval.high, 2, signed=True)}]"
    return Cell(text, {"low": interval.low, "high": interval.high})


def _linked(judgement: Judgement, anchor: str) -> Cell:
    word = judgement.verdict
    return Cell(word, verdict=word, sources=(Source(word, anchor),))
