"""torchvision's ConvNeXt as an encoder under SegNeXt's decoder, for the comparisons of Table 9 and Fig. 1."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import convnext

from segnext.config import Model
from segnext.mscan import ChannelNorm
from segnext.stochastic import DropPath


class ConvNeXt(nn.Module):
    """The encoder: `(B, 3, H, W) -> (B, C1, H/4, W/4), (B, C2, H/8, W/8), (B, C3, H/16, W/16), (B, C4, H/32, W/32)`.

    Liu et al., "A ConvNet for the 2020s", untrained. Sizes are rounded down, because patches do not overlap. Each
    output that the decoder reads passes through its own LayerNorm, as in ConvNeXt's segmentation code.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        size = model.widths
        build = {"convnext_tiny": convnext.convnext_tiny, "convnext_small": convnext.convnext_small}[model.encoder]
        layers = build(weights=None, stochastic_depth_prob=size.drop_path).features
        # torchvision has eight layers: stem, stage, then three times (down-sampling, stage).
        self.stages = nn.ModuleList(layers[i : i + 2] for i in range(0, 8, 2))
        self.norms = nn.ModuleList(
            ChannelNorm(channels, eps=1e-6) if stage in model.decoder_stages else nn.Identity()
            for stage, channels in enumerate(size.channels, start=1)
        )
        for block in self.modules():
            if isinstance(block, convnext.CNBlock):  # torchvision's own drop path draws from the global generator
                block.stochastic_depth = DropPath(block.stochastic_depth.p)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            features.append(norm(x))
        return features
