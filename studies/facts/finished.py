"""results/runs.csv: every record once, whichever tables show it: what was trained or measured, how, and what came out.

Whether a record is of today's code changes with that code, and is no fact of the record: `code` is its fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from segnext.config import ENCODERS, SIZES, Model, canonical
from segnext.config.architecture import DECODER_STAGES
from studies.records.schema import (
    CostConfig,
    CostRecord,
    EvaluationRecord,
    File,
    Metrics,
    Plain,
    Record,
    RunRecord,
    ScoredRecord,
    ServerRecord,
    ShortcutRecord,
    SpeedRecord,
)
from studies.records.store import Store


class RunLine(Struct, frozen=True):
    """A record. What a kind of record has not is empty."""

    run_id: str
    kind: str
    rows: str = ""  # of the tables that show it: `table7/c table9/t`
    model: str = ""
    size: str = ""
    switches: str = ""
    protocol: str = ""
    dataset: str = ""
    train_split: str = ""
    test_split: str = ""
    classes: int | None = None
    input_height: int | None = None
    input_width: int | None = None
    learning_rate: float | None = None
    iterations: int | None = None
    batch: int | None = None
    seed: int | None = None
    ham_seed: int | None = None
    upstream: str = ""
    miou_ss: float | None = None
    miou_ms: float | None = None
    top1: float | None = None
    pixel_accuracy: float | None = None
    mean_accuracy: float | None = None
    boundary_miou: float | None = None
    trained_params: int | None = None
    trained_gmacs: float | None = None
    params: int | None = None
    gmacs: float | None = None
    gmacs_fvcore: float | None = None
    latency_seconds: float | None = None
    memory_bytes: int | None = None
    seconds: float | None = None
    process_seconds: float | None = None
    gpu_seconds: float | None = None
    device: str = ""
    processor: str = ""
    processes: int | None = None
    threads: int | None = None
    precision: str = ""
    compiled: str = ""
    torch: str = ""
    date: str = ""
    commit: str = ""
    dirty: bool = False
    code: str = ""
    test_fingerprint: str = ""


def run_lines(store: Store) -> Iterator[RunLine]:
    """A line a record, by id, without `rows`."""
    for identifier in sorted(store.records):
        record = store.records[identifier]
        origin = record.provenance
        made: dict[str, Any] = {
            "device": origin.device or "",
            "processor": origin.processor or "",
            "torch": origin.torch or "",
            "date": origin.finished or "",
            "commit": origin.commit or "",
            "dirty": origin.dirty,
            "code": origin.code or "",
        }
        yield RunLine(identifier, record.kind, **made | _measured(record, store))


def _measured(record: Record, store: Store) -> dict[str, Any]:
    """What this kind of record says, by column."""
    match record:
        case ScoredRecord():
            return _scored(record)
        case CostRecord():
            counted = {"params": record.params, "gmacs": record.gmacs, "gmacs_fvcore": record.gmacs_fvcore}
            return {**_cost(record.config), **counted}
        case SpeedRecord():
            on = record.config.platform
            where = {"device": on.device, "processor": on.processor, "threads": on.threads, "torch": on.torch}
            where |= {"precision": on.precision}
            taken = {"latency_seconds": record.latency, "memory_bytes": record.memory}
            return {**_cost(record.config), **where, **taken}
        case ServerRecord():
            run = store.scored(record.config.run)
            of = _scored(run) if run is not None else {}
            shared = ("protocol", "dataset", "test_split", "model", "size", "switches")
            named = {key: of[key] for key in shared if key in of}
            return {**named, record.config.metric: record.value, "upstream": record.config.run}
        case ShortcutRecord():
            return {"dataset": f"diagnostic/{record.config.task}"}
    return {}


def _cost(config: CostConfig) -> dict[str, Any]:
    """The model and the image that a cost or a speed is of."""
    size = {"classes": config.classes, "input_height": config.height, "input_width": config.width}
    return {**_model(config.model), **size}


def _scored(record: ScoredRecord) -> dict[str, Any]:
    """A run, or a test of finished weights."""
    origin, config, metrics = record.provenance, record.config, record.metrics
    crop = config.data.crop or (None, None)
    found: dict[str, Any] = {
        **_model(config.model),
        "dataset": config.data.dataset,
        "train_split": config.data.train_split,
        "test_split": config.data.test_split,
        "classes": config.data.classes or None,
        "input_height": crop[0],
        "input_width": crop[1],
        "process_seconds": origin.process_seconds,
        "gpu_seconds": origin.gpu_seconds,
        "processes": origin.processes,
        "threads": origin.threads,
        "precision": origin.precision,
        "compiled": str(origin.compiled or ""),
        "test_fingerprint": (origin.data.test_fingerprint if origin.data else None) or "",
        **{name: getattr(metrics, name) for name in _METRICS},
    }
    match record:
        case RunRecord():
            train = record.config.train
            found |= {
                "protocol": record.config.protocol,
                "seed": record.config.seed,
                "learning_rate": train.learning_rate,
                "iterations": train.iterations,
                "batch": train.batch * train.accumulate,
                "upstream": record.config.init or "",
                "trained_params": record.trained.params,
                "trained_gmacs": record.trained.gmacs,
                "seconds": record.training.seconds,
                "process_seconds": record.process_seconds,
            }
        case EvaluationRecord():
            weights = record.config.weights
            found |= {
                "ham_seed": record.config.ham_seed,
                "train_split": "",
                "upstream": weights.name if isinstance(weights, File) else weights,
            }
    return found


_METRICS = [name for name in Metrics.__struct_fields__ if name in RunLine.__struct_fields__]


def _model(model: Plain) -> Mapping[str, str]:
    """The encoder, the size, and in words what differs from SegNeXt of this size."""
    return _described(msgspec.json.encode(model))


@lru_cache(1024)
def _described(content: bytes) -> Mapping[str, str]:
    """The same of a model as JSON: thousands of runs share one."""
    model: Plain = msgspec.json.decode(content)
    return {"model": model.get("encoder", "mscan"), "size": model.get("size", ""), "switches": switches(model)}


def switches(model: Plain) -> str:
    """In words, what a model has otherwise than SegNeXt of its size and encoder: `no attention, decoder a`."""
    encoder, size = model.get("encoder", "mscan"), model.get("size", "")
    if encoder not in ENCODERS or size not in SIZES:  # of code that is gone
        return ""
    usual = _usual(encoder, size)
    names = [name for name in sorted({*usual, *model} - {"encoder", "size"}) if model.get(name) != usual.get(name)]
    if model.get("stages") == list(DECODER_STAGES.get(model.get("decoder", ""), ())):
        names = [name for name in names if name != "stages"]
    return ", ".join(_words(name, model[name] if name in model else _default(name)) for name in names)


@cache
def _usual(encoder: str, size: str) -> Plain:
    plain: Plain = canonical(Model(size, encoder=encoder))
    return plain


def _default(name: str) -> Any:
    """What a model has whose record leaves this field out: what every one had when the field came."""
    return Model.__dataclass_fields__[name].metadata.get("frozen")


def _words(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if value is False or value == []:
        return f"no {words}"
    if value is True:
        return words
    return f"{words} {' '.join(map(str, value)) if isinstance(value, list) else value}"
