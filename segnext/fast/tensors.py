"""What callers of the kernels share: channels-last memory, autocast's dtype, the device, the channels of a tile."""

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
    """An uninitialised tensor with x's shape and dtype, channels-last."""
    return torch.empty_like(x, memory_format=torch.channels_last)


def channel_tile(channels: int) -> int:
    """Channels per program: 64 (128 bytes in half precision) if they divide evenly, otherwise what wastes least."""
    return next((tc for tc in (64, 32, 16) if channels % tc == 0), min(64, triton.next_power_of_2(channels)))


def on_device_of(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context that makes x's device the current one, on which Triton launches, whatever the tensors' device."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def channels_last(x: Tensor) -> Tensor:
    """x in channels-last memory."""
    return x.contiguous(memory_format=torch.channels_last)
