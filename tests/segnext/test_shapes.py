"""Every shape that a docstring of the network states is executed, and no public module goes without one."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from conftest import needs
from torch import Tensor, nn

import segnext
from segnext import Model, MSCANClassifier, SegNeXt
from segnext.context import EMA, ChannelsLastGroupNorm, CrissCross, MSCAHead, NonLocal, context_module
from segnext.convnext import ConvNeXt
from segnext.convolutions import DepthwiseConv2d, PointwiseConv2d
from segnext.decoder import Decoder, HamDecoder, MLPDecoder, resize
from segnext.distributed import GlobalBatchNorm2d
from segnext.fast.upsampling import likeliest
from segnext.ham import NMF, Hamburger
from segnext.look.gradcam import grad_cam
from segnext.msca import LKA, MSCA
from segnext.mscan import MSCAN, Attention, Block, ChannelNorm, FeedForward, Stage
from segnext.segformer import SegFormerEncoder, segformer
from segnext.stochastic import ChannelDropout, DropPath, Stochastic
from segnext.testing.fusing import Convolution, FoldedBlock, FoldedMSCA

MICRO = Model("micro")
SEGFORMER = Model(encoder="segformer_b0")
CONVNEXT = Model("micro", encoder="convnext_tiny")
C, D = 64, 48
NUMBERS = {"B": 2, "H": 64, "W": 96, "C": C, "D": D, "classes": 5, "s": 8, "size": (7, 13), "ceil": math.ceil}


def widths(model: Model) -> dict[str, int]:
    return {f"C{stage}": channels for stage, channels in enumerate(model.widths.channels, start=1)}


def listed(module: Callable[[list[Tensor]], Any]) -> Callable[..., Any]:
    return lambda *features: module(list(features))


def msca() -> MSCA:
    return MSCA(C, (7, 11, 21), channel_mixing=True, attention=True)


# What states a shape -> how to build something that is called with tensors of the shapes on the left of its arrow, and
# what its letters stand for beside NUMBERS.
CASES: dict[Any, tuple[Callable[[], Callable[..., Any]], dict[str, Any]]] = {
    DepthwiseConv2d: (lambda: DepthwiseConv2d(C, 7, 1), {}),
    PointwiseConv2d: (lambda: PointwiseConv2d(C, D), {}),
    MSCA: (msca, {}),
    LKA: (lambda: LKA(C), {}),
    ChannelNorm: (lambda: ChannelNorm(C), {}),
    Attention: (lambda: Attention(C, msca()), {}),
    FeedForward: (lambda: FeedForward(C, 4), {}),
    Block: (lambda: Block(C, 4, 0.5, MICRO), {}),
    FoldedBlock: (lambda: FoldedBlock(Block(C, 4, 0.5, MICRO)), {}),
    Convolution: (lambda: Convolution(C, D, 3, stride=2, padding=1), {"s": 2, "H": 63, "W": 33}),
    FoldedMSCA: (lambda: FoldedMSCA(msca()), {}),
    Stage: (lambda: Stage(C, D, 4, [0.0, 0.1], MICRO), {"s": 2, "H": 63, "W": 33}),
    MSCAN: (lambda: MSCAN(MICRO), widths(MICRO)),
    ConvNeXt: (lambda: ConvNeXt(CONVNEXT), widths(CONVNEXT)),
    SegFormerEncoder: (lambda: segformer(SEGFORMER, 5, 0.1)[0], widths(SEGFORMER)),
    NMF: (lambda: NMF(D, 8), {}),
    Hamburger: (lambda: Hamburger(C, 8, nn.GroupNorm(32, C)), {}),
    ChannelsLastGroupNorm: (lambda: ChannelsLastGroupNorm(32, C), {}),
    NonLocal: (lambda: NonLocal(C, nn.GroupNorm(32, C)), {}),
    CrissCross: (lambda: CrissCross(C), {}),
    EMA: (lambda: EMA(C, nn.GroupNorm(32, C)), {}),
    EMA.reconstruct: (lambda: EMA(C, nn.GroupNorm(32, C)).reconstruct, {}),
    MSCAHead: (lambda: MSCAHead(C), {}),
    GlobalBatchNorm2d: (lambda: GlobalBatchNorm2d(C), {}),
    context_module: (lambda: context_module(C, MICRO), {}),
    likeliest: (lambda: lambda x: likeliest(x, [(64, 96)]), {"h": 8, "w": 12}),
    resize: (lambda: lambda x: resize(x, NUMBERS["size"]), {}),
    HamDecoder: (lambda: listed(HamDecoder(MICRO, 5, 0.1)), widths(MICRO)),
    MLPDecoder: (lambda: listed(MLPDecoder(Model("micro", decoder="a"), 5, 0.1)), {**widths(MICRO), "s": 4}),
    DropPath: (lambda: DropPath(0.5), {}),
    ChannelDropout: (lambda: ChannelDropout(C, 0.5), {}),
    SegNeXt: (lambda: SegNeXt(MICRO, 5), {"H": 65, "W": 33}),
    SegNeXt.logits: (lambda: SegNeXt(MICRO, 5).logits, {}),
    MSCANClassifier: (lambda: MSCANClassifier(MICRO, 5), {"H": 65, "W": 33}),
}
# Executed through HamDecoder, MLPDecoder; has no forward of its own; needs a gradient: tests/reports/test_pictures.py.
ABSTRACT = {Decoder, Decoder.context, Stochastic, grad_cam}

SHAPE = r"\([^`]*\)"
LINE = re.compile(rf"`({SHAPE}) -> ({SHAPE})`")


def stated(thing: Any) -> re.Match[str] | None:
    """The shape line of a docstring, of a class or of what it inherits from."""
    documented = inspect.getmro(thing) if inspect.isclass(thing) else (thing,)
    found = (LINE.search(inspect.cleandoc(each.__doc__ or "")) for each in documented)
    return next(filter(None, found), None)


def public() -> Iterator[Any]:
    """Public classes, functions and methods of the network; data and kernels have tests of their own."""
    for info in pkgutil.walk_packages(segnext.__path__, "segnext."):
        if info.name.startswith(("segnext.data", "segnext.fast")) and info.name != "segnext.fast.upsampling":
            continue
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != info.name:
                continue
            yield thing
            if inspect.isclass(thing):
                yield from (f for n, f in vars(thing).items() if inspect.isfunction(f) and not n.startswith("_"))


def shapes(text: str, numbers: dict[str, Any]) -> list[tuple[int, ...]]:
    value = eval(text, {"__builtins__": {}}, numbers)
    each = value if isinstance(value[0], tuple) else (value,)
    assert all(size == int(size) for shape in each for size in shape), value
    return [tuple(int(size) for size in shape) for shape in each]


def test_no_shape_and_no_public_module_escapes():
    modules = {each for each in public() if inspect.isclass(each) and issubclass(each, nn.Module)}
    with_line = {each for each in public() if stated(each)}
    assert modules - ABSTRACT <= with_line, "a public module states no shape"
    assert with_line - ABSTRACT == CASES.keys(), "a stated shape is not executed"


EXTRA = {SegFormerEncoder: needs("segformer", "transformers")}


@pytest.mark.parametrize(
    "thing",
    [pytest.param(thing, marks=EXTRA.get(thing, ())) for thing in CASES],
    ids=lambda thing: thing.__qualname__,
)
@pytest.mark.parametrize("training", [False, True])
def test_a_stated_shape_is_what_comes_out(thing: Any, training: bool):
    build, letters = CASES[thing]
    function = build()
    if isinstance(function, nn.Module):
        function.train(training)
    numbers = NUMBERS | letters
    line = stated(thing)
    assert line is not None
    entering, leaving = (shapes(text, numbers) for text in line.groups())
    found = function(*(torch.rand(shape) for shape in entering))
    assert [tuple(y.shape) for y in (found if isinstance(found, list) else [found])] == leaving
