"""The kernels on a card, at the sizes of T and L, against float64 on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segnext.fast.choice import FAST
from segnext.training.segmentation import segmentation_loss

ON_CPU = os.environ.get("SEGNEXT_GPU_TESTS_ON") == "cpu"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not FAST, reason="Triton is not installed or SEGNEXT_PLAIN=1: no kernel to test"),
    pytest.mark.skipif(ON_CPU, reason="on a CPU tests/segnext/test_fast_kernels.py interprets the kernels"),
]

ROUNDING = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
DTYPES = pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)


def image(*shape: int, dtype: torch.dtype, device: str = "cuda") -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=generator).to(device, dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def parameters(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(shapes))
    return [(torch.randn(shape, generator=generator) / 5).cuda().requires_grad_() for shape in shapes]


def exact(leaves: list[Tensor]) -> list[Tensor]:
    return [leaf.detach().cpu().double().requires_grad_() for leaf in leaves]


def same(found: Tensor, expected: Tensor, rounding: float) -> None:
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=rounding * expected.abs().max().item())


def compared(
    call: Callable[..., Tensor], plain: Callable[..., Tensor], leaves: list[Tensor], dtype: torch.dtype
) -> None:
    """Value and gradients; the same bits twice; under `torch.compile`; in a CUDA graph."""
    like = exact(leaves)
    expected = plain(*like)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(call(*leaves).dtype)
    wanted = torch.autograd.grad(expected, like, direction.double())
    direction = direction.cuda()

    def step(leaves: list[Tensor]) -> list[Tensor]:
        found = call(*leaves)
        return [found.detach(), *torch.autograd.grad(found, leaves, direction)]

    found = step(leaves)
    for one, other in zip(found, [expected.detach(), *wanted], strict=True):
        same(one, other, ROUNDING[dtype])
    assert all(torch.equal(one, again) for one, again in zip(found, step(leaves), strict=True))

    compiled = torch.compile(call, fullgraph=True)(*leaves)
    outputs = [compiled.detach(), *torch.autograd.grad(compiled, leaves, direction)]
    for one, other in zip(outputs, found, strict=True):
        same(one, other.cpu().double(), ROUNDING[dtype])

    del compiled
    fresh = [leaf.detach().clone().requires_grad_() for leaf in leaves]  # whose graph no other stream has seen
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(fresh)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        held = step(fresh)
    for one in held:
        one.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(one, other) for one, other in zip(held, found, strict=True))


@DTYPES
@pytest.mark.parametrize(
    ("channels", "side", "kernel", "dilation"),
    [(32, 128, (5, 5), 1), (160, 32, (5, 5), 1), (256, 64, (3, 3), 1), (64, 61, (7, 7), 3), (48, 33, (3, 3), 1)],
    ids=str,
)
def test_a_depthwise_convolution(channels: int, side: int, kernel: tuple[int, int], dilation: int, dtype: torch.dtype):
    from segnext.fast.depthwise import depthwise

    padding = tuple(k // 2 * dilation for k in kernel)
    leaves = [image(2, channels, side, side + 3, dtype=dtype), *parameters((channels, 1, *kernel), (channels,))]
    compared(
        lambda x, w, b: depthwise(x, w, b, dilation),
        lambda x, w, b: F.conv2d(x, w, b, padding=padding, dilation=dilation, groups=channels),
        leaves,
        dtype,
    )


@DTYPES
@pytest.mark.parametrize(("batch", "channels", "side"), [(2, 32, 128), (3, 64, 63), (4, 320, 32), (2, 512, 16)])
@pytest.mark.parametrize("branches", [(7, 11, 21), (11, 21)], ids=str)
def test_the_strips(batch: int, channels: int, side: int, branches: tuple[int, ...], dtype: torch.dtype):
    from segnext.fast.depthwise import strips

    def call(x: Tensor, *layers: Tensor) -> Tensor:
        rows = [(layers[i], layers[i + 1]) for i in range(0, len(layers), 4)]
        columns = [(layers[i + 2], layers[i + 3]) for i in range(0, len(layers), 4)]
        return strips(x, rows, columns)

    def plain(x: Tensor, *layers: Tensor) -> Tensor:
        total = x
        for i, k in zip(range(0, len(layers), 4), branches, strict=True):
            half = F.conv2d(x, layers[i], layers[i + 1], padding=(0, k // 2), groups=channels)
            total = total + F.conv2d(half, layers[i + 2], layers[i + 3], padding=(k // 2, 0), groups=channels)
        return total

    shapes = [shape for k in branches for shape in ((channels, 1, 1, k), (channels,), (channels, 1, k, 1), (channels,))]
    compared(call, plain, [image(batch, channels, side, side, dtype=dtype), *parameters(*shapes)], dtype)


@DTYPES
@pytest.mark.parametrize(
    ("classes", "low", "high"),
    [(150, (64, 64), (512, 512)), (19, (33, 17), (97, 130)), (2, (8, 8), (5, 64)), (171, (9, 9), (72, 71))],
    ids=str,
)
def test_the_loss(classes: int, low: tuple[int, int], high: tuple[int, int], dtype: torch.dtype):
    from segnext.fast.cross_entropy import cross_entropy

    labels = torch.randint(classes, (2, *high), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels[:, ::3, ::2] = 255
    on_card = labels.cuda()
    compared(
        lambda scores: cross_entropy(scores, on_card),
        lambda scores: F.cross_entropy(
            F.interpolate(scores, high, mode="bilinear", align_corners=False),
            labels.long(),
            ignore_index=255,
            reduction="sum",
        ),
        [image(2, classes, *low, dtype=dtype)],
        dtype,
    )


def test_a_label_that_is_no_class_makes_the_loss_nan():
    labels = torch.full((1, 64, 64), 9, dtype=torch.uint8, device="cuda")
    assert segmentation_loss(image(1, 5, 8, 8, dtype=torch.float32), labels).isnan()


def test_a_scaled_loss_in_float16_keeps_its_gradient():
    scores = image(1, 5, 8, 8, dtype=torch.float16)
    labels = torch.ones(1, 64, 64, dtype=torch.uint8, device="cuda")
    (plain,) = torch.autograd.grad(segmentation_loss(scores, labels), scores)
    (scaled,) = torch.autograd.grad(segmentation_loss(scores, labels) * 65536, scores)
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled.float() / 65536, plain.float(), rtol=2e-3, atol=1e-6)
