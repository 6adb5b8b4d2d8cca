"""Pretraining for classification as in VAN's code, and Top-1 accuracy (Table 3; datasets.md, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from segnext.config import ClassificationData, ClassificationTrain, Run
from segnext.data.ahead import in_order, to_device
from segnext.data.imagenet import ClassFolderSource
from segnext.data.pretraining import ClassificationBatches, test_image
from segnext.data.stream import Batch, Loading, Share, loaded
from segnext.precision import full_precision
from segnext.testing.evaluate import Progress


class Classification:
    """The `segnext.training.train.Task` of a run on images with one class each.

    `Ours:` BatchNorm sees the samples of a pass on all GPUs, whose running statistics are always equal (VAN: the 128
    samples of each GPU, and the mean of the GPUs' statistics after each epoch). Batches continue across the end of an
    epoch (VAN leaves out the last 143 images of each).
    """

    def __init__(self, run: Run, source: ClassFolderSource) -> None:
        assert isinstance(run.data, ClassificationData)
        assert isinstance(run.train, ClassificationTrain)
        self.run, self._data, self._train, self._source = run, run.data, run.train, source

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return parameter_groups(model, self._train)

    def learning_rate(self, iteration: int) -> float:
        return learning_rate(self._train, iteration)

    def batches(self, start: int, share: Share, loading: Loading) -> Iterator[Batch]:
        parts = self._train.accumulate
        batch = self._train.batch // parts
        batches = ClassificationBatches(self._data, self._train, self._source, self.run.seed, batch, share)
        return loaded(batches, start * parts, self._train.iterations * parts, loading)

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        # timm's SoftTargetCrossEntropy, which equals PyTorch's with probabilities.
        return F.cross_entropy(model(images).float(), labels)


def learning_rate(train: ClassificationTrain, iteration: int) -> float:
    """The learning rate at a step, counted from 0. It changes only at the start of an epoch, as in VAN.

    timm 0.4.12's cosine: its period starts at step 0 and the linear warm-up replaces its beginning, so the rate after
    the warm-up is slightly below `learning_rate`. During the cooldown it stays at the minimum.
    """
    iteration -= iteration % train.epoch_iterations
    period = train.iterations - train.cooldown_iterations
    if iteration < train.warmup_iterations:
        rise = (train.learning_rate - train.warmup_learning_rate) / train.warmup_iterations
        return train.warmup_learning_rate + iteration * rise
    if iteration >= period:
        return train.minimum_learning_rate
    height = (train.learning_rate - train.minimum_learning_rate) / 2
    return train.minimum_learning_rate + height * (1 + math.cos(math.pi * iteration / period))


def parameter_groups(model: nn.Module, train: ClassificationTrain) -> list[dict[str, Any]]:
    """The optimiser's groups in VAN, which are timm's: biases and other vectors (norms, layer scales) do not decay."""
    groups: dict[float, list[nn.Parameter]] = {train.weight_decay: [], 0.0: []}
    for name, parameter in model.named_parameters():
        vector = parameter.ndim == 1 or name.endswith(".bias")
        groups[0.0 if vector else train.weight_decay].append(parameter)
    return [
        {"params": parameters, "factor": 1.0, "weight_decay": decay, "lr": train.learning_rate}
        for decay, parameters in groups.items()
    ]


@dataclass(frozen=True)
class Top1:
    """The number of correctly classified images. The values of a split's shares add up to that of the split."""

    correct: int
    images: int

    def __add__(self, other: Top1) -> Top1:
        return Top1(self.correct + other.correct, self.images + other.images)

    @property
    def percent(self) -> float | None:
        """Top-1 accuracy in percent; None if there was no image."""
        return 100 * self.correct / self.images if self.images else None


@torch.inference_mode()
def evaluate_classification(
    model: nn.Module,
    source: ClassFolderSource,
    data: ClassificationData,
    *,
    batch: int = 1,
    device: torch.device | None = None,
    share: Share | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Top1:
    """Top-1 on a process's share of a split (None: the whole split), with one centre crop per image (Table 3).

    The model is left in evaluation mode. `batch` images are passed at a time and loaded ahead by `workers` processes,
    which changes nothing beyond rounding. It is always in float32: autocast is off here, whatever the precision of
    training. Raises `DataError` for an image that cannot be read.
    """
    model.eval()
    device, share = device or torch.device("cpu"), share or Share()
    first, last = (len(source) * rank // share.size for rank in (share.rank, share.rank + 1))
    groups = [range(start, min(start + batch, last)) for start in range(first, last, batch)]
    correct, done = torch.zeros((), dtype=torch.int64, device=device), 0
    for images, labels in in_order(_Images(source, data), groups, workers):
        pictures = to_device(images, device).contiguous(memory_format=torch.channels_last)
        with full_precision(pictures):
            predicted = model(pictures).argmax(dim=1)
        correct += (predicted == to_device(labels, device)).sum()  # on the device, so that the host does not wait
        done += len(labels)
        if progress:
            progress(done, last - first)
    return Top1(int(correct), done)


class _Images(Dataset[tuple[Tensor, Tensor]]):
    """Images prepared for testing and their classes, by range: float32 `(B, 3, h, w)` and int64 `(B,)`."""

    def __init__(self, source: ClassFolderSource, data: ClassificationData) -> None:
        self._source, self._data = source, data

    def __getitem__(self, indices: range) -> tuple[Tensor, Tensor]:
        images, labels = zip(*(self._source.load(index) for index in indices), strict=True)
        return torch.stack([test_image(image, self._data) for image in images]), torch.tensor(labels)
