"""What records hold, by kind, so that one that is read is known to be whole before anything is made of it.

They stay plain data: results/README.md is their description, and fields that are not named here are theirs to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from studies.records.typed import Natural

Record = dict[str, Any]

Percent = Annotated[float, Meta(ge=0, le=100)]
Seconds = Annotated[float, Meta(ge=0)]
Counts = Annotated[str, Meta(pattern=r"^\d+( \d+)*\Z")]
Stamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]


class Origin(TypedDict, total=False):
    """Where a record comes from. Older ones know less."""

    commit: str | None
    dirty: bool
    diff: str | None
    code: str
    command: str
    python: str
    packages: dict[str, str]
    processor: str
    driver: str | None
    device: str
    processes: Natural
    threads: Natural
    precision: str
    compiled: bool | str
    started: Stamp
    finished: Stamp
    attempts: Natural
    process_seconds: Seconds
    gpu_seconds: Seconds
    supersedes: str
    initial: dict[str, str] | None
    data: dict[str, Natural | str | None]


class File(TypedDict):
    """A file of weights, by what it holds."""

    name: str
    sha256: str


class Metrics(TypedDict, total=False):
    """What a test measured, in percent; None where that is not defined."""

    miou_ss: Percent | None
    miou_ms: Percent | None
    top1: Percent | None
    pixel_accuracy: Percent | None
    mean_accuracy: Percent | None
    boundary_miou: Percent | None
    iou: list[Percent | None]
    iou_ms: list[Percent | None]
    accuracy: list[Percent | None]
    boundary_iou: list[Percent | None]


class Cue(TypedDict):
    """Pixels, and those predicted right, by whole distance to the cue that decides them."""

    pixels: Counts
    right: Counts


class Tested(TypedDict):
    """What every record of a test has."""

    metrics: Metrics
    classes: list[str]
    confusion: NotRequired[list[Counts]]
    confusion_ms: NotRequired[list[Counts]]
    cue: NotRequired[Cue]
    weights: NotRequired[File]
    provenance: Origin


class Trained(TypedDict):
    """The model that was really trained, at the size that it was trained at."""

    params: Natural
    gmacs: Seconds
    gmacs_fvcore: NotRequired[Seconds]
    height: NotRequired[Natural]
    width: NotRequired[Natural]


class Training(TypedDict, total=False):
    """How long it was and how it went."""

    iterations: Natural
    seconds: Seconds
    images_per_second: Seconds
    final_loss: float


class RunConfig(TypedDict):
    """What of a run's canonical configuration is looked at before it is compared as a whole."""

    protocol: str
    seed: Natural
    model: dict[str, Any]
    data: dict[str, Any]
    train: dict[str, Any]
    init: str | None


class RunRecord(Tested):
    """A training and its test."""

    config: RunConfig
    trained: Trained
    training: Training


class EvaluationConfig(TypedDict):
    """Of a test of finished weights."""

    weights: str | File
    ham_seed: Natural
    model: dict[str, Any]
    data: dict[str, Any]


class EvaluationRecord(Tested):
    """A test of finished weights."""

    config: EvaluationConfig
    stands_for: NotRequired[str]


class CostRecord(TypedDict):
    """Parameters and FLOPs."""

    config: dict[str, Any]
    params: Natural
    gmacs: Seconds
    gmacs_fvcore: Seconds
    provenance: Origin


class SpeedConfig(TypedDict):
    """Of a speed: its platform is a column of tables."""

    platform: dict[str, Any]


class SpeedRecord(TypedDict):
    """Latency and memory."""

    config: SpeedConfig
    latency: Seconds | None
    memory: Natural | None
    predicted_memory: Natural
    reason: str
    provenance: Origin


class ServerRecord(TypedDict):
    """What a test server said."""

    config: dict[str, str]
    value: Percent
    provenance: Origin


class ShortcutRecord(TypedDict):
    """What a colour, a place or a count alone would score."""

    config: dict[str, Any]
    chance: Percent
    within: list[Percent | None]
    beyond: list[Percent | None]
    provenance: Origin


class Pictures(TypedDict):
    """results/cam/RUN.json: what belongs to the arrays in RUN.npz."""

    run: str
    weights: str
    dataset: str
    split: str
    images: list[str]
    target: str
    version: Natural
    stage: Natural
    classes: list[str]
    shares: list[Annotated[str, Meta(pattern=r"^\S+ (-|[0-9.e-]+) [0-9.e-]+\Z")]]  # image, heat inside, area
    errors: list[float]
    field_side: Natural
    reach: dict[str, Natural]


KINDS: Mapping[str, Any] = {
    "run": RunRecord,
    "cost": CostRecord,
    "speed": SpeedRecord,
    "evaluation": EvaluationRecord,
    "server": ServerRecord,
    "shortcut": ShortcutRecord,
}


def check(record: Record) -> None:
    """Whether this is a whole record of its kind. `ValueError` names the first part that is missing or wrong."""
    if record.get("kind") not in KINDS:
        raise ValueError(f"its kind is none of {', '.join(KINDS)}")
    msgspec.convert(record, KINDS[record["kind"]])
    classes = record.get("classes", [])
    for name, values in record.get("metrics", {}).items():
        if isinstance(values, list) and len(values) != len(classes):
            raise ValueError(f"metrics.{name} has {len(values)} values for {len(classes)} classes")
