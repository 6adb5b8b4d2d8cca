"""Single-scale and multi-scale evaluation of a model over a split (Sec. 4; the released test pipeline)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.config import Data
from segnext.data import Source
from segnext.data.transforms import test_image
from segnext.metrics import Confusion, Score

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@torch.inference_mode()
def probabilities(
    model: nn.Module, image: Tensor, data: Data, ratios: Sequence[float], flips: Sequence[bool], device: torch.device
) -> Tensor:
    """Class probabilities `(1, classes, H, W)` of a `(H, W, 3)` uint8 image, averaged over ratios and flips.

    Official code: scores resized to the image's own size, softmax, flipped back, mean over the passes.
    """
    height, width = image.shape[:2]
    total = None
    for ratio in ratios:
        for flip in flips:
            scores = model(test_image(image.numpy(), data, ratio, flip).to(device))
            scores = F.interpolate(scores, size=(height, width), mode="bilinear", align_corners=False)
            passed = scores.softmax(dim=1)
            passed = passed.flip(3) if flip else passed
            total = passed if total is None else total + passed
    assert total is not None
    return total / (len(ratios) * len(flips))


def evaluate(
    model: nn.Module,
    source: Source,
    data: Data,
    *,
    multi_scale: bool = False,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Score:
    """Score the model on every image of a split at the labels' own size; the model is left in evaluation mode.

    Single-scale: one pass. Multi-scale (MS): every ratio of `data.test_scales`, each also flipped.
    """
    model.eval()
    device = device or torch.device("cpu")
    ratios, flips = (data.test_scales, (False, True)) if multi_scale else ((1.0,), (False,))
    confusion = Confusion(data.classes)
    for index in range(len(source)):
        image, label = source.load(index)
        prediction = probabilities(model, torch.from_numpy(image), data, ratios, flips, device).argmax(dim=1)[0]
        confusion.add(prediction.cpu(), torch.from_numpy(label))
        if progress:
            progress(index + 1, len(source))
    return confusion.score()
