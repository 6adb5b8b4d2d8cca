"""The network is the released one: outputs, sizes, names, and what each switch does."""

from __future__ import annotations

import itertools
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from conftest import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from segnext import Model, SegNeXt
from segnext.ham import NMF
from segnext.msca import MSCA
from segnext.released_weights import load_released, released_name, to_released
from segnext.stochastic import numbers_needed, per_sample_numbers, set_per_sample_randomness

GOLDEN = FIXTURES / "golden"


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (Model("T"), 4_263_414),
        (Model("T", stages=(1, 2, 3, 4)), 4_271_606),
        (Model("T", decoder="b"), 4_206_070),
        (Model("T", decoder="a"), 4_337_910),
        (Model("S"), 13_932_886),
        (Model("B"), 27_636_310),
        (Model("L"), 48_926_550),
    ],
)
def test_parameters_equal_the_released_counts(model: Model, count: int):
    with torch.device("meta"):
        assert parameters(SegNeXt(model, classes=150)) == count


def check_golden(size: str, folder: Path, name: str) -> None:
    model = SegNeXt(Model(size), classes=150).eval()
    load_released(model, golden.weights(folder / f"{name}.keys.json"))
    expected = np.load(folder / f"{name}.npz")
    x = golden.image(0, 1, 3, 96, 128)
    with torch.no_grad():
        found = {f"stage{i}": y[0, :: max(1, y.shape[1] // 8)] for i, y in enumerate(model.encoder(x), start=1)}
        found["logits"] = model.logits(x)
    assert set(found) == set(expected.files)
    for key, value in found.items():
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=0, atol=1e-5 * scale, err_msg=key)


def test_tiny_reproduces_the_released_outputs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(NMF, "initial_bases", golden.bases)
    check_golden("T", GOLDEN, "tiny")


def test_base_reproduces_the_released_outputs(monkeypatch: pytest.MonkeyPatch, shared: Path):
    monkeypatch.setattr(NMF, "initial_bases", golden.bases)
    check_golden("B", shared / "golden", "base")


def test_released_weights_survive_a_round_trip():
    given = golden.weights(GOLDEN / "tiny.keys.json")
    model = SegNeXt(Model("T"), classes=150)
    load_released(model, {"meta": {}, "state_dict": {f"module.{key}": value for key, value in given.items()}})
    written = to_released(model)
    assert written.keys() == given.keys()
    assert all(torch.equal(written[key], given[key]) for key in given)


def test_newer_spelling_of_the_depthwise_convolution_is_read():
    given = golden.weights(GOLDEN / "tiny.keys.json")
    renamed = {key.replace(".dwconv.dwconv.", ".dwconv."): value for key, value in given.items()}
    assert renamed.keys() != given.keys()
    load_released(SegNeXt(Model("T"), classes=150), renamed)


def test_every_key_that_does_not_fit_is_named_and_nothing_is_loaded():
    given = golden.weights(GOLDEN / "tiny.keys.json")
    del given["backbone.norm1.weight"], given["decode_head.align.gn.bias"]
    given["backbone.norm9.weight"] = torch.zeros(3)
    given["decode_head.conv_seg.bias"] = torch.zeros(19)
    model = SegNeXt(Model("T"), classes=150)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="do not fit") as raised:
        load_released(model, given)
    for key in (
        "backbone.norm1.weight",
        "decode_head.align.gn.bias",
        "backbone.norm9.weight",
        "(19,), expected (150,)",
    ):
        assert key in str(raised.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("model", [Model("T", decoder="a"), Model("S"), Model("micro", branches=(3, 21))])
def test_no_two_parameters_share_a_released_name(model: Model):
    with torch.device("meta"):
        names = list(SegNeXt(model, classes=2).state_dict())
    assert len({released_name(name) for name in names}) == len(names)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(32, 97), width=st.integers(32, 97), decoder=st.sampled_from("abc"))
def test_any_size_from_32_gives_scores_of_that_size(height: int, width: int, decoder: str):
    model = SegNeXt(Model("micro", decoder=decoder), classes=5).eval()
    x = torch.randn(2, 3, height, width)
    with torch.no_grad():
        assert model(x).shape == (2, 5, height, width)
        strides = [-(-height // s) for s in (4, 8, 16, 32)]
        assert [y.shape[2] for y in model.encoder(x)] == strides


def test_smaller_images_are_refused():
    with pytest.raises(ValueError, match="at least 32x32"):
        SegNeXt(Model("micro"), classes=5)(torch.zeros(1, 3, 31, 64))


def test_evaluation_is_the_same_twice_and_in_any_batch():
    model = SegNeXt(Model("micro"), classes=5).eval()
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        once, again = model(x), model(x)
        alone = torch.cat([model(image[None]) for image in x])
    assert torch.equal(once, again)
    torch.testing.assert_close(once, alone)


def test_other_ham_seeds_give_other_scores():
    model = SegNeXt(Model("micro"), classes=5).eval()
    x = torch.randn(1, 3, 64, 64)
    nmf = next(module for module in model.modules() if isinstance(module, NMF))
    with torch.no_grad():
        first = model(x)
        nmf.reseed(1)
        other = model(x)
        nmf.reseed(0)
        assert torch.equal(model(x), first)
    assert not torch.allclose(other, first)


def give(model: SegNeXt, seed: int, samples: list[int]) -> None:
    set_per_sample_randomness(model, per_sample_numbers(seed, samples, numbers_needed(model)))


def test_what_a_sample_draws_does_not_depend_on_its_batch():
    model = SegNeXt(Model("micro", drop_path=0.5), classes=5, dropout=0.5).train()
    for module in model.modules():  # batch statistics do depend on the batch, by design
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    x = torch.randn(4, 3, 64, 64)
    give(model, 7, [10, 11, 12, 13])
    together = model(x)
    apart = []
    for samples in ([10, 11], [12, 13]):
        give(model, 7, samples)
        apart.append(model(x[[s - 10 for s in samples]]))
    torch.testing.assert_close(together, torch.cat(apart))
    give(model, 8, [10, 11, 12, 13])
    assert not torch.allclose(model(x), together)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 12))
def test_nmf_is_non_negative_and_more_steps_never_fit_worse(seed: int, rank: int):
    x = torch.rand(2, 16, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    errors = []
    for steps in range(8):
        nmf = NMF(16, rank, evaluation_steps=steps).eval()
        y = nmf(x)
        assert y.min() >= 0
        errors.append((x - y).square().sum().item())
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(errors))


def by_hand(msca: MSCA, x: torch.Tensor, branches: tuple[int, ...], mixing: bool, attention: bool) -> torch.Tensor:
    """Eqs. 1-2 with one dense convolution per kernel, in the module's weights."""
    channels = x.shape[1]

    def dense(layer: torch.nn.Conv2d, y: torch.Tensor) -> torch.Tensor:
        kernel = torch.zeros(channels, channels, *layer.kernel_size)
        kernel[range(channels), range(channels)] = layer.weight[:, 0]
        padding = [k // 2 for k in layer.kernel_size]
        return torch.nn.functional.conv2d(y, kernel, layer.bias, padding=padding)

    local = dense(msca.local, x)
    scales = local.clone()
    for kernel in branches:
        across, down = msca.strips[str(kernel)]
        assert (across.kernel_size, down.kernel_size) == ((1, kernel), (kernel, 1))
        scales += dense(down, dense(across, local))
    weights = (
        torch.einsum("oi,bihw->bohw", msca.mix.weight[:, :, 0, 0], scales) + msca.mix.bias[:, None, None]
        if mixing
        else scales
    )
    return weights * x if attention else weights


@pytest.mark.parametrize("branches", [(7,), (11,), (21,), (7, 11, 21), ()])
@pytest.mark.parametrize("mixing", [True, False])
@pytest.mark.parametrize("attention", [True, False])
def test_each_switch_of_msca_does_what_its_name_says(branches: tuple[int, ...], mixing: bool, attention: bool):
    msca = MSCA(4, branches, mixing, attention)
    for parameter in msca.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, 24, 23)
    torch.testing.assert_close(msca(x), by_hand(msca, x, branches, mixing, attention), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"size": "XL"}, "Model.size"),
        ({"decoder": "d"}, "Model.decoder"),
        ({"branches": (8,)}, "Model.branches"),
        ({"stages": (2, 5)}, "Model.stages"),
        ({"stages": (3, 2)}, "Model.stages"),
        ({"decoder": "b", "stages": (3, 4)}, "Model.stages"),
    ],
)
def test_an_impossible_model_is_refused_by_field(bad: dict, named: str):
    with pytest.raises(ValueError, match=named):
        Model(**bad)
