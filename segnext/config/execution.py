"""`Execution`: how a run is carried out. None of it enters an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segnext.config.fields import chosen, official, require, require_precision

COMPILERS = ("", "inductor", "graphs", "inductor+graphs")
"""How a training step is executed: operator by operator (""), compiled by torch.compile, as a CUDA graph, or both."""


def compiler(value: Any) -> Any:
    """The member of `COMPILERS` for a value; True and False, as earlier versions wrote them, are accepted, too."""
    return {True: "inductor", False: ""}[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class Execution:
    """How a run is carried out. Nothing here changes a result beyond rounding, so none of it enters an id.

    Raises `ValueError`, naming the field, for an unknown precision or compiler.
    """

    device: str = "cpu"
    processes: int = 1  # processes that share every batch, one per GPU
    threads: int = 1  # CPU threads of each process
    workers: int = 0  # loader processes beside each process
    log_interval: int = 10  # iterations between two lines of the training curve
    checkpoint_interval: int | None = None  # iterations between two checkpoints; None: `segnext.training.train` decides
    # Iterations between two single-scale tests; 0: only at the end.
    evaluation_interval: int = chosen(8_000, official("iterations between two single-scale tests"))
    evaluation_batch: int = 8  # images of one size that are evaluated together
    multi_scale: bool = False  # also test at several scales if no table shows that result
    precision: str = "float32"  # one of PRECISIONS; recorded, because it changes rounding
    compile: str = ""  # one of COMPILERS; falls back to eager, with a warning in the log, if it is not available
    cudnn_benchmark: bool = True  # let cuDNN time its algorithms and take the fastest; rounding may differ per start
    deterministic: bool = False  # use only operators that give the same bits every time; slower on CUDA

    def __post_init__(self) -> None:
        object.__setattr__(self, "compile", compiler(self.compile))
        require_precision("Execution", self.precision)
        require(
            self.compile in COMPILERS,
            f"Execution.compile: {self.compile!r} is not one of {', '.join(map(repr, COMPILERS))}",
        )
