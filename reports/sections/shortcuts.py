"""Shortcut probes of the generated data: what patches of pixels tell of a class by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from reports.blocks.table import Cell, Column, Line, Notes, Source, Table, number
from studies.declare.subtasks import TOLD_NEARBY
from studies.facts.gather import marks
from studies.records.schema import ShortcutRecord
from studies.shortcuts import IMAGES


def shortcuts_table(probes: Sequence[ShortcutRecord]) -> Table:
    """What patches tell of a class by themselves: at chance beyond a patch's reach, or the data give labels away."""
    sides, reaches = (probes[0].config.sides, probes[0].config.reaches) if probes else ([], [])
    notes, lines = Notes(), []
    for probe in probes:
        task = probe.config.task
        source = Source(task, probe.id, "record", marks(probe))
        cells = [
            Cell(task, {"task": task}, sources=(source,), note=notes.mark(TOLD_NEARBY.get(task, ""))),
            Cell(number(probe.chance, 0), {"chance": probe.chance}),
        ]
        for where, values in (("within", probe.within), ("beyond", probe.beyond)):
            for side, value in zip(sides, values, strict=True):
                cells.append(_percent(f"{where}_{side}", value))
        for reach, value in zip(reaches, probe.counted, strict=True):
            cells.append(_percent(f"counted_{reach}", value))
        lines.append(Line(task, tuple(cells)))
    caption = (
        "Percent of pixels whose class a linear classifier (ridge regression) of the k×k pixels around them tells, "
        "where the deciding cue lies within the patch and where it lies k pixels away or more; –: no such pixels.",
        f"Fitted on the first 3/5 of {IMAGES} training images and tested on the others, as many pixels of every class.",
        "Beyond a patch's reach it has to be at chance: then no sum of its pixels tells the class. A conjunction of "
        "two things (gate, mix) is at chance within it, too: no sum tells it.",
        "Counting marks: of strips whose own mark lies farther than so many pixels, those told right by who counts the "
        "marks in the square that reaches so far, and guesses the colour that is seen less.",
    )
    columns = (
        Column("Sub-task", align="text"),
        Column("Chance (%)"),
        *(Column(str(side), group) for group in ("Cue within the patch, k =", "Cue beyond it, k =") for side in sides),
        *(Column(str(reach), "Counting marks, reach =") for reach in reaches),
    )
    return Table("shortcuts", "Shortcut probes of the generated data", caption, columns, tuple(lines), tuple(notes))


def _percent(name: str, value: float | None) -> Cell:
    return Cell("–" if value is None else number(value, 1), {name: value})


def in_words(probe: ShortcutRecord) -> str:
    """A probe in a sentence."""
    within, beyond = ([value for value in side if value is not None] for side in (probe.within, probe.beyond))
    sides = ", ".join(map(str, probe.config.sides))
    told = [f"{number(max(beyond), 1)} % beyond it"] if beyond else []
    told += [f"{number(max(within), 1)} % within it"] if within else []
    said = [f"Shortcut probes (patches of {sides} pixels) tell at most {' and '.join(told)}."]
    if counted := [number(value, 1) for value in probe.counted if value is not None]:
        reaches = ", ".join(map(str, probe.config.reaches))
        said.append(f"Counting the marks in sight tells {', '.join(counted)} % of what lies beyond {reaches} pixels.")
    return " ".join([*said, *filter(None, [TOLD_NEARBY.get(probe.config.task)])])
