"""The one maker of fake records: every record of a test that no run has made comes from here.

Facts are given as studies/records/schema.py has them, and each record is checked as one that is read. What comes out is
plain data, as JSON has it: a test adds it to a store, or first changes what it is about.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields, replace

from segnext.config import Cost, Evaluation, Run, Speed, canonical, digest
from segnext.files import write_atomically
from studies.declare.protocols import PROTOCOLS
from studies.declare.study import Row, Study
from studies.records.schema import Cue, DataRead, File, Metrics, Origin, Plain, Trained, Training, typed
from studies.records.store import Store, row_cost
from studies.tables.table7 import STUDY


def plain(facts: msgspec.Struct) -> Plain:
    """What a value says and its defaults do not, as JSON has it."""
    said = ((field, getattr(facts, field.name)) for field in fields(facts))
    return {
        field.name: plain(value) if isinstance(value, msgspec.Struct) else value
        for field, value in said
        if value != (field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory())
    }


ORIGIN = Origin(
    command="python -m studies.run table7",
    commit="0123456789abcdef0123456789abcdef01234567",
    code="abcdef012345",
    python="3.11.2",
    packages={"torch": "2.11.0", "numpy": "2.4.0"},
    device="cpu",
    processor="Example CPU <2 GHz>",
    threads=1,
    started="2026-01-01T00:00:00Z",
    finished="2026-01-01T00:01:30Z",
)
READ = DataRead(train_fingerprint="f00d", test_fingerprint="beef")
PROVENANCE, DATA = plain(ORIGIN), plain(READ)
CLASSES = ("road", "sky")
TRAINED = Trained(params=101_234, gmacs=0.01, gmacs_fvcore=0.01, height=96, width=96)
TRAINING = Training(iterations=400, seconds=90.5, images_per_second=70.0, final_loss=0.4)
WEIGHTS = File(name="weights.pth", sha256="0" * 64)
COSTS = {"a": (4_225_366, 9.97), "b": (4_206_070, 4.9), "c": (4_263_414, 6.5929), "c-stage1": (4_271_606, 12.09)}
OFFSETS = {"a": -0.9, "b": -4.0, "c": 0.0, "c-stage1": -0.1}


def _record(kind: str, value: Run | Evaluation | Cost | Speed, facts: Plain, provenance: Origin) -> Plain:
    made = {"id": value.id, "kind": kind, "config": canonical(value), **facts, "provenance": plain(provenance)}
    typed(made)
    return made


def scores(single: float | None, multi: float | None) -> Metrics:
    """The two mIoU of a test of two classes."""
    return Metrics(miou_ss=single, miou_ms=multi, pixel_accuracy=80.0, iou=[50.0, None])


def run_record(
    run: Run,
    metrics: Metrics,
    *,
    classes: Iterable[str] = CLASSES,
    trained: Trained = TRAINED,
    training: Training = TRAINING,
    cue: Cue | None = None,
    weights: File | None = None,
    predictions: File | None = None,
    **provenance: Any,
) -> Plain:
    """A finished run; `provenance` replaces parts of the usual one."""
    parts = {"metrics": metrics, "trained": trained, "training": training}
    parts |= {"cue": cue, "weights": weights, "predictions": predictions}
    facts = {name: plain(part) for name, part in parts.items() if part is not None}
    return _record("run", run, {**facts, "classes": [*classes]}, replace(ORIGIN, **{"data": READ, **provenance}))


def table7_record(row: str, seed: int, miou: float, iterations: int | None = None, protocol: str = "quick") -> Plain:
    """A finished run of a row of Table 7, tested on a single scale."""
    run = PROTOCOLS[protocol].run(STUDY.panel(), STUDY.row(row), seed, iterations)
    return run_record(run, Metrics(miou_ss=miou))


def table7_cost(row: str) -> Plain:
    """What a row of Table 7 costs, in round numbers."""
    return cost_record(row_cost(STUDY.panel(), STUDY.row(row)), 7, 6.5, 6.6)


def evaluation_record(
    evaluation: Evaluation, metrics: Metrics, stands_for: str | None = None, **provenance: Any
) -> Plain:
    """A test of finished weights."""
    facts = {"metrics": plain(metrics), "classes": [*CLASSES], "weights": plain(WEIGHTS)}
    facts |= {"stands_for": stands_for} if stands_for else {}
    read = DataRead(test_fingerprint=READ.test_fingerprint)
    return _record("evaluation", evaluation, facts, replace(ORIGIN, **{"data": read, **provenance}))


def cost_record(cost: Cost, params: int, gmacs: float, gmacs_fvcore: float | None = None) -> Plain:
    """Parameters and FLOPs; fvcore's are the same unless given."""
    counted = {"params": params, "gmacs": gmacs, "gmacs_fvcore": gmacs if gmacs_fvcore is None else gmacs_fvcore}
    return _record("cost", cost, counted, ORIGIN)


def speed_record(
    speed: Speed,
    latency: float | None,
    memory: int | None,
    predicted_memory: int,
    reason: str = "",
    quartiles: tuple[float | None, float | None] = (None, None),
    passes: int = 5,
) -> Plain:
    """Latency and memory, or the `reason` why there are none."""
    facts: Plain = {
        "latency": latency,
        "lower_quartile": quartiles[0],
        "upper_quartile": quartiles[1],
        "passes": passes,
    }
    facts |= {"memory": memory, "predicted_memory": predicted_memory, "reason": reason}
    return _record("speed", speed, facts, ORIGIN)


def server_record(run: Run, metric: str, value: float, source: str) -> Plain:
    """What a test server said of a run."""
    config = {"run": run.id, "metric": metric, "source": source}
    made = {"id": f"server-{digest(config)}", "kind": "server", "config": config, "value": value, "provenance": {}}
    typed(made)
    return made


def add_cost(store: Store, study: Study, row: Row) -> None:
    """What a row of Table 7 costs."""
    parameters, gmacs = COSTS[row.slug]
    store.add(cost_record(row_cost(study.panel(), row), parameters, gmacs, gmacs + 0.0148))


def add_run(
    store: Store,
    study: Study,
    row: Row,
    protocol: str,
    seed: int,
    miou: float,
    length: int | None = None,
    **provenance: Any,
) -> str:
    """A finished run of a study's row; `provenance` replaces parts of the usual one."""
    run = PROTOCOLS[protocol].run(study.panel(), row, seed, length)
    store.add(run_record(run, scores(miou, miou + 1.1), **provenance))
    return run.id


def add_evaluation(
    store: Store,
    evaluation: Evaluation,
    single: float | None,
    multi: float | None,
    stands_for: str | None = None,
    **provenance: Any,
) -> str:
    """A test of finished weights, which stand for a run or are a run's own."""
    store.add(evaluation_record(evaluation, scores(single, multi), stands_for, **provenance))
    return evaluation.id


def add_curve(store: Store, identifier: str, lines: int = 40) -> None:
    """The curve of a run's training."""
    rows = [f"{10 * i},{2.0 / i + 0.01 * (int(identifier, 16) % 7)},0.001,70.5" for i in range(1, lines + 1)]
    content = "\n".join(["iteration,loss,learning_rate,images_per_second", *rows]) + "\n"
    write_atomically(store.folder / "curves" / f"{identifier}.csv", content)


def fabricate(
    folder: Path,
    study: Study = STUDY,
    *,
    protocol: str = "quick",
    seeds: int = 3,
    level: float = 41.1,
    curves: bool = False,
) -> Store:
    """Costs, and `seeds` runs of every row under a protocol; deterministic."""
    store = Store(folder)
    for row in study.trained:
        add_cost(store, study, row)
        for seed in range(seeds):
            wobble = 0.3 * ((seed * 7 + len(row.slug)) % 3 - 1)
            identifier = add_run(store, study, row, protocol, seed, level + OFFSETS[row.slug] + wobble)
            if curves:
                add_curve(store, identifier)
    return store


def two_rows(path: Path, shift: float = 0.0, seeds: tuple[int, ...] = (0, 1, 2), **provenance: Any) -> Store:
    """Runs of two rows around 40, of which the first is `shift` better than in another folder."""
    store = Store(path)
    for place, row in enumerate(STUDY.trained[:2]):
        for seed in seeds:
            noise = random.Random(f"{row.slug} {seed}").gauss(0, 0.3)
            add_run(store, STUDY, row, "quick", seed, 40 + noise + (shift if place == 0 else 0), **provenance)
    return store
