"""MSCAN, the convolutional encoder (Sec. 3.1, Fig. 2 (a), Table 2), and VAN, whose costs Table 8 prints."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.config import Model
from segnext.convolutions import DepthwiseConv2d, PointwiseConv2d
from segnext.fast.choice import is_fast
from segnext.msca import LKA, MSCA
from segnext.stochastic import DropPath

LAYER_SCALE = 1e-2  # Official code: mscan.py:131-135; absent from the paper


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel: `(B, C, H, W) -> (B, C, H, W)`."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)  # channels-last in memory: both permutes are views
        return F.layer_norm(pixels, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """1x1, GELU, MSCA, 1x1 and a shortcut: `(B, C, H, W) -> (B, C, H, W)`.

    Fig. 2 (a); the shortcut is only in the code (mscan.py:104-109; the authors, issue 22: "follow the setting of VAN").
    `msca` is MSCA, or LKA as in Table 8.
    """

    def __init__(self, channels: int, msca: MSCA | LKA) -> None:
        super().__init__()
        self.enter = PointwiseConv2d(channels, channels)
        self.activation = nn.GELU()
        self.msca = msca
        self.leave = PointwiseConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.msca(self.activation(self.enter(x)))) + x


class FeedForward(nn.Sequential):
    """1x1 expansion, 3x3 depth-wise, GELU, 1x1 reduction: `(B, C, H, W) -> (B, C, H, W)`. Fig. 2 (a)."""

    def __init__(self, channels: int, ratio: int) -> None:
        hidden = channels * ratio
        super().__init__()
        self.expand = PointwiseConv2d(channels, hidden)
        self.depthwise = DepthwiseConv2d(hidden, 3, 3)
        self.activation = nn.GELU()
        self.reduce = PointwiseConv2d(hidden, channels)


class Block(nn.Module):
    """A building block of MSCAN: `(B, C, H, W) -> (B, C, H, W)`. Fig. 2 (a); layer scale, drop path: official code.

    With `encoder_norm="ln"` its two norms are LayerNorms, against which Sec. 3.1 argues.
    """

    def __init__(self, channels: int, ratio: int, drop_path: float, model: Model) -> None:
        super().__init__()
        self.norm1 = _block_norm(channels, model)
        self.attention = Attention(channels, _mixer(channels, model))
        self.norm2 = _block_norm(channels, model)
        self.feed_forward = FeedForward(channels, ratio)
        self.scale1 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.scale2 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.drop_path1 = DropPath(drop_path)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = _residual(x, self.attention(self.norm1(x)), self.scale1, self.drop_path1)
        return _residual(x, self.feed_forward(self.norm2(x)), self.scale2, self.drop_path2)


def _residual(x: Tensor, y: Tensor, scale: Tensor, drop_path: DropPath) -> Tensor:
    """`x + drop_path(scale * y)`: `(B, C, H, W) -> (B, C, H, W)`."""
    if is_fast(x):
        from segnext.fast.residual import scaled_residual  # imports Triton

        return scaled_residual(x, y, scale, drop_path.keep(x))
    return x + drop_path(scale[:, None, None] * y)


def _block_norm(channels: int, model: Model) -> nn.Module:
    return nn.BatchNorm2d(channels) if model.encoder_norm == "bn" else ChannelNorm(channels, eps=_epsilon(model))


def _mixer(channels: int, model: Model) -> MSCA | LKA:
    if model.mixer == "lka":
        return LKA(channels)
    return MSCA(channels, model.branches, model.channel_mixing, model.attention)


def _epsilon(model: Model) -> float:
    return 1e-6 if model.encoder == "van" else 1e-5  # Official code: van.py, partial(LayerNorm, eps=1e-6); mscan.py:215


class Stage(nn.Module):
    """Down-sampling, blocks, and a LayerNorm over channels: `(B, C, H, W) -> (B, D, ceil(H/s), ceil(W/s))`, s = 4 or 2.

    Paper: each down-sampling is one 3x3 convolution with stride 2 and a BN. Official code: MSCAN's first stage has two
    (mscan.py:42-50), VAN's one 7x7 with stride 4 (van.py), and every stage ends in a LayerNorm (mscan.py:215).
    """

    def __init__(self, entering: int, channels: int, ratio: int, drop_paths: list[float], model: Model) -> None:
        super().__init__()
        if entering == 3 and model.encoder == "van":
            convolution = nn.Conv2d(entering, channels, 7, stride=4, padding=3)
            # Named layers, because segnext.released_weights maps `0` and `1` of a first stage to MSCAN's stem.
            self.downsample = nn.Sequential(OrderedDict(proj=convolution, norm=nn.BatchNorm2d(channels)))
        elif entering == 3:
            half = channels // 2
            self.downsample = nn.Sequential(*_downsample(entering, half), nn.GELU(), *_downsample(half, channels))
        else:
            self.downsample = nn.Sequential(*_downsample(entering, channels))
        self.blocks = nn.Sequential(*(Block(channels, ratio, rate, model) for rate in drop_paths))
        self.norm = ChannelNorm(channels, eps=_epsilon(model))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(self.downsample(x)))


def _downsample(entering: int, leaving: int) -> list[nn.Module]:
    return [nn.Conv2d(entering, leaving, 3, stride=2, padding=1), nn.BatchNorm2d(leaving)]


class MSCAN(nn.Module):
    """The encoder: `(B, 3, H, W) -> (B, C1, H/4, W/4), (B, C2, H/8, W/8), (B, C3, H/16, W/16), (B, C4, H/32, W/32)`.

    Sizes are rounded up. With `encoder="van"` it is VAN (Guo et al., "Visual Attention Network"): the same four stages
    with LKA, another stem and another epsilon.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        size = model.widths
        rates = torch.linspace(0, size.drop_path, sum(size.depths), device="cpu").split(size.depths)
        entering = (3, *size.channels[:-1])
        self.stages = nn.ModuleList(
            Stage(enter, channels, ratio, rate.tolist(), model)
            for enter, channels, ratio, rate in zip(entering, size.channels, size.expansion_ratios, rates, strict=True)
        )
        self.apply(initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def initialise(module: nn.Module) -> None:
    """Initialise a convolution: normal weights with std sqrt(2 / fan-out), zero biases (official code: mscan.py)."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
