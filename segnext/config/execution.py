"""`Execution`: how a run is carried out. None of it is in an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segnext.config.fields import chosen, official, require, require_precision

COMPILERS = ("", "inductor", "graphs", "inductor+graphs")
"""How a training step reaches the device: operator by operator, through torch.compile, as a CUDA graph, or both."""


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
    checkpoint_interval: int | None = None  # iterations between two checkpoints; None: `segnext.training.train` decides
    # Iterations between two single-scale tests; 0: at the end alone.
    evaluation_interval: int = chosen(8_000, official("iterations between two single-scale tests"))
    evaluation_batch: int = 8  # images of one size that are evaluated together
    multi_scale: bool = False  # tested at several scales, too, where no table shows it
    precision: str = "float32"  # one of PRECISIONS; recorded, for it rounds otherwise
    compile: str = ""  # one of COMPILERS; what cannot be had falls back to eager with a warning in the log
    cudnn_benchmark: bool = True  # cuDNN times its algorithms and takes the fastest: other rounding from start to start
    deterministic: bool = False  # only operators that give the same bits every time; slower on CUDA

    def __post_init__(self) -> None:
        object.__setattr__(self, "compile", compiler(self.compile))
        require_precision("Execution", self.precision)
        require(
            self.compile in COMPILERS,
            f"Execution.compile: {self.compile!r} is not one of {', '.join(map(repr, COMPILERS))}",
        )
