"""The memory that a forward pass needs, from the tensors of a pass on the meta device, which computes nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segnext.model import SegNeXt


class Footprint:
    """The memory of passes of a segmentation network in evaluation, without the weights."""

    def __init__(self, network: SegNeXt) -> None:
        self._network = copy.deepcopy(network).to("meta").eval()
        self._pixels, self._per_pixel = 0, 0.0

    def bytes(self, height: int, width: int) -> int:
        """Peak bytes of the tensors of one picture's pass, without operators' workspaces; sizes are in pixels.

        It measures again only for a picture larger than all before; a smaller one needs no more per pixel.
        """
        if height * width > self._pixels:
            self._pixels, self._per_pixel = height * width, self._measured(height, width) / (height * width)
        return math.ceil(self._per_pixel * height * width)

    @torch.inference_mode()
    def _measured(self, height: int, width: int) -> int:
        weights = [tensor for each in (self._network.parameters(), self._network.buffers()) for tensor in each]
        picture = torch.empty(1, 3, height, width, device="meta").to(memory_format=torch.channels_last)
        with _Living([*weights, picture]) as living:
            scores = self._network.logits(picture)
        widened = scores.shape[1] * scores.shape[2] * width * scores.element_size()  # by `segnext.fast.upsampling`
        return max(living.peak, living.now() + widened)


class _Living(TorchDispatchMode):
    """Tracks the bytes of tensors alive at the same time, except those that existed before."""

    def __init__(self, before: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._before = {tensor.untyped_storage()._cdata for tensor in before}
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._before:
                    self._living[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, self.now())
        return found

    def now(self) -> int:
        """Bytes alive at this moment."""
        self._living = {key: entry for key, entry in self._living.items() if not entry[0].expired()}
        return sum(size for _, size in self._living.values())
