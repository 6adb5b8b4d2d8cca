"""Spread by Ham's evaluation seed: what the random bases of its factorisation alone do to a number (Sec. 3.2)."""

from __future__ import annotations

import statistics

from reports.blocks.table import METRICS, Cell, Column, Line, Notes, Source, Table, Value, number
from studies.declare.study import Row
from studies.facts.gather import Seed, Tested, Variant


def ham_table(variant: Variant) -> Table:
    """The same weights under several seeds of Ham's bases; without lines where none were tested with two."""
    columns = (
        Column("Row", align="text"),
        Column("Weights", align="text"),
        Column("Ham seeds", align="left"),
        Column("Metric", align="left"),
        Column("Mean"),
        Column("Minimum"),
        Column("Maximum"),
        Column("Ham seeds", "Standard deviation over"),
        Column("training seeds", "Standard deviation over"),
    )
    notes = Notes()
    lines = tuple(
        _line(variant, row, tested, metric, notes)
        for row in variant.rows
        for tested in (*variant.retested, *variant.imported)
        for metric, tests in tested.values.items()
        if tested.row == row.slug and len(tests) > 1
    )
    caption = (
        "Finished weights, tested with several draws of the bases that Ham's factorisation starts from.",
        "A run's own evaluation counts as Ham seed 0, unless the run was tested again with it.",
        "Over training seeds: between the row's runs, in brackets how many, where two or more are finished.",
        "No mean, verdict or claim elsewhere reads these tests.",
    )
    title = f"Spread by Ham's evaluation seed, protocol {variant.name}"
    return Table(f"{variant.slug}-ham", title, caption, columns, lines, tuple(notes))


def _line(variant: Variant, row: Row, tested: Tested, metric: str, notes: Notes) -> Line:
    tests = tested.values[metric]
    seeds = ", ".join(str(test.seed) for test in tests)
    values = [test.value for test in tests]
    low, high = min(tests, key=lambda test: test.value), max(tests, key=lambda test: test.value)
    mixed = variant.mixture(test.record for test in tests)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    names: dict[str, Value] = {
        "study": variant.study.slug,
        "dataset": variant.panel.dataset,
        "row": row.slug,
        "name": row.label,
        "weights": tested.name,
        "ham_seeds": seeds,
        "metric": metric,
        "own": tested.own.get(metric),  # the run's own evaluation, where another test stands for Ham's seed 0
    }
    file = tested in variant.imported
    difference = _difference(tested, metric)
    changed = ("differs from the run's own",) if difference else ()
    sources = tuple(
        Source(number(t.value, 2), t.record, f"Ham seed {t.seed}", t.marks + (() if t.seed else changed)) for t in tests
    )
    cells = (
        Cell(row.label, names),
        Cell(f"imported, {tested.name}", verdict="imported") if file else Cell(tested.name),
        Cell(f"{len(tests)} ({seeds})", note=notes.mark(_disagreement(difference))),
        Cell(METRICS[metric]),
        Cell(
            number(mean, 2),
            {"mean": mean, "mixed": mixed or None, "precision": variant.precision_of(tests)},
            sources=sources,
            note=notes.mark(mixed),
        ),
        _extreme(low, "minimum"),
        _extreme(high, "maximum"),
        Cell(number(deviation, 3), {"deviation": deviation}, note=notes.mark(mixed)),
        _training(variant, row, metric, notes),
    )
    return Line(f"{row.slug}-{tests[0].record}-{metric}", cells)


def _extreme(test: Seed, column: str) -> Cell:
    text = number(test.value, 2)
    return Cell(text, {column: test.value}, sources=(Source(text, test.record, f"Ham seed {test.seed}"),))


def _training(variant: Variant, row: Row, metric: str, notes: Notes) -> Cell:
    """The standard deviation between the row's own runs."""
    values = variant.values(row.slug, metric)
    if len(values) < 2:
        return Cell(values={"training_deviation": None})
    deviation = statistics.stdev(values)
    text = f"{number(deviation, 3)} ({len(values)})"
    source = Source(text, f"#{variant.slug}-{row.slug}", "computed from")
    note = notes.mark(variant.mixed(row.slug, metric))
    return Cell(text, {"training_deviation": deviation}, sources=(source,), note=note)


def _difference(tested: Tested, metric: str) -> float:
    """How far Ham's seed 0, tested again, lies from the run's own evaluation; 0 where it was not."""
    first = tested.values[metric][0]
    return first.value - tested.own[metric] if metric in tested.own else 0.0


def _disagreement(difference: float) -> str:
    """The same in words; nothing where both are equal."""
    shown = f"{difference:+.2g}".replace("-", "−")
    return f"Ham seed 0, tested again, differs from the run's own evaluation by {shown}." if difference else ""
