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
    """The overview as narrow as a terminal: a column a protocol, a sign a verdict, no datasets and nothing pending."""
    groups = list(dict.fromkeys(column.group for column in overview.columns[2:]))
    places = {
        g: [place for place, column in enumerate(overview.columns) if column.group == g and place] for g in groups
    }
    texts = [
        [line.cells[0].text, *(_told(line.cells[place].text for place in places[group]) for group in groups)]
        for line in overview.lines
    ]
    whole = ", ".join(cell.text for line in overview.lines for cell in line.cells)
    said = {item.partition(" ")[2] for item in whole.split(", ")} - {"pending"}
    signs = ", ".join(f"{sign} {word}" for word, sign in _SIGNS if word in said)
    return dataclasses.replace(
        overview,
        caption=(f"Costs: how many agree with print. Protocols: runs, and what became of claims: {signs}",),
        columns=tuple(Column(title.removeprefix("Protocol "), align="text") for title in ("Table", *groups)),
        lines=tuple(Line(row[0], tuple(Cell(text) for text in row)) for row in texts),
    )


def _told(texts: Iterable[str]) -> str:
    """`18/18 5≈` of `18 of 18` and `5 not resolved, 3 pending`."""
    items = [item for text in texts for item in text.split(", ") if not item.endswith(" pending") and item != "–"]
    return " ".join(_signs(item).replace(" of ", "/") for item in items)


_SIGNS = sorted({**{word: GLYPHS[word] for word in RULES}, **ELSEWHERE_GLYPHS}.items(), key=lambda pair: -len(pair[0]))
"""Longer words first: one is the beginning of another."""


def _signs(text: str) -> str:
    for word, sign in _SIGNS:
        text = text.replace(f" {word}", sign)
    return text


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
