"""The network for evaluation, with norms and layer scales folded exactly into neighbouring convolutions.

In evaluation BN is a scale and a shift per channel. If it precedes a 1x1 convolution or follows any, it can be folded
into that convolution; the shortcut of a block is then one product and one sum. Everything else stays as it is.
"""

from __future__ import annotations

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segnext.convolutions import (
    DepthwiseConv2d,
    PointwiseConv2d,
    fast_depthwise,
    fast_pointwise,
    fast_strips,
    strips_are_fast,
)
from segnext.fast.choice import is_fast
from segnext.msca import MSCA
from segnext.mscan import Block

_ONEDNN = torch.backends.mkldnn.is_available()  # False on CPUs without oneDNN, where evaluation is only slower


def fuse_for_inference(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that gives the same output to rounding, with fewer passes over memory."""
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        _fold(network)
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


def _fold(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Block) and isinstance(child.norm1, nn.BatchNorm2d):
            setattr(module, name, FoldedBlock(child))
        elif type(child) in (nn.Conv2d, DepthwiseConv2d, PointwiseConv2d):
            assert isinstance(child, nn.Conv2d)
            setattr(module, name, _fused(child))
        else:
            _fold(child)
    if isinstance(module, nn.Sequential):
        names = list(module._modules)
        for first, second in itertools.pairwise(names):
            convolution, norm = module._modules[first], module._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = fuse_conv_bn_eval(convolution, norm)
                module._modules[second] = nn.Identity()


class Convolution(nn.Conv2d):
    """A convolution and the operation after it in one pass: `(B, C, H, W) -> (B, D, ceil(H/s), ceil(W/s))`.

    s is its stride; it has no gradients. It returns `gelu(conv)` if `gelu` is set, `conv + plus`, written over `plus`,
    or `conv * times`. On a CPU it calls oneDNN's operators, which `torch.compile` uses, too: with one thread, PyTorch's
    own path for 1x1 convolutions is slower.
    """

    gelu = False

    def forward(self, x: Tensor, plus: Tensor | None = None, times: Tensor | None = None) -> Tensor:
        if not (_ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and isinstance(self.padding, tuple)):
            alone = self.groups == self.in_channels == self.out_channels and self.stride == (1, 1)
            if alone and is_fast(x):
                y = fast_depthwise(self, x)
            elif self.kernel_size == self.stride == (1, 1) and is_fast(x):
                y = fast_pointwise(self, x)
            else:
                y = super().forward(x)
            y = F.gelu(y) if self.gelu else y
            return y.mul_(times) if times is not None else y if plus is None else plus.add_(y)
        onednn = torch.ops.mkldnn
        layer = (self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        if plus is not None:
            return onednn._convolution_pointwise_.binary(plus, x, *layer, "add", None, None, [], None)
        if times is not None and x.shape[2:] != (1, 1):
            return onednn._convolution_pointwise.binary(x, times, *layer, "mul", None, None, [], None)
        y = onednn._convolution_pointwise(x, *layer, "gelu" if self.gelu else "none", [], "none")
        return y if times is None else y.mul_(times)  # torch 2.11 has no fused product for a single pixel


def _fused(convolution: nn.Conv2d, gelu: bool = False) -> Convolution:
    """Turn a convolution into a `Convolution` in place, because constructing one would draw initial weights."""
    convolution.__class__ = Convolution
    assert isinstance(convolution, Convolution)
    convolution.gelu = gelu
    return convolution


class FoldedBlock(nn.Module):
    """A `Block` with BN in evaluation: `(B, C, H, W) -> (B, C, H, W)`.

    With the first norm n = a x + c and the layer scale s, `x + s (leave(...) + n) = (1 + s a) x + s (leave(...) + c)`.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        attention, feed_forward = block.attention, block.feed_forward
        scale, shift = _affine(block.norm1)
        self.keep = nn.Parameter((1 + block.scale1 * scale)[:, None, None].clone())
        self.enter = _fused(_before(scale, shift, attention.enter), gelu=True)
        self.msca = FoldedMSCA(attention.msca) if isinstance(attention.msca, MSCA) else attention.msca
        self.leave = _fused(_after(attention.leave, block.scale1, block.scale1 * shift))
        self.expand = _fused(_before(*_affine(block.norm2), feed_forward.expand))
        self.depthwise = _fused(feed_forward.depthwise, gelu=True)
        self.reduce = _fused(_after(feed_forward.reduce, block.scale2, torch.zeros_like(shift)))
        _fold(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.leave(self.msca(self.enter(x)), plus=x * self.keep)
        return self.reduce(self.depthwise(self.expand(x)), plus=x)


class FoldedMSCA(nn.Module):
    """An `MSCA` whose sums and product are computed in place: `(B, C, H, W) -> (B, C, H, W)`."""

    def __init__(self, msca: MSCA) -> None:
        super().__init__()
        self.local, self.mix, self.attention = msca.local, msca.mix, msca.attention
        strips = [list(strip.children()) for strip in msca.strips.values()]
        self.rows, self.columns = (nn.ModuleList(strip[place] for strip in strips) for place in (0, 1))
        _fold(self)

    def forward(self, x: Tensor) -> Tensor:
        scales = self.local(x)
        if strips_are_fast(scales, len(self.rows)):
            return self._mixed(fast_strips(scales, self.rows, self.columns), x)
        halves = [row(scales) for row in self.rows]
        for column, half in zip(self.columns, halves, strict=True):
            scales = column(half, plus=scales)
        return self._mixed(scales, x)

    def _mixed(self, scales: Tensor, x: Tensor) -> Tensor:
        if not self.attention:
            return self.mix(scales)
        return self.mix(scales, times=x) if isinstance(self.mix, Convolution) else scales.mul_(x)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel of a BN in evaluation."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _before(scale: Tensor, shift: Tensor, convolution: nn.Conv2d) -> nn.Conv2d:
    """`convolution(scale x + shift)` as one 1x1 convolution; with padding the border would differ."""
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
