"""results/<table>.csv: a table's rows, measured, with the printed value beside every number that the paper prints.

A line is a measurement: a cost, a speed, a run, a test of finished weights. What was never measured has no line here
but one in missing.csv. `KEY` names the columns that tell a line from every other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from segnext.config import Platform
from studies.declare.study import MEASURED_AS, Panel, Reported, Row
from studies.declare.subtasks import Subtask
from studies.facts.gather import Evidence, Tested, Variant
from studies.records.lines import Line
from studies.records.schema import CostRecord, EvaluationRecord, File, SpeedRecord
from studies.records.store import Store

MILLION = {"params_m": 1_000_000}
"""Of a printed value: what one of its units is in the files, where that is not 1."""


def in_files(value: float, metric: str) -> float:
    """A printed value in the unit of its metric's column: parameters are counted one by one."""
    return round(value * MILLION[metric]) if metric in MILLION else value


class RowLine(Struct, frozen=True):
    """A measurement of a row; `printed_*` is what the paper prints for the same, where it prints it."""

    table: str
    row: str
    name: str
    kind: str  # cost, speed, run, evaluation (of a run's weights, once more) or imported (of weights of elsewhere)
    dataset: str
    split: str = ""
    protocol: str = ""
    learning_rate: float | None = None
    iterations: int | None = None
    control: str = ""
    seed: int | None = None
    ham_seed: int | None = None
    weights: str = ""
    platform: str = ""
    input_height: int | None = None
    input_width: int | None = None
    run_id: str = ""
    upstream: str = ""
    size: str = ""
    precision: str = ""
    params: int | None = None
    printed_params: float | None = None
    gmacs: float | None = None
    printed_gmacs: float | None = None
    gmacs_fvcore: float | None = None
    trained_params: int | None = None
    trained_gmacs: float | None = None
    miou_ss: float | None = None
    printed_miou_ss: float | None = None
    miou_ms: float | None = None
    printed_miou_ms: float | None = None
    top1: float | None = None
    printed_top1: float | None = None
    fps: float | None = None
    printed_fps: float | None = None
    latency_seconds: float | None = None
    memory_bytes: int | None = None


KEY = (
    "table",
    "row",
    "kind",
    "dataset",
    "split",
    "protocol",
    "learning_rate",
    "iterations",
    "seed",
    "ham_seed",
    "weights",
    "platform",
    "input_height",
    "input_width",
)
"""What tells a line from every other one."""


def row_lines(evidence: Evidence, store: Store) -> Iterator[RowLine]:
    """A table's lines: costs and speeds, then what was trained, by protocol, row and seed."""
    yield from _costs(evidence, store)
    yield from _speeds(evidence)
    for variant in evidence.variants:
        yield from _trained(variant, store)


def _costs(evidence: Evidence, store: Store) -> Iterator[RowLine]:
    for panel in evidence.study.panels:
        for row in evidence.study.rows:
            if (expense := evidence.expenses.get((panel.dataset, row.slug))) is not None:
                yield _cost(evidence, panel, row, expense.record, panel.input_size, store)
    panel = evidence.study.panel()
    for row in evidence.study.trained:
        for side in evidence.study.squares:
            grown = evidence.growth.get((row.slug, side))
            if grown is not None and (side, side) != panel.input_size:
                yield _cost(evidence, panel, row, grown.record, (side, side), store)


def _cost(
    evidence: Evidence, panel: Panel, row: Row | Reported, identifier: str, size: tuple[int, int], store: Store
) -> RowLine:
    """A cost; the printed one beside it where it is counted at the paper's input size."""
    record = store.records[identifier]
    assert isinstance(record, CostRecord), identifier
    line = RowLine(
        evidence.study.slug,
        row.slug,
        row.label,
        "cost",
        panel.dataset,
        input_height=size[0],
        input_width=size[1],
        run_id=identifier,
        params=record.params,
        gmacs=record.gmacs,
        gmacs_fvcore=record.gmacs_fvcore,
    )
    return _printed(line, panel, row, ("params_m", "gflops")) if size == panel.input_size else line


def _speeds(evidence: Evidence) -> Iterator[RowLine]:
    study, panel = evidence.study, evidence.study.panel()
    labels = {row.slug: row.label for row in study.rows}
    for timings in evidence.timings:
        for (row, side), record in timings.records.items():
            line = RowLine(study.slug, row, labels[row], "speed", panel.dataset, input_height=side, input_width=side)
            yield _timed(line, timings.platform, record)
    by_name = {row.name: row for row in study.rows}
    for platform, records in evidence.frames.items():
        for name, record in records.items():
            height, width = panel.input_size
            line = RowLine(
                study.slug, name.lower(), name, "speed", panel.dataset, input_height=height, input_width=width
            )
            named = by_name.get(name)
            if named is not None:
                line = structs.replace(line, row=named.slug, name=named.label)
                line = _printed(line, panel, named, ("fps",))
            fps = 1 / record.latency if record.latency else None
            yield structs.replace(_timed(line, platform, record), fps=fps)


def _timed(line: RowLine, platform: Platform, record: SpeedRecord) -> RowLine:
    return structs.replace(
        line,
        platform=platform_words(platform),
        precision=platform.precision,
        run_id=record.id,
        latency_seconds=record.latency,
        memory_bytes=record.memory,
    )


def platform_words(platform: Platform) -> str:
    """What a speed was measured on: processor or card, threads, precision, release of torch."""
    threads = f"{platform.threads} thread" + ("s" if platform.threads > 1 else "")
    words = (platform.processor, f"{platform.memory_gib} GiB", threads, platform.precision, f"torch {platform.torch}")
    return ", ".join(words)


def _trained(variant: Variant, store: Store) -> Iterator[RowLine]:
    """The finished runs, then tests of their weights once more, and of weights of elsewhere."""
    rows = {row.slug: row for row in variant.rows}
    shared = {row: _line(variant, rows[row], lines[0], "run") for row, lines in variant.finished_by_row.items()}
    runs = {line.run_id: _run(shared[line.row], line, store) for line in variant.finished}
    yield from runs.values()
    for tested in variant.retested:
        for record in _records(tested, store):
            run = record.config.weights
            assert isinstance(run, str), record.id
            yield _tested(runs[run], record)
    imported = {line.row: line for line in variant.lines if line.state == "imported"}
    for tested in variant.imported:
        line = _line(variant, rows[tested.row], imported[tested.row], "imported")
        for record in _records(tested, store):
            yield _tested(line, record)


def _records(tested: Tested, store: Store) -> list[EvaluationRecord]:
    """The records behind tests of the same weights, by the seed of Ham's bases; the run itself is none of them."""
    identifiers = dict.fromkeys(seed.record for seeds in tested.values.values() for seed in seeds)
    found = (store.records[identifier] for identifier in identifiers)
    tests = (record for record in found if isinstance(record, EvaluationRecord))
    return sorted(tests, key=lambda record: record.config.ham_seed)


def _line(variant: Variant, row: Row, line: Line, kind: str) -> RowLine:
    recipe = variant.protocol.recipe(variant.panel, row)
    made = RowLine(
        variant.study.slug,
        row.slug,
        row.label,
        kind,
        line.dataset,
        recipe.data.test_split,
        variant.protocol.name,
        recipe.train.learning_rate,
        line.iterations,
        variant.panel.control if isinstance(variant.panel, Subtask) else "",
        run_id=line.run_id,
        size=line.trained_model,
        precision=line.precision,
    )
    return _printed(made, variant.panel, row, variant.panel.accuracies) if variant.comparable else made


def _run(shared: RowLine, line: Line, store: Store) -> RowLine:
    """The line of a run; `shared` is that of any run of its row."""
    return structs.replace(
        shared,
        run_id=line.run_id,
        precision=line.precision,
        seed=line.seed,
        upstream=store.finished(line.run_id).config.init or "",
        trained_params=line.trained_params,
        trained_gmacs=line.trained_gmacs,
        miou_ss=line.miou_ss,
        miou_ms=line.miou_ms,
        top1=line.top1,
        fps=line.fps,
    )


def _tested(line: RowLine, record: EvaluationRecord) -> RowLine:
    """The line of a test of finished weights."""
    weights = record.config.weights
    metrics = record.metrics
    return structs.replace(
        line,
        kind="imported" if isinstance(weights, File) else "evaluation",
        ham_seed=record.config.ham_seed,
        weights=f"{weights.name} {weights.sha256[:12]}" if isinstance(weights, File) else "",
        run_id=record.id,
        upstream=weights if isinstance(weights, str) else "",
        precision=record.provenance.precision,
        trained_params=None,
        trained_gmacs=None,
        miou_ss=metrics.miou_ss,
        miou_ms=metrics.miou_ms,
        top1=metrics.top1,
        fps=metrics.fps,
    )


def _printed(line: RowLine, panel: Panel, row: Row | Reported, metrics: tuple[str, ...]) -> RowLine:
    """With what the paper prints for these metrics, in the units of the columns."""
    values: dict[str, Any] = {}
    for metric in metrics:
        if (value := row.prints(panel, metric)) is not None:
            values[f"printed_{MEASURED_AS[metric]}"] = in_files(value, metric)
    return structs.replace(line, **values)
