"""Ham, the Hamburger of the decoder: global context from a non-negative matrix factorisation (Sec. 3.2).

Written from the papers (SegNeXt; Geng et al., "Is Attention Better Than Matrix Decomposition?") and from measurements
of the released code, without the Hamburger's public code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.convolutions import PointwiseConv2d
from segnext.precision import full_precision
from segnext.stochastic import Stochastic

EPSILON = 1e-6  # Official code: keeps the multiplicative updates from dividing by zero
INVERSE_TEMPERATURE = (
    1.0  # Official code: ham_head.py:107 forces 1, whatever the config says; the paper's FLOPs include the product
)


class NMF(Stochastic):
    """Replaces non-negative features by their rank-R reconstruction: `(B, D, H, W) -> (B, D, H, W)`.

    It factorises X (D x N, N = H W) into bases (D x R) codes^T (R x N) by multiplicative updates (Lee and Seung):
    `codes *= X^T bases / (codes bases^T bases)` and `bases *= X codes / (bases codes^T codes)`, always in float32 or
    wider. Official code: codes start at softmax(X^T bases), 6 steps in training and 7 in evaluation, then a last update
    of the codes. With `gradient="full"` the gradient flows through all steps (the PyTorch release, whose `no_grad` is
    commented out, ham_head.py:45); with `"one-step"` only through the last update and the reconstruction (JSeg;
    HamNet).
    """

    def __init__(
        self,
        channels: int,
        rank: int,
        steps: int = 6,
        evaluation_steps: int = 7,
        seed: int = 0,
        gradient: str = "full",
    ) -> None:
        super().__init__(channels * rank)
        self.gradient = gradient
        self.rank = rank
        self.steps = steps
        self.evaluation_steps = evaluation_steps
        self.evaluation_bases: Tensor
        self.register_buffer("evaluation_bases", torch.empty(1, channels, rank), persistent=False)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Draw the bases that every evaluation starts from; they are the same for every image."""
        generator = torch.Generator("cpu").manual_seed(seed)
        bases = torch.rand(self.evaluation_bases.shape, generator=generator, device="cpu")
        self.evaluation_bases.copy_(F.normalize(bases, dim=1))

    def initial_bases(self, batch: int, dim: int, rank: int, device: torch.device | None = None) -> Tensor:
        """Non-negative bases `(batch, dim, rank)` with columns of unit length. No other method creates bases.

        Official code: drawn anew in every pass, also at test time, so that two evaluations differ. Ours: drawn per
        sample in training (`segnext.stochastic`), and once from a seed for evaluation.
        """
        if not self.training:
            return self.evaluation_bases.expand(batch, dim, rank)
        device = device or self.evaluation_bases.device
        return F.normalize(self.uniform(batch, device).view(batch, dim, rank), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            batch, dim, height, width = x.shape
            pixels = x.to(torch.promote_types(x.dtype, torch.float32))
            pixels = pixels.permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, D): a view of channels-last memory
            seen = pixels if self.gradient == "full" else pixels.detach()
            bases = self.initial_bases(batch, dim, self.rank, x.device).to(pixels.dtype)
            codes = torch.softmax(INVERSE_TEMPERATURE * (seen @ bases), dim=-1)
            for _ in range(self.steps if self.training else self.evaluation_steps):
                codes = updated(codes, bases, seen)
                bases = updated(bases, codes, seen.mT)
            codes = updated(codes, bases, pixels)
            return (codes @ bases.mT).view(batch, height, width, dim).permute(0, 3, 1, 2).to(x.dtype)


def updated(factor: Tensor, other: Tensor, product: Tensor) -> Tensor:
    """One multiplicative update of `factor` in `product = factor other^T`; the same for codes and bases."""
    return factor * (product @ other) / (factor @ (other.mT @ other) + EPSILON)


class Hamburger(nn.Module):
    """`relu(x + norm(Conv1x1(NMF(relu(Conv1x1(x))))))`: `(B, C, H, W) -> (B, C, H, W)`. Official code: ham_head.py."""

    def __init__(self, channels: int, rank: int, norm: nn.Module, gradient: str = "full") -> None:
        super().__init__()
        self.enter = PointwiseConv2d(channels, channels)
        self.nmf = NMF(channels, rank, gradient=gradient)
        self.leave = nn.Sequential(PointwiseConv2d(channels, channels, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.leave(self.nmf(F.relu(self.enter(x)))))
