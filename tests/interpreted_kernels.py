"""The kernels under Triton's interpreter, on a CPU: `test_fast_kernels.py` runs this in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction

from segnext import Model, context, convolutions, mscan
from segnext.fast import group_norm as normalisation
from segnext.fast import pointwise as kernels
from segnext.fast import residual, upsampling
from segnext.fast.cross_entropy import cross_entropy
from segnext.fast.depthwise import depthwise, strips
from segnext.fast.group_norm import group_norm
from segnext.fast.pointwise import pointwise
from segnext.fast.residual import scaled_residual
from segnext.msca import LKA, MSCA
from segnext.testing.fusing import FoldedMSCA
from segnext.training import segmentation

PATCHED = {"segnext.fast.depthwise_kernels", "segnext.fast.cross_entropy"}  # the kernels do it themselves


def call(function: InterpretedFunction, *arguments: object, **named: object) -> object:
    """Puts the interpreter in the language's place once a module, not at each call: nine tenths of the time."""
    if function.fn.__module__ not in PATCHED:
        PATCHED.add(function.fn.__module__)
        interpreter._patch_lang(function.fn)
    return function.rewrite()(*arguments, **named)


InterpretedFunction.__call__ = call
patched = interpreter._patch_lang_tensor


def patch(tensor: type, scope: interpreter._LangPatchScope) -> None:
    """Torch 2.11's Triton, 3.6, takes int() of an array of one number, which NumPy 2.5 refuses."""
    patched(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())


interpreter._patch_lang_tensor = patch

ROUNDING = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
dtypes = st.sampled_from(list(ROUNDING))
sides = st.integers(1, 8)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return random(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def exact(leaves: list[Tensor]) -> list[Tensor]:
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


def same(found: Tensor, expected: Tensor, rounding: float) -> None:
    assert found.shape == expected.shape
    bound = rounding * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)


def compared(
    found: Tensor, leaves: list[Tensor], expected: Tensor, exact_leaves: list[Tensor], rounding: float
) -> None:
    """Value and every gradient."""
    same(found, expected, rounding)
    gradient = random(*found.shape, dtype=found.dtype)
    gradients = torch.autograd.grad(found, leaves, gradient)
    for one, other in zip(gradients, torch.autograd.grad(expected, exact_leaves, gradient.double()), strict=True):
        same(one, other, rounding)


@pytest.mark.parametrize(
    ("kernel", "dilation"),
    [((3, 3), 1), ((5, 5), 1), ((1, 7), 1), ((11, 1), 1), ((1, 21), 1), ((21, 1), 1), ((7, 7), 3)],
    ids=str,
)
@given(channels=st.sampled_from([1, 7, 16, 40]), height=sides, width=sides, dtype=dtypes, biased=st.booleans())
@settings(max_examples=2)
def test_a_depthwise_convolution_is_pytorchs(
    kernel: tuple[int, int], dilation: int, channels: int, height: int, width: int, dtype: torch.dtype, biased: bool
):
    leaves = [image(2, channels, height, width, dtype=dtype), random(channels, 1, *kernel).requires_grad_()]
    leaves += [random(channels).requires_grad_()] if biased else []
    like = exact(leaves)
    padding = tuple(side // 2 * dilation for side in kernel)
    expected = F.conv2d(*like[:2], like[2] if biased else None, padding=padding, dilation=dilation, groups=channels)
    found = depthwise(leaves[0], leaves[1], leaves[2] if biased else None, dilation)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    compared(found, leaves, expected, like, ROUNDING[dtype] * 3)


@pytest.mark.parametrize("programs", [1, 8, 10_000])
def test_a_march_of_several_blocks_loses_no_pixel(programs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("segnext.fast.depthwise.PROGRAMS", programs)
    leaves = [image(2, 68, 18, 9), random(68, 1, 3, 3).requires_grad_(), random(68).requires_grad_()]
    like = exact(leaves)
    compared(depthwise(*leaves), leaves, F.conv2d(*like, padding=1, groups=68), like, 5e-6)


@pytest.mark.parametrize("branches", [(7, 11, 21), (7, 11), (11,)], ids=str)
@given(channels=st.sampled_from([3, 16]), height=sides, width=sides, dtype=dtypes)
@settings(max_examples=2)
def test_the_strips_together_are_the_sum_of_the_branches(
    branches: tuple[int, ...], channels: int, height: int, width: int, dtype: torch.dtype
):
    leaves = [image(1, channels, height, width, dtype=dtype)]
    for k in branches:
        leaves += [random(channels, 1, 1, k), random(channels), random(channels, 1, k, 1), random(channels)]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    like = exact(leaves)
    expected = like[0]
    for place, k in enumerate(branches):
        row, row_bias, column, column_bias = like[1 + 4 * place : 5 + 4 * place]
        half = F.conv2d(like[0], row, row_bias, padding=(0, k // 2), groups=channels)
        expected = expected + F.conv2d(half, column, column_bias, padding=(k // 2, 0), groups=channels)
    rows = [(leaves[place], leaves[place + 1]) for place in range(1, len(leaves), 4)]
    columns = [(leaves[place + 2], leaves[place + 3]) for place in range(1, len(leaves), 4)]
    compared(strips(leaves[0], rows, columns), leaves, expected, like, ROUNDING[dtype] * 3)


def test_strips_that_do_not_belong_together_are_refused():
    x, row, column = image(1, 2, 3, 3), (random(2, 1, 1, 7), None), (random(2, 1, 11, 1), None)
    with pytest.raises(ValueError, match="one to three pairs"):
        strips(x, [row], [column])


@given(
    classes=st.integers(2, 171), low=st.tuples(sides, sides), high=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    dtype=dtypes, ignored=st.floats(0, 1), factor=st.sampled_from([1.0, 0.01, 16384.0]),
)  # fmt: skip
@settings(max_examples=12)
def test_the_loss_and_its_gradient_are_those_of_the_plain_formula(
    classes: int, low: tuple[int, int], high: tuple[int, int], dtype: torch.dtype, ignored: float, factor: float
):
    generator = torch.Generator().manual_seed(3)
    scores = image(2, classes, *low, dtype=dtype)
    labels = torch.randint(classes, (2, *high), generator=generator, dtype=torch.uint8)
    labels[torch.rand(2, *high, generator=generator) < ignored] = 255
    (like,) = exact([scores])
    full = F.interpolate(like, high, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(full, labels.long(), ignore_index=255, reduction="sum")
    found = cross_entropy(scores, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-5)
    # What GradScaler makes of the loss comes back as it is.
    factor /= labels.numel()
    (wanted,) = torch.autograd.grad(expected * factor, like)
    (gradient,) = torch.autograd.grad(found * factor, scores)
    assert gradient.dtype == dtype
    same(gradient / factor, wanted / factor, max(ROUNDING[dtype], 5e-6))


@given(
    channels=st.sampled_from([1, 7, 16, 40]), height=sides, width=sides, dtype=dtypes, other=dtypes,
    keep=st.sampled_from([None, (0.0, 1.25), (2.0, 2.0)]),
)  # fmt: skip
@settings(max_examples=12)
def test_a_scaled_residual_is_the_plain_formula(
    channels: int, height: int, width: int, dtype: torch.dtype, other: torch.dtype, keep: tuple[float, float] | None
):
    x, y = image(2, channels, height, width, dtype=dtype), image(2, channels, width, height, dtype=other)
    y = y.detach().mT.requires_grad_()  # other strides
    leaves = [x, y, random(channels).requires_grad_()]
    kept = None if keep is None else torch.tensor(keep)[:, None]
    like = exact(leaves)
    expected = like[0] + like[2][:, None, None] * like[1] * (1 if kept is None else kept.double()[:, :, None, None])
    found = scaled_residual(*leaves, kept)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    same(found, expected, ROUNDING[torch.float32])
    compared(found, leaves, expected, like, max(ROUNDING[dtype], ROUNDING[other], 1e-5))


def test_a_scaled_residual_of_several_chunks_and_tiles_loses_no_pixel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(residual, "PROGRAMS", 8)
    leaves = [image(2, 68, 23, 19), image(2, 68, 23, 19), random(68).requires_grad_()]
    like = exact(leaves)
    compared(scaled_residual(*leaves, None), leaves, like[0] + like[2][:, None, None] * like[1], like, 1e-5)


@given(
    entering=st.sampled_from([1, 7, 40]), leaving=st.sampled_from([1, 6, 80]), height=sides, width=sides, dtype=dtypes
)
@settings(max_examples=8)
def test_a_pointwise_convolution_is_pytorchs(entering: int, leaving: int, height: int, width: int, dtype: torch.dtype):
    leaves = [image(2, entering, height, width, dtype=dtype), random(leaving, entering, 1, 1), random(leaving)]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    like = exact(leaves)
    found = pointwise(*leaves)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    compared(found, leaves, F.conv2d(*like), like, ROUNDING[dtype] * 3)


@given(rows=st.integers(1, 300), columns=st.sampled_from([1, 5, 16, 96]), dtype=dtypes)
@settings(max_examples=12)
def test_column_sums_are_exact_to_float32_and_lose_no_row(rows: int, columns: int, dtype: torch.dtype):
    x, kept = random(rows, columns, dtype=dtype), kernels.PROGRAMS
    kernels.PROGRAMS = 3
    try:
        found = kernels._column_sums(x)
    finally:
        kernels.PROGRAMS = kept
    assert found.dtype == torch.float32
    same(found, x.double().sum(0), 1e-5)


def test_a_pointwise_convolution_under_autocast_is_pytorchs(monkeypatch: pytest.MonkeyPatch):
    layer, x = convolutions.PointwiseConv2d(16, 24), image(2, 16, 5, 4)
    monkeypatch.setattr(convolutions, "is_fast", lambda x: True)

    def outcome(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            found = run(x)
        return [found, *torch.autograd.grad(found.float().square().sum(), [x, *layer.parameters()])]

    plain = outcome(lambda x: F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2))
    assert [part.dtype for part in plain] == [torch.bfloat16, *[torch.float32] * 3]
    for found in (outcome(layer), outcome(torch.compile(layer, backend="aot_eager", fullgraph=True))):
        for one, other in zip(found, plain, strict=True):
            assert one.dtype == other.dtype
            same(one, other.double(), ROUNDING[torch.bfloat16])
    with torch.no_grad():
        assert layer(x).dtype == torch.float32


@given(
    groups=st.sampled_from([1, 3]), depth=st.sampled_from([2, 16]), height=sides, width=sides, dtype=dtypes,
    mean=st.sampled_from([0.0, 30.0]),
)  # fmt: skip
@settings(max_examples=8)
def test_a_group_norm_is_pytorchs(groups: int, depth: int, height: int, width: int, dtype: torch.dtype, mean: float):
    x = (random(2, groups * depth, height, width) + mean).to(dtype).contiguous(memory_format=torch.channels_last)
    leaves = [leaf.requires_grad_() for leaf in (x, random(groups * depth), random(groups * depth))]
    like = exact(leaves)
    found = group_norm(leaves[0], groups, *leaves[1:], 1e-5)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    compared(found, leaves, F.group_norm(like[0], groups, *like[1:], 1e-5), like, max(ROUNDING[dtype] * 3, 2e-4))


def test_the_heads_norm_keeps_channels_last_and_float32_under_autocast(monkeypatch: pytest.MonkeyPatch):
    norm, x = context.ChannelsLastGroupNorm(4, 72), image(2, 72, 23, 19, dtype=torch.bfloat16)
    leaves = [x, *norm.parameters()]
    expected = norm(x.float())
    gradients = torch.autograd.grad(expected.pow(3).sum(), leaves)
    monkeypatch.setattr(context, "is_fast", lambda x: True)
    monkeypatch.setattr(normalisation, "PROGRAMS", 4)
    for run in (norm, torch.compile(norm, backend="aot_eager", fullgraph=True)):
        with torch.autocast("cpu", torch.bfloat16):
            found = run(x)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.pow(3).sum(), leaves), gradients, rtol=1e-2, atol=1e-3)


def test_a_block_gives_the_same_either_way_and_drops_the_same_samples(monkeypatch: pytest.MonkeyPatch):
    block = mscan.Block(6, 2, 0.5, Model("micro")).train()
    block.drop_path1.numbers, block.drop_path2.numbers = torch.tensor([[0.2], [0.7]]), torch.tensor([[0.5], [0.4]])
    x = image(2, 6, 5, 4)
    expected = block(x)
    leaves = [x, *block.parameters()]
    gradients = torch.autograd.grad(expected.square().sum(), leaves)
    for module in (convolutions, mscan):
        monkeypatch.setattr(module, "is_fast", lambda x: True)
    for run in (block, torch.compile(block, backend="aot_eager", fullgraph=True)):
        found = run(x)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), leaves), gradients)
    block.eval()
    evaluated = block(x)
    monkeypatch.undo()
    torch.testing.assert_close(evaluated, block(x))


def test_scores_of_any_strides_are_read():
    scores, labels = random(2, 5, 4, 3).requires_grad_(), torch.zeros(2, 9, 9, dtype=torch.uint8)
    mine = cross_entropy(scores, labels)
    assert mine == cross_entropy(scores.detach().contiguous(memory_format=torch.channels_last), labels)
    mine.backward()
    assert scores.grad.shape == scores.shape


@pytest.mark.parametrize("label", [7, 5, 254])
def test_a_label_that_is_no_class_stops_the_training(label: int):
    labels = torch.zeros(1, 6, 6, dtype=torch.uint8)
    labels[0, 2, 3] = label
    assert cross_entropy(random(1, 5, 3, 3), labels).isnan()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU were a card."""
    for module in (convolutions, mscan, segmentation, upsampling):
        monkeypatch.setattr(module, "is_fast", lambda x: True)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "layer", [MSCA(8, (7, 11), True, True), LKA(4), MSCA(4, (), False, True)], ids=["msca", "lka", "none"]
)
@pytest.mark.parametrize("half", [False, True])
def test_attention_compiles_without_a_break(layer: nn.Module, half: bool):
    x = random(1, layer.local.in_channels, 5, 6).contiguous(memory_format=torch.channels_last)

    def loss(layer: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert layer.local(x).dtype == (torch.bfloat16 if half else torch.float32)
            return layer(x).float().square().sum()

    found = torch.compile(loss, backend="aot_eager", fullgraph=True)(layer, x)
    gradients = torch.autograd.grad(found, list(layer.parameters()))
    expected = loss(layer, x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, list(layer.parameters())))


@pytest.mark.usefixtures("fast")
def test_the_training_loss_compiles_without_a_break():
    scores, labels = image(1, 5, 3, 4, dtype=torch.bfloat16), torch.ones(1, 11, 13, dtype=torch.uint8)
    found = torch.compile(segmentation.segmentation_loss, backend="aot_eager", fullgraph=True)(scores, labels)
    (gradient,) = torch.autograd.grad(found, scores)
    expected = F.cross_entropy(
        F.interpolate(scores.double(), (11, 13), mode="bilinear", align_corners=False), labels.long()
    )
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, scores)[0])


def test_the_network_gives_the_same_either_way(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    plain = MSCA(6, (7, 11, 21), True, True).requires_grad_(False)
    x = random(1, 6, 7, 5).contiguous(memory_format=torch.channels_last)
    expected = plain(x)
    monkeypatch.setattr(convolutions, "is_fast", lambda x: True)
    torch.testing.assert_close(plain(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(FoldedMSCA(plain)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch's own looking
def strided(tensor: Tensor) -> Tensor:
    """The same values in another order in memory."""
    order = list(range(tensor.dim()))[::-1]
    return tensor.detach().permute(order).contiguous().permute(order)


def test_the_operators_take_tensors_of_any_strides_as_inductor_lays_them_out():
    ops, x, labels = torch.ops.segnext, random(2, 4, 3, 5), torch.randint(4, (2, 6, 10), dtype=torch.uint8)
    taps, biases, strip_taps = random(9, 4), random(1, 4), random(10, 4)
    scale, keep, weight, mean = random(4), random(2, 1), random(6, 4), random(2, 2).square() + 1
    halves, corners = random(2, 2, 3, 5, 4), random(2, 3, 5, 4, 4)
    for operator, arguments in (
        (ops.depthwise, (x, taps, biases, 3, 3, 1)),
        (ops.depthwise_input, (x, taps, 3, 3, 1)),
        (ops.depthwise_weights, (x, 2 * x, 3, 3, 1)),
        (ops.strips, (x, strip_taps, None, strip_taps, None, [3, 7])),
        (ops.strips_backward, (x, 2 * x, halves, strip_taps, strip_taps, [3, 7])),
        (ops.scaled_residual, (x, 2 * x, scale, keep)),
        (ops.scaled_residual_backward, (x, 2 * x, scale, keep)),
        (ops.pointwise, (x, weight, random(6))),
        (ops.column_sums, (taps,)),
        (ops.group_norm, (x, scale, 2 * scale, 2, 1e-5, torch.float32)),
        (ops.group_norm_backward, (x, 2 * x, scale, mean, 2 * mean)),
        (ops.cross_entropy, (x, labels)),
        (ops.cross_entropy_backward, (corners, random(1)[0], torch.float32)),
    ):
        expected = operator(*arguments)
        found = operator(*(strided(each) if isinstance(each, Tensor) else each for each in arguments))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=str(operator))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of Inductor's import in torch 2.11
def test_compiled_by_inductor_they_give_the_eager_values():
    x, direction = image(2, 4, 3, 5), random(2, 4, 3, 5)
    weight, rows = random(4, 1, 3, 3).requires_grad_(), random(4, 1, 1, 3).requires_grad_()
    columns = random(4, 1, 3, 1).requires_grad_()

    def both(x: Tensor, weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return strips(depthwise(x, weight, None), [(rows, None)], [(columns, None)])

    leaves = (x, weight, rows, columns)
    eager, compiled = both(*leaves), torch.compile(both, fullgraph=True)(*leaves)
    torch.testing.assert_close(compiled, eager)
    for one, other in zip(*(torch.autograd.grad(y, leaves, direction) for y in (compiled, eager)), strict=True):
        torch.testing.assert_close(one, other)


def test_torchs_own_checks_of_an_operator_pass():
    x, taps, biases = image(1, 4, 3, 5), random(9, 4).requires_grad_(), random(1, 4).requires_grad_()
    strip_taps, labels = random(10, 4).requires_grad_(), torch.zeros(1, 5, 6, dtype=torch.uint8)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for operator, arguments in (
        ("depthwise", (x, taps, biases, 3, 3, 1)),
        ("strips", (x, strip_taps, None, strip_taps, None, [3, 7])),
        ("scaled_residual", (x, image(1, 4, 3, 5, dtype=torch.bfloat16), random(4).requires_grad_(), torch.ones(1, 1))),
        ("pointwise", (x, random(6, 4).requires_grad_(), random(6))),
        ("group_norm", (x, random(4), random(4), 2, 1e-5, torch.float32)),
        ("column_sums", (random(9, 4),)),
        ("cross_entropy", (x, labels)),
    ):
        torch.library.opcheck(getattr(torch.ops.segnext, operator).default, arguments, test_utils=checks)
