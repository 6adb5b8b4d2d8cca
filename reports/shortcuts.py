"""Shortcut probes of the generated data: what patches of pixels tell of a class by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from reports.evidence import marks
from reports.table import Cell, Column, Line, Notes, Source, Table, number
from studies.shortcuts import IMAGES
from studies.store import Record
from studies.subtasks import TOLD_NEARBY


def shortcuts_table(probes: Sequence[Record]) -> Table:
    """What patches tell of a class by themselves: at chance beyond a patch's reach, or the data give labels away."""
    sides = probes[0]["config"]["sides"] if probes else []
    notes, lines = Notes(), []
    for probe in probes:
        task = probe["config"]["task"]
        source = Source(task, probe["id"], "record", marks(probe))
        cells = [
            Cell(task, {"task": task}, sources=(source,), note=notes.mark(TOLD_NEARBY.get(task, ""))),
            Cell(number(probe["chance"], 0), {"chance": probe["chance"]}),
        ]
        for where in ("within", "beyond"):
            for side, value in zip(sides, probe[where], strict=True):
                cells.append(Cell("–" if value is None else number(value, 1), {f"{where}_{side}": value}))
        lines.append(Line(task, tuple(cells)))
    caption = (
        "Percent of pixels whose class a linear classifier (ridge regression) of the k×k pixels around them tells, "
        "where the deciding cue lies within the patch and where it lies k pixels away or more; –: no such pixels.",
        f"Fitted on the first 3/5 of {IMAGES} training images and tested on the others, as many pixels of every class.",
        "Beyond a patch's reach it has to be at chance: then nothing but the cue tells the class. A conjunction of two "
        "things (gate, mix) is at chance within it, too: no sum of pixels tells it.",
    )
    columns = (
        Column("Sub-task", align="text"),
        Column("Chance (%)"),
        *(Column(str(side), group) for group in ("Cue within the patch, k =", "Cue beyond it, k =") for side in sides),
    )
    return Table("shortcuts", "Shortcut probes of the generated data", caption, columns, tuple(lines), tuple(notes))


def in_words(probe: Record) -> str:
    """A probe in a sentence."""
    within, beyond = ([value for value in probe[where] if value is not None] for where in ("within", "beyond"))
    sides = ", ".join(map(str, probe["config"]["sides"]))
    told = [f"{number(max(beyond), 1)} % beyond it"] if beyond else []
    told += [f"{number(max(within), 1)} % within it"] if within else []
    note = TOLD_NEARBY.get(probe["config"]["task"], "")
    return f"Shortcut probes (patches of {sides} pixels) tell at most {' and '.join(told)}." + (
        f" {note}" if note else ""
    )
