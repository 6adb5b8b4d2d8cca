"""Global context in the decoder: Ham (Sec. 3.2) and the modules that replace it in Table 5 and appendix Table 2.

A module replaces only the Hamburger; the decoder's squeezing and aligning convolutions stay. This reading gives the
printed parameters and FLOPs (`architectures.md`, section 2). Written from the modules' papers and measured costs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.config import Model
from segnext.convolutions import PointwiseConv2d
from segnext.distributed import average
from segnext.fast.choice import is_fast
from segnext.ham import Hamburger
from segnext.msca import MSCA
from segnext.mscan import Attention, initialise
from segnext.precision import full_precision


class ChannelsLastGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` that keeps channels-last memory on CUDA: `(B, C, H, W) -> (B, C, H, W)`."""

    def forward(self, x: Tensor) -> Tensor:
        if is_fast(x):
            from segnext.fast.group_norm import group_norm  # imports Triton

            return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return super().forward(x)


def head_norm(channels: int, model: Model) -> nn.GroupNorm | nn.BatchNorm2d:
    """The normalisation layer of the decoder. Official code: GN with 32 groups; the paper mentions only BN."""
    return ChannelsLastGroupNorm(32, channels) if model.head_norm == "gn" else nn.BatchNorm2d(channels)


def context_module(channels: int, model: Model) -> nn.Module:
    """The module between the squeezing and the aligning convolution: `(B, C, H, W) -> (B, C, H, W)`."""
    match model.context:
        case "ham":
            return Hamburger(channels, model.widths.nmf_rank, head_norm(channels, model), model.nmf_gradient)
        case "nl":
            return NonLocal(channels, head_norm(channels, model))
        case "cc":
            return CrissCross(channels)
        case "ema":
            return EMA(channels, head_norm(channels, model))
        case "msca":
            return MSCAHead(channels)
        case _:
            return nn.Identity()  # "none": the bare template, squeeze and align


class NonLocal(nn.Module):
    """`x + norm(Conv1x1(softmax(query key^T / sqrt(C/2)) value))`: `(B, C, H, W) -> (B, C, H, W)`; O(N^2) in N = H W.

    Table 5, "NL": Wang et al., "Non-local Neural Networks", embedded Gaussian. mmcv's module gives the printed costs:
    half the channels inside, three 1x1 convolutions with biases, scaled scores, a norm at the end.
    """

    def __init__(self, channels: int, norm: nn.GroupNorm | nn.BatchNorm2d) -> None:
        super().__init__()
        inner = channels // 2
        self.query = PointwiseConv2d(channels, inner)
        self.key = PointwiseConv2d(channels, inner)
        self.value = PointwiseConv2d(channels, inner)
        self.out = PointwiseConv2d(inner, channels, bias=False)
        self.norm = norm

    def initialise(self) -> None:
        """As in mmcv: std 0.01 for the projections, zero for the last norm, so that the module starts as identity."""
        for convolution in (self.query, self.key, self.value):
            nn.init.normal_(convolution.weight, 0, 0.01)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (project(x).flatten(2) for project in (self.query, self.key, self.value))  # (B, C/2, N)
        # Scale before the product: unscaled scores overflow float16.
        scores = (query / math.sqrt(query.shape[1])).mT @ key  # (B, N, N)
        gathered = torch.softmax(scores, dim=-1) @ value.mT  # (B, N, C/2)
        return x + self.norm(self.out(gathered.mT.unflatten(2, x.shape[2:])))


class CrissCross(nn.Module):
    """Each pixel attends to its row and column, twice with the same weights: `(B, C, H, W) -> (B, C, H, W)`.

    Table 5, "CC": Huang et al., "CCNet", recurrence 2, with C/8 channels in query and key; `x + scale * gathered` with
    a learnt scale that starts at 0. This is the standard definition. Its costs (27.4 M, 32.9 G) are not the printed
    27.8 M and 35.7 G, and neither are those of any other definition that we tried (`architectures.md`, section 2).
    """

    def __init__(self, channels: int, recurrence: int = 2) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.query = PointwiseConv2d(channels, channels // 8)
        self.key = PointwiseConv2d(channels, channels // 8)
        self.value = PointwiseConv2d(channels, channels)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):
            x = x + self.scale * self._gather(x)
        return x

    def _gather(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        query, key, value = self.query(x), self.key(x), self.value(x)
        # einsum, as in the public code: the paper's counting tool counts no FLOPs for it.
        column = torch.einsum("bchw,bciw->bhwi", query, key)
        row = torch.einsum("bchw,bchj->bhwj", query, key)
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[:, None]  # (H, 1, H): the row has the pixel, too
        weights = torch.softmax(torch.cat([column.masked_fill(itself, -math.inf), row], dim=-1), dim=-1)
        column, row = weights.split([height, x.shape[3]], dim=-1)
        return torch.einsum("bciw,bhwi->bchw", value, column) + torch.einsum("bchj,bhwj->bchw", value, row)


class EMA(nn.Module):
    """Reconstructs each pixel from K bases found by expectation maximisation: `(B, C, H, W) -> (B, C, H, W)`.

    Table 5, "EMA": Li et al., "Expectation-Maximization Attention Networks". `relu(x + norm(Conv1x1(relu(R))))` with R
    = bases codes^T of X = Conv1x1(x). E step: `codes = softmax(X^T bases)` over the K bases. M step: `bases = X codes`,
    the weighted mean of the pixels, scaled to unit length. Both are repeated `steps` times.

    As in the public code, no gradient flows through the iterations or into R. So the first convolution would never get
    one; it is frozen (`requires_grad` False: Table 5's 27.4 M are the trainable parameters). The bases are a buffer
    that training moves towards the mean bases of the batch; evaluation starts from it and does not change it.
    """

    def __init__(self, channels: int, norm: nn.Module, bases: int = 64, steps: int = 3, momentum: float = 0.9) -> None:
        super().__init__()
        self.steps = steps
        self.momentum = momentum
        self.mid = PointwiseConv2d(channels, channels).requires_grad_(False)
        self.out = nn.Sequential(PointwiseConv2d(channels, channels, bias=False), norm)
        self.bases: Tensor  # (1, C, K), columns of unit length
        self.register_buffer("bases", F.normalize(torch.randn(1, channels, bases), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.out(F.relu(self.reconstruct(self.mid(x)))))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Replace X by bases codes^T, in float32 or wider: `(B, C, H, W) -> (B, C, H, W)`."""
        with full_precision(x):
            pixels = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2)  # (B, C, N)
            bases = self.bases.to(pixels.dtype).expand(len(x), -1, -1)
            for _ in range(self.steps):
                codes = torch.softmax(torch.einsum("bcn,bck->bnk", pixels, bases), dim=-1)
                bases = torch.einsum("bcn,bnk->bck", pixels, F.normalize(codes, p=1, dim=1))
                bases = F.normalize(bases, dim=1)
            if self.training:
                mean = F.normalize(average(bases.mean(dim=0, keepdim=True)), dim=1)
                self.bases.mul_(self.momentum).add_(mean.to(self.bases.dtype), alpha=1 - self.momentum)
            return torch.einsum("bck,bnk->bcn", bases, codes).unflatten(2, x.shape[2:]).to(x.dtype)


class MSCAHead(nn.Module):
    """MSCAN's attention in the decoder: `(B, C, H, W) -> (B, C, H, W)`. Appendix Table 2, "MSCA head".

    1x1, GELU, MSCA, 1x1 and the shortcut, without a norm. It is always the full MSCA, whatever the encoder's switches.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels, MSCA(channels, (7, 11, 21), channel_mixing=True, attention=True))

    def initialise(self) -> None:
        """Ours: initialise it as the same module in the encoder."""
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)
