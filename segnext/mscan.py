"""MSCAN, the convolutional encoder: Sec. 3.1, Fig. 2 (a), Table 2."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segnext.config import Model
from segnext.msca import MSCA, depthwise
from segnext.stochastic import DropPath

LAYER_SCALE = 1e-2  # Official code: mscan.py:131-135; absent from the paper


class Attention(nn.Module):
    """1x1, GELU, MSCA, 1x1 and a shortcut: `(B, C, H, W) -> (B, C, H, W)`.

    Fig. 2 (a); the shortcut is only in the code (mscan.py:104-109; the authors, issue 22: "follow the setting of VAN").
    """

    def __init__(self, channels: int, model: Model) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1)
        self.activation = nn.GELU()
        self.msca = MSCA(channels, model.branches, model.channel_mixing, model.attention)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.msca(self.activation(self.enter(x)))) + x


class FeedForward(nn.Sequential):
    """1x1 expansion, 3x3 depth-wise, GELU, 1x1 reduction: `(B, C, H, W) -> (B, C, H, W)`. Fig. 2 (a)."""

    def __init__(self, channels: int, ratio: int) -> None:
        hidden = channels * ratio
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.depthwise = depthwise(hidden, 3, 3)
        self.activation = nn.GELU()
        self.reduce = nn.Conv2d(hidden, channels, 1)


class Block(nn.Module):
    """A building block of MSCAN: `(B, C, H, W) -> (B, C, H, W)`. Fig. 2 (a); layer scale, drop path: official code."""

    def __init__(self, channels: int, ratio: int, drop_path: float, model: Model) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.attention = Attention(channels, model)
        self.norm2 = nn.BatchNorm2d(channels)
        self.feed_forward = FeedForward(channels, ratio)
        self.scale1 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.scale2 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.drop_path1 = DropPath(drop_path)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.scale1[:, None, None] * self.attention(self.norm1(x)))
        return x + self.drop_path2(self.scale2[:, None, None] * self.feed_forward(self.norm2(x)))


class Stage(nn.Module):
    """Down-sampling, blocks, and a LayerNorm over channels: `(B, C, H, W) -> (B, D, ceil(H/s), ceil(W/s))`, s = 4 or 2.

    Paper: each down-sampling is one 3x3 convolution with stride 2 and a BN. Official code: the first stage has two
    (mscan.py:42-50), and every stage ends in a LayerNorm (mscan.py:215).
    """

    def __init__(self, entering: int, channels: int, ratio: int, drop_paths: list[float], model: Model) -> None:
        super().__init__()
        if entering == 3:
            half = channels // 2
            layers = [*_downsample(entering, half), nn.GELU(), *_downsample(half, channels)]
        else:
            layers = _downsample(entering, channels)
        self.downsample = nn.Sequential(*layers)
        self.blocks = nn.Sequential(*(Block(channels, ratio, rate, model) for rate in drop_paths))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.downsample(x))
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # channels-last in memory: both permutes are views


def _downsample(entering: int, leaving: int) -> list[nn.Module]:
    return [nn.Conv2d(entering, leaving, 3, stride=2, padding=1), nn.BatchNorm2d(leaving)]


class MSCAN(nn.Module):
    """The encoder: `(B, 3, H, W) ->` the four stages' outputs, `(B, C_i, H/4, W/4)` down to `(B, C_4, H/32, W/32)`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        size = model.widths
        rates = torch.linspace(0, size.drop_path, sum(size.depths), device="cpu").split(size.depths)
        entering = (3, *size.channels[:-1])
        self.stages = nn.ModuleList(
            Stage(enter, channels, ratio, rate.tolist(), model)
            for enter, channels, ratio, rate in zip(entering, size.channels, size.expansion_ratios, rates, strict=True)
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _initialise(module: nn.Module) -> None:
    """Official code: convolutions normal with std sqrt(2 / fan-out), biases zero (mscan.py, init_weights)."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
