"""Single-scale and multi-scale evaluation of a model over a split (Sec. 4; the released test pipeline)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from segnext.config import Data
from segnext.data import Source
from segnext.data.transforms import test_image
from segnext.decoder import resize
from segnext.metrics import Confusion, Score

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@torch.inference_mode()
def probabilities(
    model: nn.Module, images: Tensor, data: Data, ratios: Sequence[float], flips: Sequence[bool], device: torch.device
) -> Tensor:
    """Class probabilities `(B, classes, H, W)` of `(B, H, W, 3)` uint8 images, averaged over ratios and flips.

    Official code: scores resized to the image's own size, softmax, flipped back, mean over the passes.
    """
    height, width = images.shape[1:3]
    total = torch.zeros((), device=device)
    for ratio in ratios:
        for flip in flips:
            pictures = torch.cat([test_image(image.numpy(), data, ratio, flip) for image in images])
            passed = resize(model(pictures.to(device)), (height, width)).softmax(dim=1)
            total = total + (passed.flip(3) if flip else passed)
    return total / (len(ratios) * len(flips))


def evaluate(
    model: nn.Module,
    source: Source,
    data: Data,
    *,
    multi_scale: bool = False,
    batch: int = 1,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Score:
    """Score the model on every image of a split at the labels' own size; the model is left in evaluation mode.

    Single-scale: one pass. Multi-scale (MS): every ratio of `data.test_scales`, each also flipped. Up to `batch` images
    that follow each other and have the same size are passed together, which changes nothing beyond rounding.
    """
    model.eval()
    device = device or torch.device("cpu")
    ratios, flips = (data.test_scales, (False, True)) if multi_scale else ((1.0,), (False,))
    confusion = Confusion(data.classes)
    done = 0
    for images, labels in _groups(source, batch):
        prediction = probabilities(model, images, data, ratios, flips, device).argmax(dim=1)
        confusion.add(prediction.cpu(), labels)
        done += len(images)
        if progress:
            progress(done, len(source))
    return confusion.score()


def _groups(source: Source, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs of at most `batch` images of one size: `(B, H, W, 3)` and `(B, H, W)`, uint8."""
    group: list[tuple[np.ndarray, np.ndarray]] = []
    for index in range(len(source)):
        pair = source.load(index)
        if group and (len(group) == batch or pair[1].shape != group[0][1].shape):
            yield _stacked(group)
            group = []
        group.append(pair)
    if group:
        yield _stacked(group)


def _stacked(group: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*group, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))
