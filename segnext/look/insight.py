"""What happens inside a trained network: how far it sees, and how Ham factorises (Secs. 3.1, 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segnext.ham import INVERSE_TEMPERATURE, NMF, updated

Map = npt.NDArray[np.float32]


def effective_receptive_field(encoder: nn.Module, side: int, samples: int = 16, stage: int = 4, seed: int = 0) -> Map:
    """The influence of each input pixel on the middle of a stage's output: `(side, side)`, sums to 1.

    Luo et al., "Understanding the Effective Receptive Field": the absolute gradient of the sum of channels at the
    middle, summed over colours and averaged over `samples` inputs of normal noise. It leaves the encoder in evaluation
    mode. Raises `ValueError` for a side without a middle at stride 32, because convolutions are centred on multiples of
    32.
    """
    if side % 64 != 1:
        raise ValueError(f"side: {side} is not a multiple of 64 and one more, such as 257")
    encoder.eval()
    device = next(encoder.parameters()).device
    generator = torch.Generator().manual_seed(seed)  # the same noise on every device
    total = torch.zeros(side, side, dtype=torch.float64, device=device)
    for _ in range(samples):
        noise = torch.randn(1, 3, side, side, generator=generator).to(device).requires_grad_()
        output = list(encoder(noise))[stage - 1]
        height, width = output.shape[2] // 2, output.shape[3] // 2
        (gradient,) = torch.autograd.grad(output[0, :, height, width].sum(), noise)
        total += gradient[0].abs().sum(dim=0).double()
    found: Map = (total / total.sum()).float().cpu().numpy()
    return found


def reach(field: Map, share: float) -> int:
    """Pixels from the middle to the edge of the smallest centred square that holds this share of a field."""
    middle = field.shape[0] // 2
    for half in range(middle):
        if float(field[middle - half : middle + half + 1, middle - half : middle + half + 1].sum()) >= share:
            return half
    return middle


@torch.no_grad()
def bases_evolution(nmf: NMF, x: Tensor) -> tuple[Map, list[float]]:
    """Ham's factorisation of one image: codes before and after every update, and the relative error of each.

    `(1, D, H, W) ->` codes `(steps + 2, R, H, W)` and as many errors |X - bases codes^T| / |X|. The updates are those
    of `NMF.forward` in evaluation, and the last gives its result.
    """
    dim, height, width = x.shape[1:]
    pixels = x.float().permute(0, 2, 3, 1).flatten(1, 2)
    bases = nmf.initial_bases(1, dim, nmf.rank).float()
    codes = torch.softmax(INVERSE_TEMPERATURE * (pixels @ bases), dim=-1)
    seen, errors = [codes], [_error(pixels, bases, codes)]
    for _ in range(nmf.evaluation_steps):
        codes = updated(codes, bases, pixels)
        bases = updated(bases, codes, pixels.mT)
        seen.append(codes)
        errors.append(_error(pixels, bases, codes))
    codes = updated(codes, bases, pixels)
    maps = torch.cat([*seen, codes]).mT.reshape(len(seen) + 1, nmf.rank, height, width)
    return maps.cpu().numpy(), [*errors, _error(pixels, bases, codes)]


def _error(pixels: Tensor, bases: Tensor, codes: Tensor) -> float:
    return float((pixels - codes @ bases.mT).norm() / pixels.norm())
