"""Frames a second of whole networks at a table's input size, beside the printed ones (Table 11)."""

from __future__ import annotations

from reports.blocks.table import Cell, Column, Line, Notes, Source, Table, number
from reports.sections.scaling import named
from studies.facts.gather import Evidence, marks
from studies.records.schema import SpeedRecord


def frame_table(evidence: Evidence) -> Table:
    """Networks by platforms; without lines where a study times none, or nothing was measured yet."""
    study, panel, notes = evidence.study, evidence.study.panel(), Notes()
    printed = {row.name: value for row in study.rows if (value := row.prints(panel, "fps"))}
    columns = [Column("Network", align="text"), Column("printed")]
    columns += [Column("ours (quartiles)", named(platform)) for platform in evidence.frames]
    lines = []
    for name in study.timed if evidence.frames else ():
        value = printed.get(name)
        cells = [Cell(name, {"study": study.slug, "network": name})]
        cells.append(Cell(number(value, 0), {"printed": value}) if value else Cell(values={"printed": None}))
        for platform, records in evidence.frames.items():
            cells.append(_cell(records.get(name), named(platform), notes))
        lines.append(Line(name.lower(), tuple(cells)))
    height, width = panel.input_size
    caption = (
        f"Images a second, one at a time, of {height}×{width} pixels and {panel.classes} classes, in evaluation as the "
        "network stands: nothing folded, fused or compiled. Reciprocal of the median latency, after passes to warm up.",
    )
    return Table(f"{study.slug}-frames", "Frames a second", caption, tuple(columns), tuple(lines), tuple(notes))


def _cell(record: SpeedRecord | None, where: str, notes: Notes) -> Cell:
    if record is None:
        return Cell(values={where: None})
    if record.latency is None or record.upper_quartile is None or record.lower_quartile is None:
        return Cell(values={where: None}, note=notes.mark(f"{record.reason}."))
    rate, low, high = (1 / seconds for seconds in (record.latency, record.upper_quartile, record.lower_quartile))
    digits = 2 if rate < 10 else 1
    text = f"{number(rate, digits)} ({number(low, digits)} to {number(high, digits)})"
    return Cell(text, {where: rate}, sources=(Source(text, record.id, "speed record", marks(record)),))
