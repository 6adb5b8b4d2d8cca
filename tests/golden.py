"""The released code's weights, regenerated from key names alone (fixtures/golden: values measured on the release)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segnext.ham import NMF


def weights(keys: Path) -> dict[str, Tensor]:
    """A state dict under the released names: each tensor drawn from the CRC of its key."""
    state = {}
    for key, shape in json.loads(keys.read_text()).items():
        random = np.random.RandomState(zlib.crc32(key.encode()))
        normal = random.standard_normal(shape)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.long)
            continue
        if "running_var" in key:
            value = 0.5 + random.random_sample(shape)
        elif "running_mean" in key:
            value = 0.1 * normal
        elif "layer_scale" in key:
            value = 0.05 + 0.01 * normal
        elif len(shape) == 4:
            value = normal / np.sqrt(np.prod(shape[1:]))
        elif key.endswith(".weight"):
            value = 1 + 0.1 * normal
        else:
            value = 0.1 * normal
        state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state


def bases(self: NMF, batch: int, dim: int, rank: int, device: torch.device | None = None) -> Tensor:
    """Stands in for `NMF.initial_bases`: the bases that the golden values were measured with."""
    drawn = np.random.RandomState(7).random_sample((1, dim, rank)).astype(np.float32)
    return F.normalize(torch.from_numpy(drawn), dim=1).expand(batch, -1, -1)


def image(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, as the golden inputs were drawn."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
