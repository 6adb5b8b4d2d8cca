"""The network as it is evaluated: norms and layer scales folded into the convolutions beside them, exactly.

BN in evaluation is a scale and a shift per channel. Before a 1x1 convolution, or after any, it is part of that
convolution; what is left of a block's shortcut is one multiply-add. What cannot be folded stays as it is.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segnext.msca import MSCA
from segnext.mscan import Block


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that gives the same to rounding, in fewer passes over memory."""
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        _fold(network)
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


def _fold(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Block) and isinstance(child.norm1, nn.BatchNorm2d):
            setattr(module, name, FoldedBlock(child))
        else:
            _fold(child)
    if isinstance(module, nn.Sequential):
        names = list(module._modules)
        for first, second in itertools.pairwise(names):
            convolution, norm = module._modules[first], module._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = fuse_conv_bn_eval(convolution, norm)
                module._modules[second] = nn.Identity()


class FoldedBlock(nn.Module):
    """A `Block` with BN in evaluation: `(B, C, H, W) -> (B, C, H, W)`.

    With the first norm n = a x + c and the layer scale s, `x + s (leave(...) + n) = (1 + s a) x + s (leave(...) + c)`.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        attention, feed_forward = block.attention, block.feed_forward
        scale, shift = _affine(block.norm1)
        self.keep = nn.Parameter((1 + block.scale1 * scale)[:, None, None].clone())
        self.enter = _before(scale, shift, attention.enter)
        self.activation = attention.activation
        self.msca = InPlaceMSCA(attention.msca) if isinstance(attention.msca, MSCA) else attention.msca
        self.leave = _after(attention.leave, block.scale1, block.scale1 * shift)
        self.expand = _before(*_affine(block.norm2), feed_forward.expand)
        self.depthwise = feed_forward.depthwise
        self.reduce = _after(feed_forward.reduce, block.scale2, torch.zeros_like(shift))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(self.leave(self.msca(self.activation(self.enter(x)))), x, self.keep)
        return self.reduce(self.activation(self.depthwise(self.expand(x)))).add_(x)


class InPlaceMSCA(nn.Module):
    """An `MSCA` without gradients; sums and product take no memory of their own: `(B, C, H, W) -> (B, C, H, W)`."""

    def __init__(self, msca: MSCA) -> None:
        super().__init__()
        self.local, self.strips, self.mix, self.attention = msca.local, msca.strips, msca.mix, msca.attention

    def forward(self, x: Tensor) -> Tensor:
        local = self.local(x)
        branches = [strip(local) for strip in self.strips.values()]
        for branch in branches:
            local += branch
        weights = self.mix(local)
        return weights.mul_(x) if self.attention else weights


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel of a BN in evaluation."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _before(scale: Tensor, shift: Tensor, convolution: nn.Conv2d) -> nn.Conv2d:
    """`convolution(scale x + shift)` as one 1x1 convolution (without padding, or the border would differ)."""
    assert convolution.kernel_size == (1, 1)
    assert convolution.bias is not None
    weight = convolution.weight.flatten(1)
    return _with(convolution, convolution.weight * scale[None, :, None, None], convolution.bias + weight @ shift)


def _after(convolution: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """`scale convolution(x) + shift` as one convolution."""
    assert convolution.bias is not None
    return _with(convolution, convolution.weight * scale[:, None, None, None], convolution.bias * scale + shift)


def _with(convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    made = copy.deepcopy(convolution)
    made.weight, made.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias.contiguous())
    return made
