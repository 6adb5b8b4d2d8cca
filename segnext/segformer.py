"""SegFormer, for the costs printed beside SegNeXt's in Table 9 and Fig. 1: built by `transformers`, without a download.

Needs the extra `segformer` (`pip install 'segnext-study[segformer]'`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segnext.config import Model
from segnext.stochastic import ChannelDropout


class SegFormerEncoder(nn.Module):
    """The encoder: `(B, 3, H, W) -> (B, C1, H/4, W/4), (B, C2, H/8, W/8), (B, C3, H/16, W/16), (B, C4, H/32, W/32)`.

    The Mix Transformer of Xie et al., "SegFormer", untrained. Sizes are rounded up. Attention is not fused, as in the
    public code, so that its products can be counted. Drop path draws from torch's global generator.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.transformer(x, output_hidden_states=True, return_dict=True).hidden_states)


def segformer(model: Model, classes: int, dropout: float) -> tuple[SegFormerEncoder, nn.Module]:
    """The encoder and SegFormer's own decoder, which turns the four stages into scores at a quarter of the size.

    Raises `ModuleNotFoundError`, naming the extra to install, if `transformers` is missing.
    """
    try:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ModuleNotFoundError(
            f"Model.encoder {model.encoder!r} needs transformers: pip install 'segnext-study[segformer]'",
            name="transformers",
        ) from error
    size = model.widths
    config: Any = SegformerConfig(
        hidden_sizes=list(size.channels),
        depths=list(size.depths),
        mlp_ratios=list(size.expansion_ratios),
        num_attention_heads=[1, 2, 5, 8],  # SegFormer, Table 6; heads and reductions are the same for B0 to B5
        sr_ratios=[8, 4, 2, 1],
        decoder_hidden_size=size.decoder_channels,
        drop_path_rate=size.drop_path,
        num_labels=classes,
        attn_implementation="eager",
    )
    network = SegformerForSemanticSegmentation(config)
    network.decode_head.dropout = ChannelDropout(size.decoder_channels, dropout)
    return SegFormerEncoder(network.segformer), network.decode_head
