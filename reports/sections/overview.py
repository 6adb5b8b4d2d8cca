"""The whole report in a line per table: which costs agree, how its claims stand, how many runs are finished."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from reports.blocks.style import ELSEWHERE_GLYPHS, GLYPHS
from reports.blocks.table import Cell, Column, Line, Source, Table
from reports.sections.discrepancies import cost_verdicts
from reports.sections.parts import StudyPart
from studies.judge.tiers import ELSEWHERE
from studies.judge.verdicts import RULES


def overview_table(parts: Sequence[StudyPart]) -> Table:
    """One line per study. Runs that were cut short and weights of elsewhere are left out."""
    counted = [v for part in parts for v in part.evidence.variants if v.counted]
    protocols = list(dict.fromkeys(v.protocol.name for v in counted))
    predicting = {shown.variant.protocol.name for part in parts for shown in part.variants if shown.predicted}
    claiming = {v.protocol.name for v in counted if v.claims}
    columns = [
        Column("Table", align="left"),
        Column("Datasets", align="text"),
        Column("agree with print", "Costs", align="left"),
        Column("claims", "Costs", align="left"),
    ]
    for name in protocols:
        titles = ["runs", *(["claims"] * (name in claiming)), *(["predictions"] * (name in predicting))]
        columns += [Column(t, f"Protocol {name}", align="left" if t == "runs" else "text") for t in titles]
    lines = []
    for part in parts:
        evidence, study = part.evidence, part.evidence.study
        cells = [
            Cell(study.number, sources=(Source(study.number, f"#{study.slug}"),)),
            Cell(", ".join(panel.title for panel in study.panels)),
            _agreeing(cost_verdicts(evidence)),
            _counted(evidence.judge_cost(claim).verdict for claim in evidence.cost_claims),
        ]
        for name in protocols:
            variants = [v for v in evidence.variants if v.counted and v.protocol.name == name]
            planned = sum(variant.planned for variant in variants)
            finished = sum(len(variant.finished) for variant in variants)
            cells.append(Cell(f"{finished} of {planned}" if planned else "–"))
            if name in claiming:
                found = [evidence.judge(v, claim).verdict for v in variants for claim in v.claims]
                cells.append(_counted(found, {} if any(v.comparable for v in variants) else ELSEWHERE))
            if name in predicting:
                cells.append(_counted(part.outcomes(name), ELSEWHERE))
        lines.append(Line(study.slug, tuple(cells)))
    caption = (
        "Printed costs that the measured ones agree with; how the claims about costs, and those about accuracies under "
        "each protocol, stand; finished runs; what became of the predictions about generated data, of the paper's own "
        "words and of the mechanism, that were written before the runs.",
    )
    return Table("overview", "Every table at a glance", caption, tuple(columns), tuple(lines))


def in_short(overview: Table) -> Table:
    """The overview as narrow as a terminal: a sign for each verdict, and no datasets."""
    kept = [place for place, column in enumerate(overview.columns) if column.title != "Datasets"]
    texts = [[line.cells[place].text for place in kept] for line in overview.lines]
    said = {item.partition(" ")[2] for row in texts for text in row for item in text.split(", ")}
    signs = [f"{sign} {word}" for word, sign in _SIGNS if word in said]
    columns = [overview.columns[place] for place in kept]
    return dataclasses.replace(
        overview,
        caption=(", ".join(signs),),
        columns=tuple(dataclasses.replace(c, group=c.group.removeprefix("Protocol ")) for c in columns),
        lines=tuple(Line(row[0], tuple(Cell(_signs(text)) for text in row)) for row in texts),
    )


_SIGNS = sorted({**{word: GLYPHS[word] for word in RULES}, **ELSEWHERE_GLYPHS}.items(), key=lambda pair: -len(pair[0]))
"""Longer words first: one is the beginning of another."""


def _signs(text: str) -> str:
    for word, sign in _SIGNS:
        text = text.replace(f" {word}", sign)
    return text.replace(",", "")


def _agreeing(verdicts: Sequence[str]) -> Cell:
    counts = Counter(verdicts)
    if not verdicts:
        return Cell()
    waiting = f", {counts['pending']} pending" if counts["pending"] else ""
    return Cell(f"{counts['agrees']} of {len(verdicts)}{waiting}")


def _counted(verdicts: Iterable[str], words: Mapping[str, str] = MappingProxyType({})) -> Cell:
    """`3 supported, 1 pending`, in the order of the rules; `words`: what to say in place of a verdict."""
    counts = Counter(verdicts)
    return Cell(", ".join(f"{counts[word]} {words.get(word, word)}" for word in RULES if counts[word]) or "–")
