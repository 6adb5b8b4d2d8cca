"""`Train` and `ClassificationTrain`: the training recipes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from segnext.config.fields import chosen, later, needed, official, ours, paper, require, van


@dataclass(frozen=True)
class Train:
    """The recipe of a segmentation training (Sec. 4). `batch` is the global batch; lengths are in iterations.

    Raises `ValueError` for a length that is not positive, or a batch that `accumulate` does not divide.
    """

    iterations: int = needed(paper("Sec. 4, appendix Table 1"))
    batch: int = chosen(16, paper("Sec. 4, appendix Table 1"))
    learning_rate: float = chosen(6e-5, paper("Sec. 4"))
    head_learning_rate_factor: float = chosen(10.0, official("paramwise_cfg, custom_keys 'head'"))
    weight_decay: float = chosen(0.01, official())
    warmup_iterations: int = chosen(1500, official("linear, from warmup_ratio"))
    warmup_ratio: float = chosen(1e-6, official())
    poly_power: float = chosen(1.0, official(other='the paper says "poly"'))
    dropout: float = chosen(0.1, official("Dropout2d before the classifier"))
    # Parts into which a batch is split, passed one after another. A field here, not of `Execution`, because it changes
    # the result: BatchNorm sees one part at a time.
    accumulate: int = later(1, ours(), frozen=1)

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "accumulate"):
            require(getattr(self, name) > 0, f"Train.{name}: {getattr(self, name)} is not positive")
        require(
            self.batch % self.accumulate == 0,
            f"Train.accumulate: a batch of {self.batch} has no {self.accumulate} equal parts",
        )

    def limited(self, iterations: int) -> Train:
        """The same recipe with its schedule ended after this many iterations."""
        return dataclasses.replace(self, iterations=min(iterations, self.iterations))


@dataclass(frozen=True)
class ClassificationTrain:
    """The recipe of MSCAN's pretraining: VAN's, which is DeiT's without repeated augmentation and EMA.

    datasets.md, 3.1. After a linear warm-up the learning rate follows a cosine from `learning_rate` to
    `minimum_learning_rate`, which it reaches `cooldown_iterations` before the end; it changes only between epochs.

    Raises `ValueError` for a length that is not positive, or a batch that the blocks of `mixing` do not fill.
    """

    iterations: int = chosen(310 * 1251, van("300 epochs and 10 of cooldown"))  # 1251 per epoch of 1,281,167 images
    batch: int = chosen(1024, van("8 × 128"))
    learning_rate: float = chosen(1e-3, van(other="DeiT: the same at this batch"))
    minimum_learning_rate: float = chosen(1e-6, van(other="DeiT: 1e-5"))
    weight_decay: float = chosen(0.05, van(other="DeiT: the same"))  # biases and other vectors do not decay
    epoch_iterations: int = chosen(1251, van())
    warmup_iterations: int = chosen(5 * 1251, van("5 epochs"))
    warmup_learning_rate: float = chosen(1e-6, van())
    cooldown_iterations: int = chosen(10 * 1251, van("10 epochs"))
    mixup: float = chosen(0.8, van(other="DeiT: the same"))
    cutmix: float = chosen(1.0, van(other="DeiT: the same"))
    switch: float = chosen(0.5, van("drawn for each batch", "DeiT: the same"))  # probability of cutmix, else mixup
    # Mixup and cutmix combine samples only within blocks of this many consecutive samples.
    mixing: int = chosen(128, van("the batch of one of 8 GPUs"))
    smoothing: float = chosen(0.1, van(other="DeiT: the same"))
    # As `Train.accumulate`; each part consists of whole blocks of `mixing`.
    accumulate: int = later(1, ours(), frozen=1)

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "epoch_iterations", "mixing", "accumulate"):
            require(getattr(self, name) > 0, f"ClassificationTrain.{name}: {getattr(self, name)} is not positive")
        require(
            self.batch % (self.mixing * self.accumulate) == 0,
            f"ClassificationTrain.mixing: blocks of {self.mixing} samples do not fill a batch of {self.batch} in "
            f"{self.accumulate} equal parts; take a batch that is a multiple of {self.mixing * self.accumulate}",
        )
        require(
            self.warmup_iterations + self.cooldown_iterations <= self.iterations,
            f"ClassificationTrain.iterations: {self.iterations} are fewer than warm-up and cooldown",
        )

    def limited(self, iterations: int) -> ClassificationTrain:
        """The same recipe ended after this many iterations; warm-up, epochs and cooldown shrink in proportion."""
        if iterations >= self.iterations:
            return self
        part = iterations / self.iterations
        names = ("warmup_iterations", "cooldown_iterations")
        shorter: dict[str, Any] = {name: int(getattr(self, name) * part) for name in names}
        epoch = max(1, int(self.epoch_iterations * part))
        return dataclasses.replace(self, iterations=iterations, epoch_iterations=epoch, **shorter)
