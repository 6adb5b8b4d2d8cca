"""What records hold, by kind, so that one that is read is known to be whole before anything is made of it.

results/README.md is their description. A record is read once into the value of its kind; fields that are not named here
stay in its `plain` data. Older records know less: what they may lack has a default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
"""A record as JSON has it: what is written, and what the id is a digest of."""


@dataclass(frozen=True)
class SplitRead:
    """A split that was read: what it is called, and what is known of its images."""

    dataset: str
    split: str
    images: int | None
    fingerprint: str | None
    contents: str | None


class DataRead(Struct, frozen=True, kw_only=True):
    """The data that a run read: how many images of each split, and their fingerprints."""

    train_images: Natural | None = None
    train_fingerprint: str | None = None
    train_contents: str | None = None
    test_images: Natural | None = None
    test_fingerprint: str | None = None
    test_contents: str | None = None

    def splits(self, data: DataConfig) -> tuple[SplitRead, SplitRead]:
        """The two splits of the data that were to be read: of training and of the test."""
        train = (self.train_images, self.train_fingerprint, self.train_contents)
        test = (self.test_images, self.test_fingerprint, self.test_contents)
        return SplitRead(data.dataset, data.train_split, *train), SplitRead(data.dataset, data.test_split, *test)


class Origin(Struct, frozen=True, kw_only=True):
    """Where a record comes from."""

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
        """Its version, with the build; None where the record does not say."""
        return self.packages.get("torch")


class File(Struct, frozen=True, kw_only=True):
    """A file of weights, by what it holds."""

    name: str
    sha256: str


class Metrics(Struct, frozen=True, kw_only=True):
    """What a test measured, in percent; None where that is not defined, or was not measured."""

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
        """The number that a run is told by: its mIoU, or its Top-1."""
        return self.top1 if self.miou_ss is None else self.miou_ss

    def value(self, metric: str) -> Percent | None:
        """One of the numbers, by the name that tables have for it."""
        found = getattr(self, metric)
        return None if found is None else float(found)

    def by_class(self, metric: str) -> list[Percent | None]:
        """One of the lists, a number a class; empty where that was not measured."""
        return list(getattr(self, metric))


class Cue(Struct, frozen=True, kw_only=True):
    """Pixels, and those predicted right, by whole distance to the cue that decides them."""

    pixels: Counts
    right: Counts


class Trained(Struct, frozen=True, kw_only=True):
    """The model that was really trained, at the size that it was trained at."""

    params: Natural
    gmacs: Seconds
    gmacs_fvcore: Seconds | None = None
    height: Natural | None = None
    width: Natural | None = None


class Training(Struct, frozen=True, kw_only=True):
    """How long it was and how it went."""

    iterations: Natural | None = None
    seconds: Seconds | None = None
    images_per_second: Seconds | None = None
    final_loss: float | None = None


class DataConfig(Struct, frozen=True, kw_only=True):
    """What of a data set's configuration is looked at: splits are empty where it is a folder of its own kind."""

    dataset: str
    train_split: str = ""
    test_split: str = ""
    crop: Any = None
    classes: Natural = 0


class TrainConfig(Struct, frozen=True, kw_only=True):
    """What of a recipe is looked at."""

    iterations: Natural
    batch: Natural
    accumulate: Natural = 1


class RunConfig(Struct, frozen=True, kw_only=True):
    """What of a run's canonical configuration is looked at; it is compared as a whole in the plain data."""

    protocol: str
    seed: Natural
    model: Plain
    data: DataConfig
    train: TrainConfig
    init: str | None

    @property
    def trained_as(self) -> str:
        """The encoder and the size of the model, in words."""
        return f"{self.model.get('encoder', 'mscan')} {self.model['size']}"


class EvaluationConfig(Struct, frozen=True, kw_only=True):
    """Of a test of finished weights."""

    weights: str | File
    ham_seed: Natural
    model: Plain
    data: DataConfig


class CostConfig(Struct, frozen=True, kw_only=True):
    """Of parameters and FLOPs."""

    model: Plain


class SpeedConfig(Struct, frozen=True, kw_only=True):
    """Of a speed: its platform is a column of tables."""

    platform: Platform


class ServerConfig(Struct, frozen=True, kw_only=True):
    """Of a test server's score: the run it is of, and who said so."""

    run: str
    metric: str
    source: str = ""


class ShortcutConfig(Struct, frozen=True, kw_only=True):
    """Of shortcut probes: the sub-task, the sides of the patches and the reaches within which marks are counted."""

    task: str
    sides: list[Natural] = []
    reaches: list[Natural] = []


class Record(Struct, frozen=True, kw_only=True):
    """What every record has. By its attributes it is typed; subscripted, it gives the plain data."""

    id: str
    kind: str
    provenance: Origin
    plain: Plain = {}

    def __getitem__(self, name: str) -> Any:
        return self.plain[name]

    def __contains__(self, name: str) -> bool:
        return name in self.plain

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def keys(self) -> Any:
        """The names of the plain data, so that `{**record}` is a copy of it."""
        return self.plain.keys()

    def get(self, name: str, default: Any = None) -> Any:
        """One of the plain data, or the default."""
        return self.plain.get(name, default)


class ScoredRecord(Record, frozen=True, kw_only=True):
    """What every record of a test has."""

    config: RunConfig | EvaluationConfig
    metrics: Metrics
    classes: list[str]
    confusion: list[Counts] = []
    confusion_ms: list[Counts] = []
    cue: Cue | None = None
    weights: File | None = None
    predictions: File | None = None  # the archive for a test server

    def splits_read(self) -> tuple[SplitRead, ...]:
        """The splits that were read, as far as it says."""
        read = self.provenance.data
        return () if read is None else read.splits(self.config.data)


class RunRecord(ScoredRecord, frozen=True, kw_only=True):
    """A training and its test."""

    config: RunConfig
    trained: Trained
    training: Training

    @property
    def process_seconds(self) -> float:
        """What all attempts took, over all processes; of an older record, what training alone took."""
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
    """What a test server said."""

    config: ServerConfig
    value: Percent


class ShortcutRecord(Record, frozen=True, kw_only=True):
    """What a colour, a place or a count alone would score."""

    config: ShortcutConfig
    chance: Percent
    within: list[Percent | None]
    beyond: list[Percent | None]
    counted: list[Percent | None] = []


class Pictures(Struct, frozen=True, kw_only=True):
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


KINDS: Mapping[str, type[Record]] = {
    "run": RunRecord,
    "cost": CostRecord,
    "speed": SpeedRecord,
    "evaluation": EvaluationRecord,
    "server": ServerRecord,
    "shortcut": ShortcutRecord,
}


def typed(plain: Plain) -> Record:
    """The value that a record's plain data are. `ValueError` names the first part that is missing or wrong."""
    kind = KINDS.get(str(plain.get("kind")))
    if kind is None:
        raise ValueError(f"its kind is none of {', '.join(KINDS)}")
    record = msgspec.convert({**plain, "plain": plain}, kind)
    msgspec.structs.force_setattr(record, "plain", plain)  # the very data, of which `convert` makes a copy
    if isinstance(record, ScoredRecord):
        for name in Metrics.__struct_fields__:
            values = getattr(record.metrics, name)
            if isinstance(values, list) and values and len(values) != len(record.classes):
                raise ValueError(f"metrics.{name} has {len(values)} values for {len(record.classes)} classes")
    return record
