"""SegNeXt: encoder, decoder, and the upsampling to the input's size (Sec. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segnext.config import Model
from segnext.decoder import HamDecoder, MLPDecoder, resize
from segnext.mscan import MSCAN


class SegNeXt(nn.Module):
    """The segmentation network: `(B, 3, H, W) -> (B, classes, H, W)` class scores, for any H, W >= 32.

    `model.encoder(x)` gives the four stages' outputs, `model.logits(x)` the scores before the final upsampling.
    Everything is kept in channels-last memory. Raises `ValueError` for an image smaller than 32 pixels.
    """

    def __init__(self, model: Model, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.config = model
        self.encoder = MSCAN(model)
        decoder = MLPDecoder if model.decoder == "a" else HamDecoder
        self.decoder = decoder(model, classes, dropout)
        self.to(memory_format=torch.channels_last)

    def logits(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W) -> (B, classes, H/s, W/s)`, s = 8 for decoder (c)."""
        if min(x.shape[2:]) < 32:
            raise ValueError(f"images of {x.shape[2]}x{x.shape[3]} pixels are too small: stage 4 needs at least 32x32")
        return self.decoder(self.encoder(x.contiguous(memory_format=torch.channels_last)))

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.logits(x), x.shape[2:])
