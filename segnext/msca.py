"""Multi-scale convolutional attention: Eqs. 1-2 and Fig. 2 (b)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def depthwise(channels: int, height: int, width: int) -> nn.Conv2d:
    """A depth-wise convolution that keeps the size. Official code: all encoder convolutions have biases."""
    return nn.Conv2d(channels, channels, (height, width), padding=(height // 2, width // 2), groups=channels)


class MSCA(nn.Module):
    """`Att = Conv1x1(sum_i Scale_i(DW-Conv(F)))`, `Out = Att * F`; `(B, C, H, W) -> (B, C, H, W)`.

    Eqs. 1-2. DW-Conv is 5x5 (Fig. 2; the text does not say); Scale_0 is the identity, Scale_i a 1xK and a Kx1 strip
    (official code: mscan.py:62-94). Table 6 switches off branches, the 1x1 convolution and the product.
    """

    def __init__(self, channels: int, branches: Sequence[int], channel_mixing: bool, attention: bool) -> None:
        super().__init__()
        self.local = depthwise(channels, 5, 5)
        self.strips = nn.ModuleDict(
            {str(k): nn.Sequential(depthwise(channels, 1, k), depthwise(channels, k, 1)) for k in branches}
        )
        self.mix = nn.Conv2d(channels, channels, 1) if channel_mixing else nn.Identity()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        local = self.local(x)
        scales = local  # Scale_0
        for strip in self.strips.values():
            scales = scales + strip(local)
        weights = self.mix(scales)
        return weights * x if self.attention else weights
