"""From evidence to claims: what each study asserts about its rows, judged; and the table of all claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports.blocks.table import LINKED, METRICS, Cell, Column, Line, Notes, Source, Table, Value, number
from reports.sections.misprints import DOUBTED, doubtful
from reports.sections.others import said_cell
from reports.sections.scaling import scaling_slugs
from reports.sections.tables import cost_slug, needed_seeds, verdict_cell
from studies.declare.study import Claim, Reported
from studies.facts.gather import UNITS, Evidence, Variant
from studies.judge import verdicts
from studies.judge.tiers import ELSEWHERE
from studies.judge.verdicts import Judgement

DECIDING = "paper"  # the only protocol that can confirm or refute the paper


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
    lines, notes = [], Notes()
    deciding = variant is not None and variant.comparable
    for claim in claims:
        judgement = evidence.judge(variant, claim) if variant else evidence.judge_cost(claim)
        cells = (
            Cell(claim.text),
            Cell(_sides(evidence, claim)),
            Cell(_metric(claim)),
            Cell(_printed(claim), {"printed": claim.printed}),
            _difference(claim, judgement, _behind(evidence, variant, claim), notes),
            _interval(judgement),
            verdict_cell(judgement, _decided(judgement), notes, {} if variant is None or deciding else ELSEWHERE),
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
        "Difference: first row − second row, with Welch's 95 % interval over seeds, which are not paired; verdicts "
        "corrected by Holm's method for all claims of the table, the intervals not.",
        f"Claims of no difference: two one-sided tests with a margin of ±{verdicts.MARGIN}.",
        f"No claim is made from fewer than {verdicts.MINIMUM_SEEDS} seeds per row.",
    )
    title = f"Claims, protocol {variant.name}"
    return Table(f"{variant.slug}-claims", title, caption, columns, tuple(lines), tuple(notes))


def of_study(evidence: Evidence) -> Table:
    """Every claim of one study."""
    found = summary_table([evidence])
    columns, table = found.columns, next(n for n, column in enumerate(found.columns) if column.title == "Table")
    lines = (Line(line.key, (*line.cells[:table], *line.cells[table + 1 :])) for line in found.lines)
    return replace(
        found,
        slug=f"{evidence.study.slug}-every-claim",
        title="Claims of this table",
        columns=(*columns[:table], *columns[table + 1 :]),
        lines=tuple(lines),
    )


def summary_table(everything: Sequence[Evidence]) -> Table:
    """The question "Does the paper hold?": every claim of every study, its verdict, and what is missing to decide it.

    The verdict is that of costs, or of the runs that may be compared with the paper; the other protocols' stand beside.
    """
    claiming = [v for evidence in everything for v in evidence.variants if v.counted and v.claims]
    names = dict.fromkeys(v.protocol.name for v in claiming)
    others = [name for name in names if name != DECIDING]
    columns = (
        Column("Claim", align="text"),
        Column("Table", align="left", chosen=True),
        Column("Verdict", align="left", chosen=True),
        Column("Evidence", align="text", chosen=True),
        Column("Ours [95 % interval]"),
        Column("Printed"),
        Column("Others", align="left"),
        *([Column("On other data", align="text")] if others else []),
        Column("Missing to decide it", align="text"),
        Column("What is compared", align="text"),
    )
    notes = Notes()
    lines = [
        _summary_line(evidence, claim, others, notes, doubts)
        for evidence in everything
        for doubts in [doubtful(evidence.study)]
        for claim in evidence.study.claims
    ]
    counted = Counter(str(line.cells[2].verdict) for line in lines)
    counts = ", ".join(f"{counted[word]} {word}" for word in verdicts.RULES if counted[word])
    caption = (
        f"{len(lines)} claims of the paper about differences between rows: {counts or 'none'}.",
        f"Verdict: on measured costs, which are exact, or on full-length runs of protocol {DECIDING}, from "
        f"{verdicts.MINIMUM_SEEDS} seeds per row on; a peer's row counts with its printed value.",
        "On other data: how the claim stands on other photographs or generated images, at another scale; it neither "
        "confirms nor refutes the paper.",
        "Interval: Welch's, over seeds; verdicts corrected by Holm's method within each table.",
        "Others: what other projects published about it, one word a source, by rules that the page about others gives; "
        "it changes no verdict of ours. –: no source has both rows; not alike: one has, but trained or tested apart.",
    )
    return Table("claims", "Claims", caption, columns, tuple(lines), tuple(notes))


@dataclass(frozen=True)
class Stand:
    """Where a claim stands: by costs or at the paper's scale, and under each other protocol that counts."""

    judgement: Judgement
    anchor: str  # the line that says so; empty where there is none
    variant: Variant | None
    elsewhere: Mapping[str, tuple[Judgement, str]]


def stand(evidence: Evidence, claim: Claim) -> Stand:
    """Where a claim of a study stands."""
    judged = {v.protocol.name: v for v in evidence.variants if v.counted and claim in v.claims}
    found = {name: (evidence.judge(v, claim), f"#{v.slug}-claims-{claim.slug}") for name, v in judged.items()}
    deciding = found.pop(DECIDING, (Judgement("pending"), ""))
    if claim.metric in UNITS:
        deciding = evidence.judge_cost(claim), f"#{evidence.study.slug}-costs-claims-{claim.slug}"
    return Stand(*deciding, judged.get(DECIDING), found)


def _summary_line(
    evidence: Evidence, claim: Claim, others: Sequence[str], notes: Notes, doubts: Mapping[tuple[str, str], str]
) -> Line:
    """A claim's verdict, ours, others', what is missing, and the words of the `others` of the protocols.

    `doubts`: the printed accuracies that are probably misprints; a claim that rests on one says so.
    """
    study, stands = evidence.study, stand(evidence, claim)
    data = study.panel(claim.dataset).dataset
    identity: dict[str, Value] = {"claim": claim.slug, "study": study.slug}
    identity |= {"better": claim.better, "worse": claim.worse, "dataset": data}
    identity |= {"metric": claim.metric, "kind": claim.kind}
    dataset = f", {study.panel(claim.dataset).title}" if len(study.panels) > 1 else ""
    missing = _missing(evidence, stands.variant, claim, stands.judgement)
    sides = [doubts.get((row, data)) for row in (claim.better, claim.worse)]
    doubt = next((found for found in sides if found and claim.metric == DOUBTED), "")
    said = said_cell(study, claim)
    cells = [
        Cell(claim.text, {**identity, "text": claim.text}),
        Cell(study.number, sources=(Source(study.number, f"#{study.slug}"),)),
        _linked(stands.judgement, stands.anchor, {"verdict": stands.judgement.verdict}, notes),
        Cell(_evidence(claim, stands, said)),
        _ours(stands.judgement, notes),
        Cell(_printed(claim), {"printed": claim.printed}, note=notes.mark(doubt)),
        said,
        *([_on_other_data(stands, others, notes)] if others else []),
        Cell(missing or "–", {"missing": missing or None}),
        Cell(f"{_sides(evidence, claim)}: {_metric(claim)}{dataset}"),
    ]
    return Line(claim.slug, tuple(cells))


def _evidence(claim: Claim, stands: Stand, said: Cell) -> str:
    """The kinds of evidence that there are about a claim, the one that decides it first."""
    decided = stands.judgement.verdict != "pending"
    found = ["costs" if claim.metric in UNITS else DECIDING] if decided else []
    found += ["others"] if said.sources else []
    found += [name for name, (judgement, _) in stands.elsewhere.items() if judgement.verdict != "pending"]
    return ", ".join(found) or "none yet"


def _on_other_data(stands: Stand, others: Sequence[str], notes: Notes) -> Cell:
    """`camvid-half: few seeds`, `quick: opposite here`, each a link to the line that says so."""
    values: dict[str, Value] = {f"verdict_{name}": None for name in others}
    values |= {f"verdict_{name}": found.verdict for name, (found, _) in stands.elsewhere.items()}
    told = {name: pair for name, pair in stands.elsewhere.items() if pair[0].verdict != "pending"}
    mixed = "; ".join(f"{name}: {found.mixed}" for name, (found, _) in told.items() if found.mixed)
    sources = tuple(
        Source(f"{name}: {ELSEWHERE.get(found.verdict, found.verdict)}", place) for name, (found, place) in told.items()
    )
    text = LINKED.join(source.text for source in sources)
    return Cell(text or "–", values, sources=sources, note=notes.mark(mixed))


def _decided(judgement: Judgement) -> dict[str, Value]:
    values: dict[str, Value] = {"p": judgement.p, "p_holm": judgement.adjusted, "verdict": judgement.verdict}
    return {**values, "seeds_that_would_resolve_it": judgement.seeds, "mixed": judgement.mixed or None}


def _ours(judgement: Judgement, notes: Notes) -> Cell:
    difference, interval = judgement.difference, judgement.interval
    values: dict[str, Value] = {"difference": difference}
    values |= {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}
    values |= {"p_holm": judgement.adjusted, "mixed": judgement.mixed or None}
    if difference is None:
        return Cell(values=values)
    text = number(difference, 2, signed=True) + (f" {_interval(judgement).text}" if interval else "")
    return Cell(text, values, note=notes.mark(judgement.mixed))


def _missing(evidence: Evidence, variant: Variant | None, claim: Claim, judgement: Judgement) -> str:
    """What would decide a claim: measurements of costs, a recipe, runs up to three per row, or more seeds."""
    study = evidence.study
    if judgement.verdict in ("supported", "contradicted"):
        return ""
    if claim.metric in UNITS:
        return f"its costs: python -m studies.run {study.slug} --only cost"
    if claim.metric == "fps":
        return f"its speed on that card: python -m studies.run {study.slug} --only speed --device cuda"
    if variant is None or variant.recipe is None:
        return f"a recipe of protocol {DECIDING} for {study.panel(claim.dataset).title}"
    if judgement.verdict == "not resolved" and judgement.p is None:
        return "seeds that differ: all of a row gave the same value"
    if judgement.verdict == "not resolved":
        return f"{needed_seeds(judgement)} seeds per row"
    trained = {row.slug for row in study.trained}
    rows = [slug for slug in dict.fromkeys((claim.better, claim.worse)) if slug in trained]
    quoted = [row for row in study.rows if isinstance(row, Reported) and row.slug in (claim.better, claim.worse)]
    if silent := [row for row in quoted if row.prints(variant.panel, claim.metric) is None]:
        return _missing_peer(silent[0], claim)
    have = {slug: len(variant.values(slug, claim.metric)) for slug in rows}
    wanted = verdicts.MINIMUM_SEEDS
    what = "runs with pictures" if claim.metric == "gradcam_inside" else "runs"
    return f"{what}: " + ", ".join(f"{slug} {count} of {wanted}" for slug, count in have.items() if count < wanted)


def _missing_peer(row: Reported, claim: Claim) -> str:
    """Of a peer that is only quoted, where the paper prints nothing of the kind."""
    which = f"{METRICS[claim.metric]} of {row.label}, which is quoted here and for which the paper prints none"
    model = f'; as a Row with Model(encoder="{row.model.encoder}") it can be trained' if row.model else ""
    return f"{which}{model}"


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


def _difference(claim: Claim, judgement: Judgement, table: str, notes: Notes) -> Cell:
    if judgement.difference is None:
        return Cell(values={"difference": None})
    rows = dict.fromkeys((claim.better, claim.worse))
    sources = tuple(Source(f"row {row}", f"#{table}-{row}", "computed from") for row in rows)
    text, note = number(judgement.difference, 2, signed=True), notes.mark(judgement.mixed)
    return Cell(text, {"difference": judgement.difference}, sources=sources, note=note)


def _interval(judgement: Judgement) -> Cell:
    if (interval := judgement.interval) is None:
        return Cell(values={"low": None, "high": None})
    text = f"[{number(interval.low, 2, signed=True)}, {number(interval.high, 2, signed=True)}]"
    return Cell(text, {"low": interval.low, "high": interval.high})


def _linked(judgement: Judgement, anchor: str, values: Mapping[str, Value], notes: Notes) -> Cell:
    word, note = judgement.verdict, notes.mark(judgement.mixed)
    return Cell(word, values, verdict=word, sources=(Source(word, anchor),) if anchor else (), note=note)
