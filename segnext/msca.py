"""Multi-scale convolutional attention, Eqs. 1-2 and Fig. 2 (b); large-kernel attention, "w/o MSCA" of Table 8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from segnext.fast.choice import is_fast


class DepthwiseConv2d(nn.Conv2d):
    """An `nn.Conv2d` with a group for each channel that keeps the size; on CUDA our own kernel computes it."""

    def forward(self, x: Tensor) -> Tensor:
        if is_fast(x):
            return fast_depthwise(self, x)
        return super().forward(x)


def fast_depthwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A depth-wise convolution of stride 1 that keeps the size, by our own kernel: `(B, C, H, W)`, the same."""
    from segnext.fast import depthwise as kernels  # imports Triton

    return kernels.depthwise(x, layer.weight, layer.bias, layer.dilation[0])


def depthwise(channels: int, height: int, width: int, dilation: int = 1) -> DepthwiseConv2d:
    """A depth-wise convolution that keeps the size. Official code: all encoder convolutions have biases."""
    padding = (height // 2 * dilation, width // 2 * dilation)
    return DepthwiseConv2d(channels, channels, (height, width), padding=padding, dilation=dilation, groups=channels)


def strips_are_fast(local: Tensor, branches: int) -> bool:
    """Whether `fast_strips` takes this `(B, C, H, W)` and so many branches."""
    return is_fast(local) and 1 <= branches <= 3


def fast_strips(local: Tensor, rows: Iterable[nn.Module], columns: Iterable[nn.Module]) -> Tensor:
    """`sum_i Scale_i(local)` of Eq. 1 from the 1xK and the Kx1 convolutions, all together: `(B, C, H, W)`, the same."""
    from segnext.fast.depthwise import strips  # imports Triton

    row_layers, column_layers = ([(layer.weight, layer.bias) for layer in part] for part in (rows, columns))
    return strips(local, row_layers, column_layers)  # type: ignore[arg-type]  # nn.Module has any attribute


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
    1x1. Table 8 puts it in the place of MSCA.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = depthwise(channels, 5, 5)
        self.dilated = depthwise(channels, 7, 7, dilation=3)
        self.combine = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.dilated(self.local(x))) * x
