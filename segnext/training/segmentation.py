"""Training for segmentation: the loss, the poly schedule and the optimiser's groups (Sec. 4; the released code)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.config import Data, Run, Train
from segnext.data import Source
from segnext.data.source import IGNORE
from segnext.data.stream import Batch, Loading, Share, stream
from segnext.decoder import resize
from segnext.fast.choice import is_fast
from segnext.fast.upsampling import cross_entropy
from segnext.model import SegNeXt
from segnext.precision import full_precision
from segnext.released_weights import released_name


class Segmentation:
    """The `segnext.training.train.Task` of a run on pairs of image and label."""

    def __init__(self, run: Run, source: Source) -> None:
        assert isinstance(run.data, Data)
        assert isinstance(run.train, Train)
        self.run, self._data, self._train, self._source = run, run.data, run.train, source

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return parameter_groups(model, self._train)

    def learning_rate(self, iteration: int) -> float:
        return learning_rate(self._train, iteration)

    def batches(self, start: int, share: Share, loading: Loading) -> Iterator[Batch]:
        # The parts of a batch are consecutive batches of the same stream of samples.
        parts, seed = self._train.accumulate, self.run.seed
        first, last = start * parts, self._train.iterations * parts
        return stream(self._data, self._source, seed, self._train.batch // parts, first, last, loading, share)

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(model, SegNeXt)
        return segmentation_loss(model.logits(images), labels)


def segmentation_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of scores `(B, classes, h, w)`, resized to the labels `(B, H, W)`, in float32.

    Official code: the sum over labelled pixels divided by the number of all pixels, ignored ones included
    (`datasets.md`, section 3); PyTorch's mean divides by the number of labelled ones.
    """
    with full_precision(scores):
        if torch.compiler.is_compiling() and not is_fast(scores):  # the compiler fuses the plain formula itself
            full = resize(scores.float(), labels.shape[1:])
            summed = F.cross_entropy(full, labels.long(), ignore_index=IGNORE, reduction="sum")
        else:
            summed = cross_entropy(scores, labels)
        return summed / labels.numel()


def learning_rate(train: Train, iteration: int) -> float:
    """The encoder's learning rate at a step, counted from 0: poly to zero, scaled up linearly during the warm-up."""
    poly = train.learning_rate * (1 - iteration / train.iterations) ** train.poly_power
    if iteration >= train.warmup_iterations:
        return poly
    return poly * (1 - (1 - iteration / train.warmup_iterations) * (1 - train.warmup_ratio))


def parameter_groups(model: nn.Module, train: Train) -> list[dict[str, Any]]:
    """The optimiser's groups of the official code, by released name: `head` learns faster, `norm` does not decay.

    As in the release, all biases outside `norm`, the layer scales, the stem's BN and the decoder's GN do decay. Each
    group has a `factor`, by which the scheduled learning rate is multiplied.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # EMA's first convolution
            continue
        released = released_name(name)
        head = "head" in released
        decayed = head or "norm" not in released
        key = (train.head_learning_rate_factor if head else 1.0, train.weight_decay if decayed else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "weight_decay": decay, "lr": train.learning_rate * factor}
        for (factor, decay), parameters in groups.items()
    ]
