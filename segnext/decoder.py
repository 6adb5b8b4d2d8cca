"""The decoders of Fig. 3: (a) SegFormer's MLP; (b) and (c) the light Hamburger on stage 4 and on stages 2 to 4."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.config import Model
from segnext.context import MSCAHead, NonLocal, context_module, head_norm
from segnext.convolutions import PointwiseConv2d
from segnext.stochastic import ChannelDropout


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize bilinearly without aligned corners: `(B, C, H, W) -> (B, C, *size)`.

    Official code: called on every map, even if it already has the size (the paper's FLOPs include these calls).
    """
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _convolution(entering: int, leaving: int, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(PointwiseConv2d(entering, leaving, bias=False), norm, nn.ReLU())


class Decoder(nn.Module, ABC):
    """Turns the encoder's stages into class scores at the resolution of the first stage that it reads, stride s.

    `(B, C1, H/4, W/4), (B, C2, H/8, W/8), (B, C3, H/16, W/16), (B, C4, H/32, W/32) -> (B, classes, H/s, W/s)`
    """

    def __init__(self, model: Model, classes: int, dropout: float) -> None:
        super().__init__()
        self.stages = model.decoder_stages
        self.channels = [model.widths.channels[stage - 1] for stage in self.stages]
        width = model.widths.decoder_channels
        self.dropout = ChannelDropout(width, dropout)
        self.classifier = PointwiseConv2d(width, classes)

    @abstractmethod
    def context(self, features: list[Tensor]) -> Tensor:
        """Fuse the chosen stages: `(B, Ci, H/s, W/s), (B, Cj, H/2/s, W/2/s), ... -> (B, D, H/s, W/s)`."""

    def forward(self, features: list[Tensor]) -> Tensor:
        chosen = [features[stage - 1] for stage in self.stages]
        return self.classifier(self.dropout(self.context(chosen)))

    def initialise(self) -> None:
        """Initialise as mmcv (official code): Kaiming for convolutions before a ReLU, std 0.01 for the classifier."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, 0, 0.01)


class HamDecoder(Decoder):
    """Fig. 3 (c), and (b) on stage 4 only: resize, concatenate, squeeze, Ham, align (official code: ham_head.py).

    Table 5 and appendix Table 2 replace only Ham by another module (`segnext.context`).
    """

    def __init__(self, model: Model, classes: int, dropout: float) -> None:
        super().__init__(model, classes, dropout)
        width = model.widths.decoder_channels
        self.squeeze = _convolution(sum(self.channels), width, head_norm(width, model))
        self.ham = context_module(width, model)
        self.align = _convolution(width, width, head_norm(width, model))
        self.initialise()
        if isinstance(self.ham, NonLocal | MSCAHead):
            self.ham.initialise()

    def context(self, features: list[Tensor]) -> Tensor:
        size = features[0].shape[2:]
        x = torch.cat([resize(feature, size) for feature in features], dim=1)
        return self.align(self.ham(self.squeeze(x)))


class MLPDecoder(Decoder):
    """Fig. 3 (a), "adopted in SegFormer": a linear layer per stage, resize, concatenate, a linear layer that fuses.

    Official code: the SegformerHead in the release, with BN and ReLU after each linear layer.
    """

    def __init__(self, model: Model, classes: int, dropout: float) -> None:
        super().__init__(model, classes, dropout)
        width = model.widths.decoder_channels
        self.project = nn.ModuleList(_convolution(channels, width, nn.BatchNorm2d(width)) for channels in self.channels)
        self.fuse = _convolution(width * len(self.channels), width, nn.BatchNorm2d(width))
        self.initialise()

    def context(self, features: list[Tensor]) -> Tensor:
        size = features[0].shape[2:]
        projected = [project(feature) for project, feature in zip(self.project, features, strict=True)]
        return self.fuse(torch.cat([resize(x, size) for x in projected], dim=1))
