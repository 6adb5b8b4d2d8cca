"""What every kernel's caller needs: memory in channels-last order, autocast's dtype, the device, a tile's channels."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
from torch import Tensor


def autocast_as(x: Tensor) -> Tensor:
    """x in the dtype that autocast would give `F.conv2d`."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def empty_like(x: Tensor) -> Tensor:
    """Memory for a result of x's shape and dtype, channels-last."""
    return torch.empty_like(x, memory_format=torch.channels_last)


def channel_tile(channels: int) -> int:
    """Channels of a program: 64 where they divide (128 bytes in half precision), else what wastes least."""
    return next((tc for tc in (64, 32, 16) if channels % tc == 0), min(64, triton.next_power_of_2(channels)))


def on_device_of(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the tensors' is."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def channels_last(x: Tensor) -> Tensor:
    """The same values in channels-last memory."""
    return x.contiguous(memory_format=torch.channels_last)
