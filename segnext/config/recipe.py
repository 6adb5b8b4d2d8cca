"""`Train` and `ClassificationTrain`: the recipes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from segnext.config.fields import later, require


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
    accumulate: int = later(1, frozen=1)

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
    accumulate: int = later(1, frozen=1)  # as Train.accumulate; each part is made of whole blocks of `mixing`

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
        """The same recipe ended after this many iterations: warm-up, epochs and cooldown shortened alike."""
        if iterations >= self.iterations:
            return self
        part = iterations / self.iterations
        names = ("warmup_iterations", "cooldown_iterations")
        shorter: dict[str, Any] = {name: int(getattr(self, name) * part) for name in names}
        epoch = max(1, int(self.epoch_iterations * part))
        return dataclasses.replace(self, iterations=iterations, epoch_iterations=epoch, **shorter)
