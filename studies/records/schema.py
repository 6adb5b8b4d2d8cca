"""The fields of records by kind, so that a record is checked completely before it is used.

results/README.md describes them. A record is read once into the value of its kind; fields that are not named here stay
in its `plain` data. Fields that older records lack have a default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from segnext.config import Platform
from studies.records.typed import Natural

Percent = Annotated[float, Meta(ge=0, le=100)]
Seconds = Annotated[float, Meta(ge=0)]
Counts = Annotated[str, Meta(pattern=r"^\d+( \d+)*\Z")]
Stamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]

Plain = dict[str, Any]
"""A record as JSON data: what is written to disk, and what its id is a digest of."""


@dataclass(frozen=True)
class SplitRead:
    """A split that was read: its name and what is known about its images."""

    dataset: str
    split: str
    images: int | None
    fingerprint: str | None
    contents: str | None


class DataRead(Struct, frozen=True, kw_only=True):
    """The data that a run read: the number of images in each split, and their fingerprints."""

    train_images: Natural | None = None
    train_fingerprint: str | None = None
    train_contents: str | None = None
    test_images: Natural | None = None
    test_fingerprint: str | None = None
    test_contents: str | None = None

    def splits(self, data: DataConfig) -> tuple[SplitRead, SplitRead]:
        """The two splits in a configuration, for training and for the test, with what was read of them."""
        train = (self.train_images, self.train_fingerprint, self.train_contents)
        test = (self.test_images, self.test_fingerprint, self.test_contents)
        return SplitRead(data.dataset, data.train_split, *train), SplitRead(data.dataset, data.test_split, *test)


class Origin(Struct, frozen=True, kw_only=True):
    """The provenance of a record."""

    commit: str | None = None
    dirty: bool = False
    diff: str | None = None
    code: str | None = None
    command: str = ""
    python: str | None = None
    packages: dict[str, str] = {}
    processor: str | None = None
    driver: str | None = None
    device: str | None = None
    processes: Natural = 1
    threads: Natural | None = None
    precision: str = "float32"
    compiled: bool | str = ""
    started: Stamp | None = None
    finished: Stamp | None = None
    attempts: Natural = 1
    process_seconds: Seconds | None = None
    gpu_seconds: Seconds = 0.0
    runs_per_gpu: Natural = 1  # that shared its card
    supersedes: str | None = None
    initial: dict[str, str] | None = None
    data: DataRead | None = None

    @property
    def torch(self) -> str | None:
        """The version of torch, with the build; None if the record does not name it."""
        return self.packages.get("torch")


class File(Struct, frozen=True, kw_only=True):
    """A file, identified by its content."""

    name: str
    sha256: str


class Metrics(Struct, frozen=True, kw_only=True):
    """The metrics of a test, in percent; None if a metric is undefined or was not measured."""

    miou_ss: Percent | None = None
    miou_ms: Percent | None = None
    top1: Percent | None = None
    fps: float | None = None
    pixel_accuracy: Percent | None = None
    mean_accuracy: Percent | None = None
    boundary_miou: Percent | None = None
    iou: list[Percent | None] = []
    iou_ms: list[Percent | None] = []
    accuracy: list[Percent | None] = []
    boundary_iou: list[Percent | None] = []

    @property
    def main(self) -> Percent | None:
        """The run's main metric: its mIoU, or its Top-1."""
        return self.top1 if self.miou_ss is None else self.miou_ss

    def value(self, metric: str) -> Percent | None:
        """A metric by its name in tables."""
        found = getattr(self, metric)
        return None if found is None else float(found)

    def by_class(self, metric: str) -> list[Percent | None]:
        """A metric per class; empty if it was not measured."""
        return list(getattr(self, metric))


class Cue(Struct, frozen=True, kw_only=True):
    """Counts of pixels, and of those predicted correctly, by distance in pixels to the deciding cue."""

    pixels: Counts
    right: Counts


class Trained(Struct, frozen=True, kw_only=True):
    """The cost of the model that was actually trained, at its training size."""

    params: Natural
    gmacs: Seconds
    gmacs_fvcore: Seconds | None = None
    height: Natural | None = None
    width: Natural | None = None


class Training(Struct, frozen=True, kw_only=True):
    """Length, duration and final loss of a training."""

    iterations: Natural | None = None
    seconds: Seconds | None = None
    images_per_second: Seconds | None = None
    final_loss: float | None = None


class DataConfig(Struct, frozen=True, kw_only=True):
    """The fields of a dataset's configuration that are used."""

    dataset: str
    train_split: str = ""
    test_split: str = ""
    crop: Any = None
    classes: Natural = 0


class TrainConfig(Struct, frozen=True, kw_only=True):
    """The fields of a recipe that are used."""

    iterations: Natural
    batch: Natural
    accumulate: Natural = 1
    learning_rate: float | None = None


class RunConfig(Struct, frozen=True, kw_only=True):
    """The fields of a run's configuration that are used; comparisons use the whole configuration in the plain data."""

    protocol: str
    seed: Natural
    model: Plain
    data: DataConfig
    train: TrainConfig
    init: str | None

    @property
    def trained_as(self) -> str:
        """The encoder and the size of the model as text."""
        return f"{self.model.get('encoder', 'mscan')} {self.model['size']}"


class EvaluationConfig(Struct, frozen=True, kw_only=True):
    """The configuration of a test of finished weights."""

    weights: str | File
    ham_seed: Natural
    model: Plain
    data: DataConfig


class CostConfig(Struct, frozen=True, kw_only=True):
    """Of parameters and FLOPs: the model, its classes, and the image."""

    model: Plain
    classes: Natural | None = None
    height: Natural | None = None
    width: Natural | None = None


class SpeedConfig(CostConfig, frozen=True, kw_only=True):
    """Of a speed, the same on a platform."""

    platform: Platform


class ServerConfig(Struct, frozen=True, kw_only=True):
    """The configuration of a test server's score: the run, the metric and the source."""

    run: str
    metric: str
    source: str = ""


class ShortcutConfig(Struct, frozen=True, kw_only=True):
    """The configuration of shortcut probes: the sub-task, the sides of patches, and the reaches for counting marks."""

    task: str
    sides: list[Natural] = []
    reaches: list[Natural] = []


class Record(Struct, frozen=True, kw_only=True, dict=True):
    """What every record has. Attributes are typed; subscripts give the plain data."""

    id: str
    kind: str
    provenance: Origin

    @cached_property
    def plain(self) -> Plain:
        """The whole record; of one that the index knew, it is read when it is asked for. Raises `Damaged`."""
        again: Callable[[], Plain] = vars(self)["again"]
        return again()

    @property
    def configured(self) -> str:
        """The whole digest of its configuration, whose beginning its id ends with."""
        return str(vars(self)["configured"])

    def __getitem__(self, name: str) -> Any:
        return self.plain[name]

    def __contains__(self, name: str) -> bool:
        return name in self.plain

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def keys(self) -> Any:
        """The names of the plain data, so that `{**record}` copies it."""
        return self.plain.keys()

    def get(self, name: str, default: Any = None) -> Any:
        """A value of the plain data, or the default."""
        return self.plain.get(name, default)


class ScoredRecord(Record, frozen=True, kw_only=True):
    """What every record with a test has."""

    config: RunConfig | EvaluationConfig
    metrics: Metrics
    classes: list[str]
    cue: Cue | None = None
    weights: File | None = None
    predictions: File | None = None  # the archive for a test server

    def splits_read(self) -> tuple[SplitRead, ...]:
        """The splits that were read, as far as the record names them."""
        read = self.provenance.data
        return () if read is None else read.splits(self.config.data)


class Matrices(Struct, frozen=True, kw_only=True):
    """What a scored record also has, in its plain data alone: most of its bytes, which few ask for."""

    confusion: list[Counts] = []
    confusion_ms: list[Counts] = []


class RunRecord(ScoredRecord, frozen=True, kw_only=True):
    """A training and its test."""

    config: RunConfig
    trained: Trained
    training: Training

    @property
    def process_seconds(self) -> float:
        """Seconds of all attempts, summed over processes; in older records only those of training."""
        said = self.provenance.process_seconds
        return (self.training.seconds or 0.0) if said is None else said


class EvaluationRecord(ScoredRecord, frozen=True, kw_only=True):
    """A test of finished weights."""

    config: EvaluationConfig
    stands_for: str | None = None


class CostRecord(Record, frozen=True, kw_only=True):
    """Parameters and FLOPs."""

    config: CostConfig
    params: Natural
    gmacs: Seconds
    gmacs_fvcore: Seconds


class SpeedRecord(Record, frozen=True, kw_only=True):
    """Latency and memory."""

    config: SpeedConfig
    latency: Seconds | None
    lower_quartile: Seconds | None = None
    upper_quartile: Seconds | None = None
    passes: Natural = 0
    memory: Natural | None
    predicted_memory: Natural
    reason: str


class ServerRecord(Record, frozen=True, kw_only=True):
    """The score that a test server returned."""

    config: ServerConfig
    value: Percent


class ShortcutRecord(Record, frozen=True, kw_only=True):
    """The accuracy of shortcuts on generated data: patches of pixels, and counts of marks."""

    config: ShortcutConfig
    chance: Percent
    within: list[Percent | None]
    beyond: list[Percent | None]
    counted: list[Percent | None] = []


class Pictures(Struct, frozen=True, kw_only=True):
    """results/cam/RUN.json, which describes the arrays in RUN.npz."""

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


KINDS: Mapping[str, type[Record]] = {
    "run": RunRecord,
    "cost": CostRecord,
    "speed": SpeedRecord,
    "evaluation": EvaluationRecord,
    "server": ServerRecord,
    "shortcut": ShortcutRecord,
}


def typed(plain: Plain) -> Record:
    """A record's plain data as a value. Raises `ValueError`, naming the first field that is missing or wrong."""
    kind = KINDS.get(str(plain.get("kind")))
    if kind is None:
        raise ValueError(f"its kind is none of {', '.join(KINDS)}")
    record = msgspec.convert(plain, kind)
    vars(record)["plain"] = plain
    if isinstance(record, ScoredRecord):
        msgspec.convert(plain, Matrices)
        for name in Metrics.__struct_fields__:
            values = getattr(record.metrics, name)
            if isinstance(values, list) and values and len(values) != len(record.classes):
                raise ValueError(f"metrics.{name} has {len(values)} values for {len(record.classes)} classes")
    return record
