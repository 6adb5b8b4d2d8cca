"""results/missing.csv: what the tables have no number for yet, each with the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from msgspec import Struct

from studies.declare.subtasks import Subtask
from studies.facts.gather import Evidence, Variant
from studies.plan.programme import ranges
from studies.records.store import Store, row_cost


class MissingLine(Struct, frozen=True):
    """Something that was never measured: runs of a row, costs, speeds, a test server's score, pictures."""

    table: str
    row: str
    name: str
    what: str
    dataset: str = ""
    protocol: str = ""
    learning_rate: float | None = None
    iterations: int | None = None
    seeds: str = ""
    count: int = 1
    command: str = ""


def missing_lines(everything: Sequence[Evidence], store: Store) -> Iterator[MissingLine]:
    """Table by table: costs and speeds, then runs: all that the paper's protocol lacks, of others what was begun."""
    for evidence in everything:
        yield from _costs(evidence)
        yield from _speeds(evidence)
        for variant in evidence.variants:
            yield from _runs(variant)
            yield from _scores(variant, store)
            yield from _pictures(variant)


def _costs(evidence: Evidence) -> Iterator[MissingLine]:
    study = evidence.study
    command = f"python -m studies.run {study.slug} --only cost"
    for panel in study.panels:
        for row in study.rows:
            if row_cost(panel, row) is not None and (panel.dataset, row.slug) not in evidence.expenses:
                yield MissingLine(study.slug, row.slug, row.label, "cost", panel.dataset, command=command)
    for row in study.trained:
        count = sum((row.slug, side) not in evidence.growth for side in study.squares)
        if count:
            dataset = study.panel().dataset
            yield MissingLine(study.slug, row.slug, row.label, "costs by size", dataset, count=count, command=command)


def _speeds(evidence: Evidence) -> Iterator[MissingLine]:
    study = evidence.study
    command = f"python -m studies.run {study.slug} --only speed"
    dataset = study.panel().dataset
    for row in study.trained if study.squares and not evidence.timings else ():
        count = len(study.squares)
        yield MissingLine(study.slug, row.slug, row.label, "speeds by size", dataset, count=count, command=command)
    for name in study.timed if not evidence.frames else ():
        yield MissingLine(study.slug, name.lower(), name, "speed", dataset, command=command)


def _runs(variant: Variant) -> Iterator[MissingLine]:
    """A line a row, with the seeds that are missing."""
    study, protocol, panel = variant.study, variant.protocol, variant.panel
    if variant.iterations is None:
        return
    missing: dict[str, list[int]] = {}
    for line in (line for line in variant.lines if line.state == "pending"):
        missing.setdefault(line.row, []).extend(protocol.seeds_for(study) if line.seed is None else (line.seed,))
    for row in (row for row in variant.rows if row.slug in missing):
        recipe, seeds = protocol.recipe(panel, row), missing[row.slug]
        words = [f"{study.slug}/{row.slug}", "--protocol", protocol.name, "--seeds", ranges(seeds)]
        if len(protocol.panels(study)) > 1:
            words += ["--datasets", panel.title if isinstance(panel, Subtask) else panel.key]
        if not variant.full:
            words += ["--limit-iterations", str(variant.iterations)]
        length = recipe.train.iterations if variant.full else min(variant.iterations, recipe.train.iterations)
        yield MissingLine(
            study.slug,
            row.slug,
            row.label,
            "runs",
            recipe.data.dataset,
            protocol.name,
            recipe.train.learning_rate,
            length,
            ranges(seeds),
            len(set(seeds)),
            f"python -m studies.run {shlex.join(words)}",
        )


def _scores(variant: Variant, store: Store) -> Iterator[MissingLine]:
    """The runs whose predictions wait for a test server's word."""
    rows = {row.slug: row for row in variant.rows}
    for line in variant.finished:
        run = store.finished(line.run_id)
        if run.predictions is None or any(key[0] == line.run_id for key in variant.served):
            continue
        place = f"{line.study}/{line.row}@{line.seed}"
        words = f"python -m studies.evidence {place} --protocol {line.protocol} --miou PERCENT --source WHERE"
        yield _of_run(variant, rows[line.row].label, line.row, line.seed, "test server's score", words)


def _pictures(variant: Variant) -> Iterator[MissingLine]:
    """The runs that a claim about Grad-CAM's heat needs pictures of."""
    claims = [claim for claim in variant.claims if claim.metric == "gradcam_inside"]
    wanted = {row for claim in claims for row in (claim.better, claim.worse)}
    labels = {row.slug: row.label for row in variant.rows}
    for line in variant.finished:
        if line.row in wanted and (line.run_id, "gradcam_inside") not in variant.looked_at:
            words = f"python -m studies.figures --rows {line.study}/{line.row}@{line.seed} --protocol {line.protocol}"
            words += "" if variant.full else f" --limit-iterations {variant.iterations}"
            yield _of_run(variant, labels[line.row], line.row, line.seed, "pictures", words)


def _of_run(variant: Variant, name: str, row: str, seed: int | None, what: str, command: str) -> MissingLine:
    protocol = variant.protocol
    recipe = protocol.recipe(variant.panel, variant.study.row(row))
    return MissingLine(
        variant.study.slug,
        row,
        name,
        what,
        recipe.data.dataset,
        protocol.name,
        recipe.train.learning_rate,
        variant.iterations,
        str(seed),
        1,
        command,
    )
