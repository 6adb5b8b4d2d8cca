"""The random parts of a training forward pass, as a pure function of (seed, sample).

Drop path, dropout and Ham's bases take their uniform numbers from `Stochastic.uniform`. The loader draws one row of
numbers per sample before the step that needs it, and `set_per_sample_randomness` distributes each row to the modules.
So neither a restart nor the split of a batch over processes changes the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Stochastic(nn.Module):
    """A module that needs `count` uniform numbers in [0, 1) per sample in training."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.numbers: Tensor | None = None

    def uniform(self, batch: int, device: torch.device) -> Tensor:
        """`(B, count)` numbers: those of `set_per_sample_randomness` if set, else from torch's global generator.

        Raises `ValueError` if they were set for a batch of another size.
        """
        if self.numbers is None:
            return torch.rand(batch, self.count, device=device)
        if len(self.numbers) != batch:
            raise ValueError(f"the numbers of {len(self.numbers)} samples were set, but the batch has {batch}")
        return self.numbers


class _Drop(Stochastic):
    """Zeroes each of `count` parts of a sample with probability `rate`, and scales the others by 1 / (1 - rate)."""

    def __init__(self, count: int, rate: float) -> None:
        super().__init__(count if rate else 0)
        self.rate = rate

    def keep(self, x: Tensor) -> Tensor | None:
        """`(B, count)` in x's dtype: 0 for a dropped part, else 1 / (1 - rate). None if nothing can be dropped."""
        if not self.training or self.rate == 0:
            return None
        return (self.uniform(len(x), x.device) >= self.rate).to(x.dtype) / (1 - self.rate)

    def forward(self, x: Tensor) -> Tensor:
        keep = self.keep(x)
        return x if keep is None else x * keep[:, :, None, None]


class DropPath(_Drop):
    """Stochastic depth per sample: `(B, C, H, W) -> (B, C, H, W)`. Official code: timm's DropPath on both residuals."""

    def __init__(self, rate: float) -> None:
        super().__init__(1, rate)


class ChannelDropout(_Drop):
    """Drops whole channels per sample: `(B, C, H, W) -> (B, C, H, W)`. Official code: Dropout2d in the head."""

    def __init__(self, channels: int, rate: float) -> None:
        super().__init__(channels, rate)


def numbers_needed(model: nn.Module) -> int:
    """The number of uniform numbers that a training forward pass of the model needs per sample."""
    return sum(module.count for module in _stochastic(model))


def per_sample_numbers(seed: int, samples: Sequence[int], count: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 `(B, count)`, from the run's seed and the samples' positions in the stream.

    Each sample has its own counter-based generator, so its numbers do not depend on the others in the batch.
    """
    rows = np.empty((len(samples), count), dtype=np.float32)
    for row, sample in zip(rows, samples, strict=True):
        np.random.Generator(np.random.Philox(key=[seed, sample])).random(out=row, dtype=np.float32)
    return torch.from_numpy(rows)


def set_per_sample_randomness(model: nn.Module, numbers: Tensor) -> None:
    """Give every stochastic module its columns of `numbers`, `(B, count)` on the model's device; modules keep views."""
    modules = _stochastic(model)
    for module, own in zip(modules, numbers.split([module.count for module in modules], dim=1), strict=True):
        module.numbers = own


def _stochastic(model: nn.Module) -> list[Stochastic]:
    return [module for module in model.modules() if isinstance(module, Stochastic) and module.count]
