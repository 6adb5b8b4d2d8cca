"""Numbers: the four released sizes, each module against a naive re-computation, gradients, precision, determinism."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import named
from torch import Tensor, nn
from torch.func import functional_call

from segnext import Model, MSCANClassifier, SegNeXt, Train
from segnext.config.architecture import CHOICES
from segnext.context import EMA, CrissCross, NonLocal
from segnext.ham import NMF, Hamburger
from segnext.model import build_network
from segnext.msca import LKA, MSCA
from segnext.mscan import ChannelNorm, Stage
from segnext.released_weights import load_released, to_released
from segnext.training.segmentation import parameter_groups

VARIANTS = [
    *(Model("micro", context=context) for context in CHOICES["context"]),
    Model("micro", decoder="a"),
    Model("micro", decoder="b", head_norm="bn"),
    Model("micro", encoder="van", nmf_gradient="one-step"),
    Model("micro", mixer="lka", encoder_norm="ln"),
    Model("micro", encoder="convnext_tiny"),
]


def random(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with normal weights, so that nothing is zero or one by initialisation."""
    module = module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return module


# architectures.md, section 4: measured on the released code in float64 (keys, sums of |stage 1 to 4|, sum of |logits|,
# logits[0, :5, 0, 0]).
CHECKSUMS = {
    "T": (
        550,
        (26054.635424, 12993.682440, 8125.625092, 3268.638491),
        22842.780243,
        (0.160955451, -0.741941777, -1.102376993, -0.457983139, -0.565752140),
    ),
    "S": (
        436,
        (51804.973717, 26167.297042, 16277.611216, 6541.387283),
        24029.692281,
        (1.651557728, 0.254039697, -0.644761580, -1.309566013, -0.428600875),
    ),
    "B": (
        854,
        (51739.556373, 26164.485074, 16270.070681, 6548.450728),
        21399.909842,
        (1.070707958, -1.458643376, 0.291315148, -0.333457470, -1.152653473),
    ),
    "L": (
        1500,
        (51739.556373, 26180.820774, 16260.712808, 6555.760524),
        22226.486005,
        (-1.024117016, -0.566774977, 0.195737413, 0.276843159, 1.554657277),
    ),
}


def checksum_weight(key: str, shape: torch.Size) -> Tensor:
    g = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    if "num_batches_tracked" in key:
        return torch.zeros((), dtype=torch.long)
    if "running_var" in key:
        value = 1 + 0.5 * np.tanh(g) ** 2
    elif "running_mean" in key or key.endswith(".bias"):
        value = 0.1 * g
    elif "layer_scale" in key:
        value = 0.05 * (1 + 0.2 * g)
    elif len(shape) == 1:
        value = 1 + 0.1 * g
    else:
        value = g / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value))


def checksum_bases(self: NMF, batch: int, dim: int, rank: int, device: torch.device | None = None) -> Tensor:
    return F.normalize(torch.from_numpy(np.random.RandomState(1).random_sample((1, dim, rank))), dim=1)


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.long if size in "BL" else ()) for size in CHECKSUMS]
)
def test_all_four_sizes_have_the_released_codes_checksums(size: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(NMF, "initial_bases", checksum_bases)
    keys, stages, total, first = CHECKSUMS[size]
    model = SegNeXt(Model(size), classes=150).double().eval()
    weights = {key: checksum_weight(key, value.shape) for key, value in to_released(model).items()}
    assert len(weights) == keys
    load_released(model, weights)
    x = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, 128, 128)))
    with torch.no_grad():
        features = model.encoder(x.contiguous(memory_format=torch.channels_last))
        logits = model.decoder(features)
    assert [y.abs().sum().item() for y in features] == pytest.approx(stages, abs=1e-6, rel=0)
    assert logits.abs().sum().item() == pytest.approx(total, abs=1e-6, rel=0)
    assert logits[0, :5, 0, 0].tolist() == pytest.approx(first, abs=1e-9, rel=0)


def test_lka_is_its_equation_with_dense_convolutions():
    lka = randomised(LKA(3))
    x = random((2, 3, 24, 23))

    def dense(layer: nn.Conv2d, y: Tensor) -> Tensor:
        kernel = torch.diag_embed(layer.weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
        padding = [(k - 1) * d // 2 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        return F.conv2d(y, kernel, layer.bias, padding=padding, dilation=layer.dilation)

    assert (lka.local.kernel_size, lka.dilated.kernel_size, lka.dilated.dilation) == ((5, 5), (7, 7), (3, 3))
    mixed = torch.einsum("oi,bihw->bohw", lka.combine.weight[:, :, 0, 0], dense(lka.dilated, dense(lka.local, x)))
    torch.testing.assert_close(lka(x), (mixed + lka.combine.bias[:, None, None]) * x)


def pixelwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of (C, H, W) as a matrix product."""
    y = torch.einsum("oi,ihw->ohw", layer.weight[:, :, 0, 0], x)
    return y if layer.bias is None else y + layer.bias[:, None, None]


def test_non_local_attends_from_every_pixel_to_every_pixel():
    module = randomised(NonLocal(4, nn.GroupNorm(2, 4)))
    x = random((1, 4, 3, 5))
    query, key, value = (pixelwise(layer, x[0]) for layer in (module.query, module.key, module.value))
    gathered = torch.zeros(2, 3, 5, dtype=torch.float64)
    for i, j in np.ndindex(3, 5):
        scores = torch.stack([query[:, i, j] @ key[:, m, n] / 2**0.5 for m, n in np.ndindex(3, 5)])
        weights = scores.exp() / scores.exp().sum()
        gathered[:, i, j] = sum(w * value[:, m, n] for w, (m, n) in zip(weights, np.ndindex(3, 5), strict=True))
    torch.testing.assert_close(module(x), x + module.norm(pixelwise(module.out, gathered)[None]))


def test_criss_cross_attends_to_each_pixel_of_row_and_column_once_and_twice_over():
    module = randomised(CrissCross(8))
    x = random((1, 8, 3, 4))

    def once(x: Tensor) -> Tensor:
        query, key, value = (pixelwise(layer, x) for layer in (module.query, module.key, module.value))
        gathered = torch.zeros_like(x)
        for i, j in np.ndindex(3, 4):
            seen = [(m, n) for m, n in np.ndindex(3, 4) if m == i or n == j]
            assert len(seen) == 3 + 4 - 1
            weights = torch.softmax(torch.stack([query[:, i, j] @ key[:, m, n] for m, n in seen]), 0)
            gathered[:, i, j] = sum(w * value[:, m, n] for w, (m, n) in zip(weights, seen, strict=True))
        return x + module.scale * gathered

    torch.testing.assert_close(module(x)[0], once(once(x[0])))


def maximised(x: Tensor, bases: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """EMA's iterations for one image, pixel by pixel: `(C, N), (C, K) -> (C, K), (K, N)`."""
    for _ in range(steps):
        codes = torch.stack([torch.softmax(bases.T @ pixel, 0) for pixel in x.T], dim=1)
        bases = torch.stack([(x * code).sum(1) / code.sum() for code in codes], dim=1)
        bases = bases / bases.norm(dim=0)
    return bases, codes


def test_ema_reconstructs_from_bases_found_by_expectation_maximisation():
    module = randomised(EMA(4, nn.GroupNorm(2, 4), bases=3)).eval()
    x = random((2, 4, 3, 5))
    started = module.bases.clone()
    for image, y in zip(x, module(x), strict=True):
        mid = pixelwise(module.mid, image)
        bases, codes = maximised(mid.flatten(1), started[0], 3)
        found = F.relu((bases @ codes).view(4, 3, 5))
        torch.testing.assert_close(y, F.relu(image + module.out(found[None])[0]))
    assert torch.equal(module.bases, started), "evaluation changed the bases"


def test_emas_bases_follow_the_batch_in_training_and_are_kept_with_the_weights():
    module = randomised(EMA(4, nn.GroupNorm(2, 4), bases=3)).train()
    x = random((2, 4, 3, 5))
    started = module.bases.clone()
    module(x)
    found = [maximised(pixelwise(module.mid, image).flatten(1), started[0], 3)[0] for image in x]
    mean = sum(found) / 2
    torch.testing.assert_close(module.bases[0], 0.9 * started[0] + 0.1 * mean / mean.norm(dim=0))
    assert "bases" in module.state_dict()


def test_emas_first_convolution_is_frozen_because_no_gradient_reaches_it():
    network = SegNeXt(Model("micro", context="ema"), 5).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    ema = network.decoder.ham
    assert [name for name, p in ema.named_parameters() if not p.requires_grad] == ["mid.weight", "mid.bias"]
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    trained = {id(p) for group in parameter_groups(network, Train(iterations=1)) for p in group["params"]}
    assert trained == {id(p) for p in network.parameters() if p.requires_grad}


def check_gradients(module: nn.Module, x: Tensor) -> None:
    """Central differences against autograd, for the input and every trainable parameter."""
    parameters = {name: p.detach().requires_grad_() for name, p in module.named_parameters() if p.requires_grad}

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(module, dict(zip(parameters, values, strict=True)), x)

    assert torch.autograd.gradcheck(function, (x.requires_grad_(), *parameters.values()))


@pytest.mark.parametrize("branches", [(3, 5), (7, 11, 21)])
@pytest.mark.parametrize("switches", [(True, True), (True, False), (False, True), (False, False)])
def test_gradients_of_msca(branches: tuple[int, ...], switches: tuple[bool, bool]):
    check_gradients(randomised(MSCA(2, branches, *switches)), random((1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("module", "channels"),
    [
        (LKA(2), 2),
        (ChannelNorm(3), 3),
        (NonLocal(4, nn.GroupNorm(2, 4)), 4),
        (CrissCross(8), 8),
        (Hamburger(4, 2, nn.GroupNorm(2, 4)), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gradients_of_a_module(module: nn.Module, channels: int):
    check_gradients(randomised(module).eval(), random((1, channels, 3, 2)))


def test_gradients_of_nmf_flow_through_every_step():
    nmf = NMF(4, 2, evaluation_steps=3).double().eval()
    check_gradients(nmf, random((2, 4, 3, 2)).abs() + 0.1)


def test_one_step_gradient_is_that_of_the_last_update_and_the_reconstruction_alone():
    full, one = (NMF(4, 2, evaluation_steps=3, gradient=g).double().eval() for g in ("full", "one-step"))
    x = (random((1, 4, 3, 2)).abs() + 0.1).requires_grad_()
    assert torch.equal(full(x), one(x))
    weights = random((1, 4, 3, 2), seed=1)
    (through_all,) = torch.autograd.grad((full(x) * weights).sum(), x)
    (through_one,) = torch.autograd.grad((one(x) * weights).sum(), x)
    assert not torch.allclose(through_all, through_one)

    with torch.no_grad():  # the same factors, found in the paper's orientation: X (D, N) = bases (D, R) codes (R, N)
        fixed = x[0].flatten(1)
        bases = one.evaluation_bases[0]
        codes = torch.softmax(bases.T @ fixed, dim=0)
        for _ in range(3):
            codes = codes * (bases.T @ fixed) / (bases.T @ bases @ codes + 1e-6)
            bases = bases * (fixed @ codes.T) / (bases @ codes @ codes.T + 1e-6)
    seen = x[0].flatten(1)
    last = codes * (bases.T @ seen) / (bases.T @ bases @ codes + 1e-6)
    (by_hand,) = torch.autograd.grad(((bases @ last).view(1, 4, 3, 2) * weights).sum(), x)
    torch.testing.assert_close(through_one, by_hand)


def test_gradients_of_ema_take_the_reconstruction_as_given():
    module = randomised(EMA(4, nn.GroupNorm(2, 4), bases=3)).eval()
    x = random((1, 4, 3, 2)).requires_grad_()
    given = F.relu(module.reconstruct(module.mid(x))).detach()
    expected = torch.autograd.grad(F.relu(x + module.out(given)).square().sum(), x)
    assert torch.equal(torch.autograd.grad(module(x).square().sum(), x)[0], expected[0])

    def of_the_output(weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        values = {"out.0.weight": weight, "out.1.weight": scale, "out.1.bias": shift}
        return functional_call(module, values, x.detach())

    values = (module.out[0].weight, module.out[1].weight, module.out[1].bias)
    assert torch.autograd.gradcheck(of_the_output, tuple(v.detach().requires_grad_() for v in values))


def test_layer_norm_in_the_encoder_is_per_pixel_and_only_in_the_blocks():
    x = random((2, 16, 5, 7))
    y = ChannelNorm(16).double()(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 5, 7, dtype=torch.float64))
    torch.testing.assert_close(y, (x - x.mean(1, keepdim=True)) / (x.var(1, False, keepdim=True) + 1e-5).sqrt())
    for kind, norm in (("bn", nn.BatchNorm2d), ("ln", ChannelNorm)):
        stages = [s for s in SegNeXt(Model("micro", encoder_norm=kind), 5).modules() if isinstance(s, Stage)]
        assert all(type(n) is norm for s in stages for block in s.blocks for n in (block.norm1, block.norm2))
        assert all(any(isinstance(m, nn.BatchNorm2d) for m in s.downsample) for s in stages)


@pytest.mark.parametrize(
    ("kind", "norm", "other"), [("gn", nn.GroupNorm, nn.BatchNorm2d), ("bn", nn.BatchNorm2d, nn.GroupNorm)]
)
@pytest.mark.parametrize(("context", "count"), [("ham", 3), ("nl", 3), ("ema", 3), ("cc", 2), ("none", 2)])
def test_the_heads_norm_is_one_kind_everywhere(context: str, count: int, kind: str, norm: type, other: type):
    modules = list(SegNeXt(Model("micro", context=context, head_norm=kind), 5).decoder.modules())
    assert sum(isinstance(m, norm) for m in modules) == count
    assert not any(isinstance(m, other) for m in modules)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_nmf_stays_in_float32_under_autocast(dtype: torch.dtype):
    nmf = NMF(16, 4).eval()
    x = random((2, 16, 6, 5)).abs().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = nmf(x)
    assert y.dtype == dtype
    assert torch.equal(y, nmf(x.float()).to(dtype))


@pytest.mark.parametrize("model", VARIANTS, ids=named)
def test_every_variant_trains_and_evaluates_under_autocast(model: Model):
    network = SegNeXt(model, 5).train()
    x = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(x).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.eval()(x).isfinite().all()


@pytest.mark.parametrize("model", VARIANTS, ids=named)
def test_evaluating_twice_gives_the_same_bits(model: Model):
    network = SegNeXt(model, 5)
    x = torch.randn(2, 3, 65, 71)
    with torch.no_grad():
        network.train()(x)  # what training leaves behind, EMA's bases and BN's averages, is state like any other
        network.eval()
        torch.rand(3)
        once = network(x)
        torch.rand(5)
        assert torch.equal(once, network(x))


@pytest.mark.parametrize("model", VARIANTS, ids=named)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 64)])
def test_every_variant_takes_any_size_from_32(model: Model, size: tuple[int, int]):
    with torch.no_grad():
        assert SegNeXt(model, 5).eval()(torch.randn(1, 3, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (Model("micro"), "segmentation"),
        (Model("micro"), "classification"),
        *(pytest.param(model, "segmentation", marks=pytest.mark.long) for model in VARIANTS if model != Model("micro")),
    ],
    ids=named,
)
def test_the_evaluation_model_exports(model: Model, task: str):
    network = build_network(model, 5, task).eval()
    x, other = torch.randn(2, 1, 3, 67, 64)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        for image in (x, other):
            torch.testing.assert_close(exported(image), network(image), rtol=1e-5, atol=1e-5)


def test_a_classifier_is_a_linear_layer_on_the_mean_of_stage_4():
    network = MSCANClassifier(Model("micro"), 7).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        mean = network.encoder(x)[-1].mean(dim=(2, 3))
        torch.testing.assert_close(network(x), mean @ network.classifier.weight.T + network.classifier.bias)
    with pytest.raises(ValueError, match="at least 32x32"):
        network(torch.zeros(1, 3, 32, 31))
    with pytest.raises(ValueError, match=r"Model\.encoder: 'convnext_tiny'"):
        MSCANClassifier(Model("micro", encoder="convnext_tiny"))


def test_non_local_and_criss_cross_start_as_identity():
    """mmcv initialises the last norm, CCNet its scale, with zero."""
    for context in ("nl", "cc"):
        module = SegNeXt(Model("micro", context=context), 5).decoder.ham
        x = torch.randn(1, 64, 4, 4)
        assert torch.equal(module(x), x)
