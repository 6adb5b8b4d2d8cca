"""`Cost` and `Speed`: what is measured without a training, and the `Platform` of a speed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from segnext.config.architecture import Model
from segnext.config.fields import later, require, require_precision
from segnext.config.identity import digest

TASKS = ("segmentation", "classification")
DEVICES = ("cpu", "cuda")  # where speeds are measured


@dataclass(frozen=True)
class Cost:
    """A cost measurement: parameters and FLOPs of a model for `classes` classes at an input size in pixels.

    For `task="classification"` it is that of the encoder with a linear layer (Table 3), and the decoder is not read.
    """

    model: Model
    classes: int
    height: int
    width: int
    task: str = later("segmentation", frozen="segmentation")

    def __post_init__(self) -> None:
        require(self.task in TASKS, f"Cost.task: {self.task!r} is not one of {', '.join(TASKS)}")

    @cached_property
    def id(self) -> str:
        """`cost-` and twelve hexadecimal digits."""
        return "cost-" + digest(self)


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
        require(self.device in DEVICES, f"Platform.device: {self.device!r} is not one of {', '.join(DEVICES)}")
        require_precision("Platform", self.precision)


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
        return "speed-" + digest(self)
