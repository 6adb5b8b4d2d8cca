"""Multi-scale convolutional attention (Eqs. 1-2, Fig. 2 (b)), and large-kernel attention ("w/o MSCA" of Table 8)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segnext.convolutions import DepthwiseConv2d, PointwiseConv2d, fast_strips, strips_are_fast


class MSCA(nn.Module):
    """`Att = Conv1x1(sum_i Scale_i(DW-Conv(F)))`, `Out = Att * F`; `(B, C, H, W) -> (B, C, H, W)`.

    Eqs. 1-2. DW-Conv is 5x5 (Fig. 2; the text does not say); Scale_0 is the identity, Scale_i a 1xK and a Kx1 strip
    (official code: mscan.py:62-94). Table 6 switches off branches, the 1x1 convolution and the product.
    """

    def __init__(self, channels: int, branches: Sequence[int], channel_mixing: bool, attention: bool) -> None:
        super().__init__()
        self.local = DepthwiseConv2d(channels, 5, 5)
        self.strips = nn.ModuleDict(
            {str(k): nn.Sequential(DepthwiseConv2d(channels, 1, k), DepthwiseConv2d(channels, k, 1)) for k in branches}
        )
        self.mix = PointwiseConv2d(channels, channels) if channel_mixing else nn.Identity()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        local = self.local(x)
        if strips_are_fast(local, len(self.strips)):
            rows, columns = zip(*(strip.children() for strip in self.strips.values()), strict=True)
            scales = fast_strips(local, rows, columns)
        else:
            scales = local  # Scale_0
            for strip in self.strips.values():
                scales = scales + strip(local)
        weights = self.mix(scales)
        return weights * x if self.attention else weights


class LKA(nn.Module):
    """`Att = Conv1x1(DW-D-Conv(DW-Conv(F)))`, `Out = Att * F`; `(B, C, H, W) -> (B, C, H, W)`.

    VAN's large-kernel attention (Guo et al., "Visual Attention Network", Eqs. 1-2): 5x5, then 7x7 with dilation 3, then
    1x1. It replaces MSCA in Table 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = DepthwiseConv2d(channels, 5, 5)
        self.dilated = DepthwiseConv2d(channels, 7, 7, dilation=3)
        self.combine = PointwiseConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.dilated(self.local(x))) * x
