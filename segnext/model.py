"""SegNeXt: encoder, decoder, and upsampling to the input's size (Sec. 3); MSCAN with a classifier (Table 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segnext.config import TASKS, Model
from segnext.decoder import HamDecoder, MLPDecoder, resize
from segnext.mscan import MSCAN


class SegNeXt(nn.Module):
    """The segmentation network: `(B, 3, H, W) -> (B, classes, H, W)` class scores, for any H, W >= 32.

    `model.encoder(x)` returns the outputs of the four stages, `model.logits(x)` the scores before the final upsampling.
    Weights and activations are in channels-last memory. Another `Model.encoder` gives a network with which SegNeXt is
    compared. Raises `ValueError` for an image smaller than 32 pixels.
    """

    def __init__(self, model: Model, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.config = model
        self.encoder: nn.Module
        self.decoder: nn.Module
        if model.encoder.startswith("segformer"):
            from segnext.segformer import segformer

            self.encoder, self.decoder = segformer(model, classes, dropout)
        else:
            self.encoder = _encoder(model)
            self.decoder = (MLPDecoder if model.decoder == "a" else HamDecoder)(model, classes, dropout)
        self.to(memory_format=torch.channels_last)

    def logits(self, x: Tensor) -> Tensor:
        """Scores before the final upsampling: `(B, 3, H, W) -> (B, classes, H/s, W/s)`, s = 8 for decoder (c)."""
        return self.decoder(self.encoder(_checked(x)))

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.logits(x), x.shape[2:])


class MSCANClassifier(nn.Module):
    """The encoder with a linear layer on the mean of stage 4: `(B, 3, H, W) -> (B, classes)`.

    The network of Table 3 and of pretraining. The paper is silent; as in VAN's classification code, which the authors
    used (issue 33), it takes the mean of the normalised pixels, then one linear layer. Raises `ValueError` for an
    encoder other than MSCAN and VAN, and for an image smaller than 32 pixels.
    """

    def __init__(self, model: Model, classes: int = 1000) -> None:
        super().__init__()
        if model.encoder not in ("mscan", "van"):
            raise ValueError(f"Model.encoder: {model.encoder!r} has no classifier here; mscan and van have")
        self.config = model
        self.encoder = MSCAN(model)
        self.classifier = nn.Linear(model.widths.channels[-1], classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)  # VAN's classification code
        nn.init.zeros_(self.classifier.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.encoder(_checked(x))[-1].mean(dim=(2, 3)))


def build_network(
    model: Model, classes: int, task: str = "segmentation", dropout: float = 0.1
) -> SegNeXt | MSCANClassifier:
    """Build the network of a model value for a task. Only this function turns values into networks.

    Raises `ValueError` for an unknown task.
    """
    match task:
        case "segmentation":
            return SegNeXt(model, classes, dropout)
        case "classification":
            return MSCANClassifier(model, classes)
        case _:
            raise ValueError(f"task: {task!r} is not one of {', '.join(TASKS)}")


def _encoder(model: Model) -> nn.Module:
    if model.encoder.startswith("convnext"):
        from segnext.convnext import ConvNeXt

        return ConvNeXt(model)
    return MSCAN(model)


def _checked(x: Tensor) -> Tensor:
    if min(x.shape[2:]) < 32:
        raise ValueError(f"images of {x.shape[2]}x{x.shape[3]} pixels are too small: stage 4 needs at least 32x32")
    return x.contiguous(memory_format=torch.channels_last)
