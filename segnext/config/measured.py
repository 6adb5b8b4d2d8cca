"""`Cost` and `Speed`: measurements that need no training, and the `Platform` on which a speed is measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from segnext.config.architecture import Model
from segnext.config.fields import later, require, require_precision
from segnext.config.identity import digest

TASKS = ("segmentation", "classification")
DEVICES = ("cpu", "cuda")  # devices on which speeds are measured


@dataclass(frozen=True)
class Cost:
    """A measurement of parameters and FLOPs: a model for `classes` classes at an input size in pixels.

    With `task="classification"` the network is the encoder with a linear layer (Table 3), without the decoder. Raises
    `ValueError` for another task.
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
    """The machine on which a speed is measured, and how. Speeds differ between platforms, so all of it enters the id.

    Raises `ValueError`, naming the field, for an unknown device or precision.
    """

    processor: str  # name of the CPU or the GPU
    memory_gib: int  # of the device, because the same GPU is sold with different memory sizes
    torch: str  # version of torch
    device: str = "cpu"
    threads: int = 1
    precision: str = "float32"  # or bfloat16, float16: autocast

    def __post_init__(self) -> None:
        require(self.device in DEVICES, f"Platform.device: {self.device!r} is not one of {', '.join(DEVICES)}")
        require_precision("Platform", self.precision)


@dataclass(frozen=True)
class Speed:
    """A measurement of speed: latency and peak memory of evaluating one image at an input size in pixels."""

    model: Model
    classes: int
    height: int
    width: int
    platform: Platform

    @cached_property
    def id(self) -> str:
        """`speed-` and twelve hexadecimal digits."""
        return "speed-" + digest(self)
