"""What is computed faster is the same: folded networks, upsampling in blocks, the loss that never holds all scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segnext import Model, SegNeXt
from segnext.convolutions import DepthwiseConv2d
from segnext.fast.depthwise_cpu import depthwise, helps
from segnext.fast.upsampling import BLOCK, add_probabilities, cross_entropy, likeliest, upsampled
from segnext.testing.fusing import fuse_for_inference


def resized(scores: Tensor, *sizes: tuple[int, int]) -> Tensor:
    """The plain way, one size after the other."""
    for size in sizes:
        scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
    return scores


def unlike_new(network: nn.Module) -> nn.Module:
    """Away from initial values, which hide mistakes."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.5)
            elif "scale" in name:
                value.uniform_(0.1, 0.5)
    return network.eval()


@pytest.mark.parametrize(
    "model",
    [
        Model("micro"),
        Model("micro", mixer="lka"),
        Model("micro", encoder_norm="ln"),
        Model("micro", attention=False, channel_mixing=False),
        Model("micro", branches=(21,), attention=False),
        Model("micro", decoder="a"),
        Model("micro", encoder="van"),
    ],
    ids=str,
)
@pytest.mark.parametrize("onednn", [True, False])
@torch.inference_mode()
def test_a_folded_network_gives_the_same_and_leaves_the_network_as_it_is(
    model: Model, onednn: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("segnext.testing.fusing._ONEDNN", onednn and torch.backends.mkldnn.is_available())
    torch.manual_seed(0)
    network = unlike_new(SegNeXt(model, 7))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    faster = fuse_for_inference(network)
    for size in ((64, 64), (47, 81)):
        x = torch.randn(2, 3, *size)
        expected = network(x)
        torch.testing.assert_close(faster(x), expected, rtol=0, atol=2e-5 * expected.abs().max().item())
    if model.encoder_norm == "bn":
        assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


sides = st.integers(1, 40)
pairs = st.tuples(sides, sides)


@given(
    low=st.tuples(sides, sides), middle=st.tuples(sides, sides), high=st.tuples(sides, sides), block=st.integers(1, 9)
)
@settings(max_examples=60)
def test_upsampling_in_blocks_is_upsampling_also_by_way_of_another_size(
    low: tuple[int, int], middle: tuple[int, int], high: tuple[int, int], block: int
):
    scores = torch.randn(2, 5, *low, generator=torch.Generator().manual_seed(1))
    kept, BLOCK["cpu"] = BLOCK["cpu"], block * 4 * 2 * 5 * high[1]
    try:
        for sizes in ([high], [middle, high]):
            expected = resized(scores, *sizes)
            found = torch.cat([rows.values for rows in upsampled(scores, sizes)], dim=1).permute(0, 3, 1, 2)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            total = torch.zeros(2, *high, 5)
            add_probabilities(total, scores, sizes)
            torch.testing.assert_close(total.permute(0, 3, 1, 2), expected.softmax(1), rtol=1e-4, atol=1e-5)
            chosen = expected.gather(1, likeliest(scores, sizes)[:, None])[:, 0]
            torch.testing.assert_close(chosen, expected.amax(1), rtol=1e-5, atol=1e-5)
    finally:
        BLOCK["cpu"] = kept


@given(low=pairs, high=pairs, ignored=st.floats(0, 1), factor=st.floats(0.1, 10))
@settings(max_examples=60)
def test_the_loss_and_its_gradient_are_those_of_the_plain_formula(
    low: tuple[int, int], high: tuple[int, int], ignored: float, factor: float
):
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(2, 6, *low, generator=generator).requires_grad_()
    labels = torch.randint(6, (2, *high), generator=generator, dtype=torch.uint8)
    labels[torch.rand(2, *high, generator=generator) < ignored] = 255
    expected = F.cross_entropy(resized(scores, high), labels.long(), ignore_index=255, reduction="sum")
    found = cross_entropy(scores, labels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (wanted,) = torch.autograd.grad(factor * expected, scores)
    (gradient,) = torch.autograd.grad(factor * found, scores)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


@given(low=pairs, high=pairs, classes=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_of_equal_scores_the_first_class_is_taken(low: tuple[int, int], high: tuple[int, int], classes: int, seed: int):
    scores = torch.randn(1, classes, *low, generator=torch.Generator().manual_seed(seed))
    found = likeliest(torch.cat([scores, scores, scores], dim=1), [high])
    assert torch.equal(found, likeliest(scores, [high]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_counts_only_where_a_pixel_takes_from_it(value: float):
    scores = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = likeliest(scores, [(64, 64)])
    scores[0, 2, 4, 4] = value
    found = likeliest(scores, [(64, 64)])
    taken = torch.zeros(64, 64, dtype=torch.bool)
    taken[28:44, 28:44] = True  # between the neighbours' middles, rows 3 and 5 of the scores
    assert torch.equal(found[0][~taken], expected[0][~taken])
    assert ((found[0][taken] == 2) == (value != float("-inf"))).all()
    total = torch.zeros(1, 64, 64, 5)
    add_probabilities(total, scores, [(64, 64)])
    torch.testing.assert_close(total.sum(-1), torch.ones(1, 64, 64))


# Weight gradients on a CPU


SIDES, ODD = st.integers(1, 24), st.sampled_from([1, 3, 5, 7, 11, 21])


@given(st.integers(1, 3), st.integers(1, 17), SIDES, SIDES, ODD, ODD, st.booleans(), st.integers(0, 99))
@settings(max_examples=150)
def test_depthwise_convolutions_train_as_pytorchs_do(
    batch: int, channels: int, height: int, width: int, rows: int, columns: int, bias: bool, seed: int
):
    torch.manual_seed(seed)
    layer = nn.Conv2d(channels, channels, (rows, columns), padding="same", groups=channels, bias=bias)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=torch.channels_last).requires_grad_()
    leaves = [x, *layer.parameters()]
    ours, theirs = depthwise(x, layer.weight, layer.bias), layer(x)
    assert torch.equal(ours, theirs)
    wanted = torch.randn_like(ours)
    found, plain = (torch.autograd.grad(y, leaves, wanted) for y in (ours, theirs))
    assert torch.equal(found[0], plain[0])
    double = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = torch.autograd.grad(
        F.conv2d(*double, *[None] * (not bias), padding=(rows // 2, columns // 2), groups=channels),
        double,
        wanted.double(),
    )
    for gradient, reference in zip(found[1:], exact[1:], strict=True):
        assert (gradient - reference).norm() <= 1e-5 * max(reference.norm(), wanted.norm())


def test_they_do_so_alone_where_it_helps():
    x, layer = torch.randn(1, 4, 8, 8), DepthwiseConv2d(4, 1, 7)
    assert helps(x, layer.weight)
    assert layer(x).grad_fn.name() == "_DepthwiseBackward"
    assert DepthwiseConv2d(4, 7, 1)(x).grad_fn.name() == "ConvolutionBackward0"
    assert DepthwiseConv2d(4, 7, 7, dilation=3)(x).grad_fn.name() == "ConvolutionBackward0"
    assert not helps(x, DepthwiseConv2d(4, 7, 1).weight)  # three columns at most, no more rows than the image has
    assert helps(x, DepthwiseConv2d(4, 11, 1).weight)
    assert not helps(x.double(), layer.double().weight)
    layer.float()
    with torch.no_grad():
        assert not helps(x, layer.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not helps(x, layer.weight)
    assert not helps(x, layer.requires_grad_(False).weight)


def test_frozen_parts_get_no_gradient():
    x, layer = torch.randn(1, 4, 8, 8), DepthwiseConv2d(4, 5, 5)
    layer.bias.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is None
