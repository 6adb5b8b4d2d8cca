"""Grad-CAM for a class of a segmentation network (appendix Fig. 2), by pytorch-grad-cam, without its scaling."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from torch import Tensor, nn

from segnext.decoder import resize
from segnext.ham import NMF
from segnext.model import SegNeXt

Heat = npt.NDArray[np.float32]


class _Stage(nn.Module):
    """An identity module for a hook on the output of one stage, whatever the encoder."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Watched(nn.Module):
    """The network with the output of one stage passed through a `_Stage`."""

    def __init__(self, model: SegNeXt, stage: int) -> None:
        super().__init__()
        self.model, self.number, self.stage = model, stage - 1, _Stage()

    def forward(self, x: Tensor) -> Tensor:
        features = list(self.model.encoder(x))
        features[self.number] = self.stage(features[self.number])
        return resize(self.model.decoder(features), (x.shape[2], x.shape[3]))


class _Raw(GradCAM):  # type: ignore[misc]
    """Grad-CAM that keeps the raw scale: pytorch-grad-cam scales every image to [0, 1], so networks do not compare."""

    raw: Heat

    def get_cam_image(self, *arguments: object, **options: object) -> Heat:
        self.raw = super().get_cam_image(*arguments, **options)
        return self.raw


def grad_cam(model: SegNeXt, picture: Tensor, target: int, mask: npt.NDArray[np.bool_], stage: int = 4) -> Heat:
    """The Grad-CAM heat of class `target` over the pixels of `mask`: `(1, 3, H, W) -> (H, W)`, at least 0, not scaled.

    Selvaraju et al., Eqs. 1-2, with the sum of the class's scores over `mask` (H, W) instead of one score: the channels
    of an encoder stage, weighted by their mean gradients (along every path to the scores, later stages included), ReLU,
    resized bilinearly. It leaves the model in evaluation mode, and Ham starts from seed 0. Raises `ValueError` for an
    empty mask.
    """
    if not mask.any():
        raise ValueError(f"mask: no pixel of class {target} is in it; choose an image that has the class")
    model.eval()
    for module in model.modules():
        if isinstance(module, NMF):
            module.reseed(0)
    watched = _Watched(model, stage)
    cam = _Raw(watched, [watched.stage])
    try:
        cam(picture, [SemanticSegmentationTarget(target, mask.astype(np.float32))])
    finally:
        cam.activations_and_grads.release()
        model.zero_grad(set_to_none=True)
    heat = resize(torch.from_numpy(np.maximum(cam.raw, 0))[None].float(), (picture.shape[2], picture.shape[3]))
    found: Heat = heat[0, 0].numpy()
    return found


def share_inside(heat: Heat, mask: npt.NDArray[np.bool_]) -> float | None:
    """The fraction of the heat inside the mask; None if there is no heat at all."""
    total = float(heat.sum(dtype=np.float64))
    return float(heat[mask].sum(dtype=np.float64)) / total if total > 0 else None
