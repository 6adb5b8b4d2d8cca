"""What a run is, as frozen values: `Model`, `Data`, `Train`, `Run`; `Cost`, `Speed`: measurements alone; their ids.

This module imports no torch, so that declaring, planning and reporting stay instant. Every default carries its source:
`Paper:` the paper, `Official code:` the release at c87bcae, `Ours:` a choice of this project.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Size:
    """One column of Table 2, and what the released code adds to it."""

    channels: tuple[int, int, int, int]  # Paper: Table 2, C of the four stages
    depths: tuple[int, int, int, int]  # Paper: Table 2, L
    expansion_ratios: tuple[int, int, int, int]  # Paper: Table 2, e.r.
    decoder_channels: int  # Paper: Table 2, "decoder dimension"
    nmf_rank: int  # Official code: MD_R in local_configs/segnext (B and L: the default of ham_head.py:19)
    drop_path: float  # Official code: local_configs/segnext; the paper is silent


SIZES: dict[str, Size] = {
    "T": Size((32, 64, 160, 256), (3, 3, 5, 2), (8, 8, 4, 4), 256, 16, 0.1),
    "S": Size((64, 128, 320, 512), (2, 2, 4, 2), (8, 8, 4, 4), 256, 16, 0.1),
    "B": Size((64, 128, 320, 512), (3, 3, 12, 3), (8, 8, 4, 4), 512, 64, 0.1),
    "L": Size((64, 128, 320, 512), (3, 5, 27, 3), (8, 8, 4, 4), 1024, 64, 0.3),
    # Ours: the stand-in that `--protocol quick` trains, small enough for minutes on one CPU core.
    "micro": Size((16, 32, 48, 64), (1, 1, 2, 1), (4, 4, 4, 4), 64, 16, 0.0),
    # Ours: one block at stride 4 and nothing after it, so that how far it sees can be counted; with `stages=(1,)`.
    "microscope": Size((24, 8, 8, 8), (1, 0, 0, 0), (2, 2, 2, 2), 32, 16, 0.0),
    # Ours: the same with as many parameters without the two long branches as `microscope` has with them.
    "microscope-wide": Size((26, 8, 8, 8), (1, 0, 0, 0), (2, 2, 2, 2), 32, 16, 0.0),
}

# What an encoder with widths of its own puts in the size's place. The light Ham decoder on top keeps the size's.
_PVT: dict[str, Any] = {"expansion_ratios": (4, 4, 4, 4), "nmf_rank": 0, "drop_path": 0.1}  # SegFormer: no NMF at all
ENCODERS: dict[str, dict[str, Any]] = {
    "mscan": {},  # Paper: Sec. 3.1
    "van": {},  # VAN-B0 to B3: the same channels, depths and ratios as MSCAN-T to L (VAN, Table 2)
    # torchvision: convnext_tiny(), convnext_small()
    "convnext_tiny": {
        "channels": (96, 192, 384, 768),
        "depths": (3, 3, 9, 3),
        "expansion_ratios": (4, 4, 4, 4),
        "drop_path": 0.1,
    },
    "convnext_small": {
        "channels": (96, 192, 384, 768),
        "depths": (3, 3, 27, 3),
        "expansion_ratios": (4, 4, 4, 4),
        "drop_path": 0.4,
    },
    # SegFormer with its own decoder: its paper's Table 6, and its code where that prints other ratios
    "segformer_b0": {"channels": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "decoder_channels": 256, **_PVT},
    "segformer_b1": {"channels": (64, 128, 320, 512), "depths": (2, 2, 2, 2), "decoder_channels": 256, **_PVT},
    "segformer_b2": {"channels": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "decoder_channels": 768, **_PVT},
    "segformer_b3": {"channels": (64, 128, 320, 512), "depths": (3, 4, 18, 3), "decoder_channels": 768, **_PVT},
}

CHOICES: dict[str, tuple[str, ...]] = {
    "encoder": tuple(ENCODERS),
    "mixer": ("msca", "lka"),
    "context": ("ham", "nl", "cc", "ema", "msca", "none"),
    "encoder_norm": ("bn", "ln"),
    "head_norm": ("gn", "bn"),
    "nmf_gradient": ("full", "one-step"),
}

TASKS = ("segmentation", "classification")

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""What a GPU multiplies in: float32 proper; TF32 in convolutions and matrix products; or autocast to half precision."""

COMPILERS = ("", "inductor", "graphs", "inductor+graphs")
"""How a training step reaches the device: operator by operator, through torch.compile, as a CUDA graph, or both."""

DEVICES = ("cpu", "cuda")  # where speeds are measured

DECODER_STAGES = {"a": (1, 2, 3, 4), "b": (4,), "c": (2, 3, 4)}  # Paper: Fig. 3


def _later(default: Any, *, frozen: Any) -> Any:
    """A field that was added after results existed: absent from an id while it equals `frozen`.

    `frozen` is what every run before the field did. It is never edited, also when the default changes.
    """
    return dataclasses.field(default=default, metadata={"frozen": frozen})


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_precision(kind: str, value: str) -> None:
    _require(value in PRECISIONS, f"{kind}.precision: {value!r} is not one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class Model:
    """An architecture as one value: SegNeXt of Sec. 3 and every variant that a table trains.

    Raises `ValueError`, naming the field, for a value that no variant has.
    """

    size: str = "T"
    branches: tuple[int, ...] = (7, 11, 21)  # Paper: Sec. 3.1, the strip kernels; Table 6 drops them one by one
    channel_mixing: bool = True  # Paper: Eq. 1, the 1x1 convolution; Table 6
    attention: bool = True  # Paper: Eq. 2, the element-wise product; Table 6
    decoder: str = "c"  # Paper: Fig. 3 (a), (b), (c); Table 7
    stages: tuple[int, ...] | None = None  # encoder stages that decoder (c) reads; None: those of Fig. 3
    nmf_rank: int | None = None  # None: the size's own
    drop_path: float | None = None  # None: the size's own
    encoder: str = _later(
        "mscan", frozen="mscan"
    )  # Paper: Sec. 3.1; "van": what Table 8's digits say; others: Table 9, Fig. 1
    mixer: str = _later(
        "msca", frozen="msca"
    )  # Paper: Sec. 3.1; "lka": VAN's large-kernel attention in its place, Table 8
    context: str = _later(
        "ham", frozen="ham"
    )  # Paper: Sec. 3.2; Table 5 (cc, ema, nl), appendix Table 2 (msca), or none
    encoder_norm: str = _later(
        "bn", frozen="bn"
    )  # Paper: Sec. 3.1, "we use batch normalization instead of layer normalization"
    head_norm: str = _later("gn", frozen="gn")  # Official code: GN with 32 groups; the paper names BN alone
    nmf_gradient: str = _later("full", frozen="full")  # Official code: PyTorch; JSeg and HamNet: "one-step"

    def __post_init__(self) -> None:
        _require(self.size in SIZES, f"Model.size: {self.size!r} is not one of {', '.join(SIZES)}")
        _require(self.decoder in DECODER_STAGES, f"Model.decoder: {self.decoder!r} is not one of a, b, c (Fig. 3)")
        for kernel in self.branches:
            _require(kernel > 0 and kernel % 2 == 1, f"Model.branches: {kernel} is not an odd kernel size")
        default = DECODER_STAGES[self.decoder]
        stages = self.decoder_stages
        ascending = len(stages) > 0 and tuple(sorted(set(stages))) == stages and set(stages) <= {1, 2, 3, 4}
        _require(ascending, f"Model.stages: {stages} is not an ascending choice of 1, 2, 3, 4")
        _require(
            self.decoder == "c" or stages == default,
            f"Model.stages: decoder ({self.decoder}) reads stages {default}; only (c) can read {stages}",
        )
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            _require(value in choices, f"Model.{name}: {value!r} is not one of {', '.join(choices)}")
        # One architecture is one value: what equals the size's, the encoder's or the decoder's own is stored so,
        size = self._own
        object.__setattr__(self, "branches", tuple(self.branches))
        object.__setattr__(self, "stages", None if stages == default else stages)
        for name in ("nmf_rank", "drop_path"):
            if getattr(self, name) == getattr(size, name):
                object.__setattr__(self, name, None)
        if self.encoder == "van":
            object.__setattr__(self, "mixer", "lka")
        # and what the architecture does not read is refused.
        for name, reason in self._unread():
            value, field = getattr(self, name), type(self).__dataclass_fields__[name]
            _require(
                value == field.default,
                f"Model.{name}: {value!r} has no effect, because {reason}; leave it at {field.default!r}",
            )

    @property
    def _own(self) -> Size:
        return dataclasses.replace(SIZES[self.size], **ENCODERS[self.encoder])

    def _unread(self) -> Iterator[tuple[str, str]]:
        """The fields that this architecture has no place for, and why."""
        if self.encoder not in ("mscan", "van"):
            for name in ("branches", "channel_mixing", "attention", "mixer", "encoder_norm"):
                yield name, f"encoder {self.encoder} has none of MSCAN's blocks"
        elif self.mixer == "lka":
            for name in ("branches", "channel_mixing", "attention"):
                yield name, "Table 6 switches parts of MSCA and the mixer is LKA"
        if self.encoder.startswith("segformer"):
            for name in ("size", "decoder", "stages", "nmf_rank", "context", "head_norm", "nmf_gradient"):
                yield name, f"{self.encoder} has widths and a decoder of its own"
        elif self.decoder == "a":
            for name in ("nmf_rank", "context", "head_norm", "nmf_gradient"):
                yield name, "decoder (a) is SegFormer's, as released with BN, and has no context module"
        elif self.context != "ham":
            for name in ("nmf_rank", "nmf_gradient"):
                yield name, f"context {self.context} factorises nothing"

    @property
    def decoder_stages(self) -> tuple[int, ...]:
        """The encoder stages that the decoder reads, 1 the first."""
        return DECODER_STAGES[self.decoder] if self.stages is None else tuple(self.stages)

    @property
    def encoder_alone(self) -> Model:
        """What is pretrained for this model: its encoder, with the decoder that nobody reads at its default."""
        default = Model(self.size)
        names = ("decoder", "stages", "nmf_rank", "context", "head_norm", "nmf_gradient")
        return dataclasses.replace(self, **{name: getattr(default, name) for name in names})

    @property
    def widths(self) -> Size:
        """The size with the encoder's own widths and this model's own rank and drop path filled in."""
        own = {k: getattr(self, k) for k in ("nmf_rank", "drop_path") if getattr(self, k) is not None}
        return dataclasses.replace(self._own, **own)


@dataclass(frozen=True)
class Data:
    """A dataset and how its images reach the model. Sizes are (height, width) in pixels, but for `scale`."""

    dataset: str
    classes: int
    scale: tuple[int, int]  # (long edge, short edge) that an image is fitted into, keeping its ratio, before `ratio`
    crop: tuple[int, int]
    train_split: str = "train"
    test_split: str = "val"
    ratio: tuple[float, float] = (0.5, 2.0)  # Paper: Sec. 4, "random scaling (from 0.5 to 2)"
    cat_max_ratio: float = 0.75  # Official code: RandomCrop(cat_max_ratio=0.75)
    flip: float = 0.5  # Paper: Sec. 4, random horizontal flipping
    photometric: bool = True  # Official code: PhotoMetricDistortion in every pipeline; not in the paper
    test_scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # Official code: MS, each also flipped
    test_multiple: int = 32  # Official code: ResizeToMultiple(32) in the test pipeline
    generator: str = ""  # version of the generator, for generated datasets
    window: tuple[int, int] | None = _later(None, frozen=None)  # tested in windows of this size; None: whole images
    stride: tuple[int, int] | None = _later(None, frozen=None)  # from one window to the next

    def __post_init__(self) -> None:
        _require(
            (self.window is None) == (self.stride is None),
            f"Data.stride: {self.stride} with Data.window {self.window}; windows need both, whole images neither",
        )
        _require(
            all(0 < step <= side for side, step in zip(self.window or (), self.stride or (), strict=True)),
            f"Data.stride: {self.stride} with windows of {self.window}; it must lie between 1 and the window",
        )


@dataclass(frozen=True)
class ClassificationData:
    """A dataset of images with one class each, and how they reach the model: ImageNet-1K as VAN's code has it.

    The authors pretrained as VAN (issue 33), the paper says "same as DeiT"; where the two differ (datasets.md, 3.1) the
    defaults are VAN's. Sizes are in pixels.
    """

    dataset: str = "imagenet1k"
    classes: int = 1000
    crop: tuple[int, int] = (224, 224)
    train_split: str = "train"
    test_split: str = "val"
    area: tuple[float, float] = (0.08, 1.0)  # VAN: RandomResizedCrop, part of the image's area
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    interpolations: tuple[str, ...] = ("bilinear", "bicubic")  # VAN: one at random; DeiT: bicubic
    flip: float = 0.5
    rand_augment: tuple[float, float] = (9.0, 0.5)  # VAN and DeiT: rand-m9-mstd0.5-inc1: magnitude and its deviation
    erasing: float = 0.25  # VAN and DeiT: probability of random erasing, filled with normal noise
    test_resize: int = 248  # VAN: the short edge, bicubic, before the centre crop; DeiT: 256
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # VAN: timm's default of its ViT; DeiT: ImageNet's
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Train:
    """A recipe. The batch is the global batch; lengths are in iterations."""

    iterations: int
    batch: int = 16  # Paper: Sec. 4
    learning_rate: float = 6e-5  # Paper: Sec. 4
    head_learning_rate_factor: float = 10.0  # Official code: custom_keys 'head'
    weight_decay: float = 0.01  # Official code
    warmup_iterations: int = 1500  # Official code: linear, from warmup_ratio
    warmup_ratio: float = 1e-6  # Official code
    poly_power: float = 1.0  # Official code; the paper says "poly"
    dropout: float = 0.1  # Official code: Dropout2d before the classifier
    # Parts that a batch is passed in, one after the other. Not in `Execution`: BatchNorm sees a part at a time.
    accumulate: int = _later(1, frozen=1)

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "accumulate"):
            _require(getattr(self, name) > 0, f"Train.{name}: {getattr(self, name)} is not positive")
        _require(
            self.batch % self.accumulate == 0,
            f"Train.accumulate: a batch of {self.batch} has no {self.accumulate} equal parts",
        )

    def limited(self, iterations: int) -> Train:
        """The same recipe with its schedule ended after this many iterations."""
        return dataclasses.replace(self, iterations=min(iterations, self.iterations))


@dataclass(frozen=True)
class ClassificationTrain:
    """The recipe that MSCAN is pretrained with: VAN's, which is DeiT's without repeated augmentation and EMA.

    datasets.md, 3.1. The rate is constant through an epoch: a cosine from `learning_rate` to `minimum_learning_rate`
    over all but the last `cooldown_iterations`, after a linear warm-up.
    """

    iterations: int = 310 * 1251  # 300 epochs and 10 of cooldown, of 1,281,167 images in batches of 1024
    batch: int = 1024
    learning_rate: float = 1e-3
    minimum_learning_rate: float = 1e-6  # VAN; DeiT: 1e-5
    weight_decay: float = 0.05  # not of biases and other vectors
    epoch_iterations: int = 1251
    warmup_iterations: int = 5 * 1251
    warmup_learning_rate: float = 1e-6
    cooldown_iterations: int = 10 * 1251
    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5  # probability of cutmix instead of mixup, drawn for each batch
    mixing: int = 128  # VAN: samples that follow each other are mixed among themselves, the batch of one of 8 GPUs
    smoothing: float = 0.1
    accumulate: int = _later(1, frozen=1)  # as Train.accumulate; each part is made of whole blocks of `mixing`

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "epoch_iterations", "mixing", "accumulate"):
            _require(getattr(self, name) > 0, f"ClassificationTrain.{name}: {getattr(self, name)} is not positive")
        _require(
            self.batch % (self.mixing * self.accumulate) == 0,
            f"ClassificationTrain.mixing: blocks of {self.mixing} samples do not fill a batch of {self.batch} in "
            f"{self.accumulate} equal parts; take a batch that is a multiple of {self.mixing * self.accumulate}",
        )
        _require(
            self.warmup_iterations + self.cooldown_iterations <= self.iterations,
            f"ClassificationTrain.iterations: {self.iterations} are fewer than warm-up and cooldown",
        )

    def limited(self, iterations: int) -> ClassificationTrain:
        """The same recipe ended after this many iterations: warm-up, epochs and cooldown shortened alike."""
        if iterations >= self.iterations:
            return self
        part = iterations / self.iterations
        names = ("warmup_iterations", "cooldown_iterations")
        shorter: dict[str, Any] = {name: int(getattr(self, name) * part) for name in names}
        epoch = max(1, int(self.epoch_iterations * part))
        return dataclasses.replace(self, iterations=iterations, epoch_iterations=epoch, **shorter)


@dataclass(frozen=True)
class Run:
    """One training with its evaluation. Equal runs have equal ids, whichever tables ask for them."""

    protocol: str
    protocol_version: int
    model: Model
    data: Data | ClassificationData
    train: Train | ClassificationTrain
    seed: int = 0
    init: Run | str | None = None  # an upstream run, the name of a checkpoint, or None: from scratch

    def __post_init__(self) -> None:
        _require(
            isinstance(self.data, Data) == isinstance(self.train, Train),
            f"Run.train: a {type(self.train).__name__} does not go with a {type(self.data).__name__}",
        )

    @property
    def task(self) -> str:
        """`segmentation` or `classification`."""
        return "segmentation" if isinstance(self.data, Data) else "classification"

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name the run."""
        return digest(canonical(self))


@dataclass(frozen=True)
class Weights:
    """Weights that were trained elsewhere: a file, by what it holds."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Evaluation:
    """A test of finished weights: again of a run's own, or of a file's, which are never counted as reproduced.

    `ham_seed` draws the bases that Ham starts from; a run's own evaluation uses 0.
    """

    weights: Run | Weights
    model: Model
    data: Data
    ham_seed: int = 0

    @cached_property
    def id(self) -> str:
        """`evaluation-` and twelve hexadecimal digits."""
        return "evaluation-" + digest(canonical(self))


@dataclass(frozen=True)
class Cost:
    """A cost measurement: parameters and FLOPs of a model for `classes` classes at an input size in pixels.

    For `task="classification"` it is that of the encoder with a linear layer (Table 3), and the decoder is not read.
    """

    model: Model
    classes: int
    height: int
    width: int
    task: str = _later("segmentation", frozen="segmentation")

    def __post_init__(self) -> None:
        _require(self.task in TASKS, f"Cost.task: {self.task!r} is not one of {', '.join(TASKS)}")

    @cached_property
    def id(self) -> str:
        """`cost-` and twelve hexadecimal digits."""
        return "cost-" + digest(canonical(self))


@dataclass(frozen=True)
class Platform:
    """What a speed is measured on, and how. On another platform it is another fact, so all of it is in the id."""

    processor: str  # the CPU's or the GPU's name
    memory_gib: int  # of the device: what does not fit here may fit on another with the same processor
    torch: str  # its version
    device: str = "cpu"
    threads: int = 1
    precision: str = "float32"  # or bfloat16, float16: autocast

    def __post_init__(self) -> None:
        _require(self.device in DEVICES, f"Platform.device: {self.device!r} is not one of {', '.join(DEVICES)}")
        _require_precision("Platform", self.precision)


@dataclass(frozen=True)
class Speed:
    """A speed measurement: latency and peak memory of evaluating one image at an input size in pixels."""

    model: Model
    classes: int
    height: int
    width: int
    platform: Platform

    @cached_property
    def id(self) -> str:
        """`speed-` and twelve hexadecimal digits."""
        return "speed-" + digest(canonical(self))


def compiler(value: Any) -> Any:
    """One of `COMPILERS` for what earlier versions, and people, write: true or false."""
    return {True: "inductor", False: ""}[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class Execution:
    """How a run is carried out. Nothing here changes a result beyond rounding, and nothing here is in an id."""

    device: str = "cpu"
    processes: int = 1  # that share every batch, one a GPU
    threads: int = 1  # cores of a process
    workers: int = 0  # loader processes beside each
    log_interval: int = 10  # iterations between two lines of the training curve
    checkpoint_interval: int | None = None  # iterations between two checkpoints; None: as `segnext.train` decides
    evaluation_interval: int = 8_000  # Official code: iterations between two single-scale tests; 0: at the end alone
    evaluation_batch: int = 8  # images of one size that are evaluated together
    multi_scale: bool = False  # tested at several scales, too, where no table shows it
    precision: str = "float32"  # one of PRECISIONS; recorded, for it rounds otherwise
    compile: str = ""  # one of COMPILERS; what cannot be had falls back to eager with a warning in the log
    cudnn_benchmark: bool = True  # cuDNN times its algorithms and takes the fastest: other rounding from start to start
    deterministic: bool = False  # only operators that give the same bits every time; slower on CUDA

    def __post_init__(self) -> None:
        object.__setattr__(self, "compile", compiler(self.compile))
        _require_precision("Execution", self.precision)
        _require(
            self.compile in COMPILERS,
            f"Execution.compile: {self.compile!r} is not one of {', '.join(map(repr, COMPILERS))}",
        )


def canonical(value: Any) -> Any:
    """The full resolved configuration as JSON-ready data, defaults included: what an id is the hash of.

    A field that was added after results existed carries `metadata={"frozen": literal}` and is left out while it equals
    that literal, so that old ids stand and a changed default changes the id (DESIGN "Identity").

    A value keeps what it once resolved to: thousands of runs share their data and recipe. Do not change what you get.
    """
    if dataclasses.is_dataclass(value):
        kept = vars(value)
        if "_canonical" not in kept:
            kept["_canonical"] = _resolved(value)
        return kept["_canonical"]
    if isinstance(value, tuple):
        return [canonical(item) for item in value]
    return value


def _resolved(value: Any) -> dict[str, Any]:
    if isinstance(value, Model):
        data = _fields(value, skip=("stages", "nmf_rank", "drop_path"))
        return {**data, "stages": list(value.decoder_stages), **_fields(value.widths)}
    if isinstance(value, Run):
        data = _fields(value, skip=("init",))
        return {**data, "init": value.init.id if isinstance(value.init, Run) else value.init}
    if isinstance(value, Evaluation) and isinstance(value.weights, Run):
        return {**_fields(value, skip=("weights",)), "weights": value.weights.id}
    return _fields(value)


def _fields(value: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    present = {}
    for field in dataclasses.fields(value):
        item = canonical(getattr(value, field.name))
        frozen = "frozen" in field.metadata and item == canonical(field.metadata["frozen"])
        if field.name not in skip and not frozen:
            present[field.name] = item
    return present


def digest(data: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of canonical data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def resolved_run(configurations: Sequence[Mapping[str, Any]]) -> Run:
    """The run with these canonical configurations: its own, then that of what it starts from, and so on.

    `canonical` backwards. `ValueError` where they are those of no run that today's code knows.
    """
    try:
        first, *before = configurations
        own = dict(first)
        init = resolved_run(before) if before else own["init"]
        if isinstance(init, Run) and init.id != own["init"]:
            raise ValueError(f"it starts from {own['init']}, not from {init.id}")
        task = (Data, Train) if "photometric" in own["data"] else (ClassificationData, ClassificationTrain)
        parts = {
            "model": _read_model(own["model"]),
            "data": _read(task[0], own["data"]),
            "train": _read(task[1], own["train"]),
            "init": init,
        }
        run = Run(**{**own, **parts})
        if canonical(run) != first:
            raise ValueError("it resolves to another configuration with today's code")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the configuration of a run: {error}") from None
    return run


def _read_model(data: Mapping[str, Any]) -> Model:
    names = [field.name for field in dataclasses.fields(Model) if field.name in data]
    return _read(Model, {name: data[name] for name in names})


def _read(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """A value from its canonical fields; those that a configuration leaves out are what they were before they were."""
    frozen = {field.name: field.metadata["frozen"] for field in dataclasses.fields(kind) if "frozen" in field.metadata}
    return kind(**frozen | {name: _tuples(value) for name, value in data.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
