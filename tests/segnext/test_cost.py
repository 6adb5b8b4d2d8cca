"""Parameters and FLOPs are those of the released code and of the definitions that reproduce the printed digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import named
from costs import EXPECTED, VARIANTS, lines

from segnext import Cost, Model
from segnext.measure.cost import measure, multiply_adds
from segnext.model import build_network

# The same sizes again with other heads, numbers of classes and images; T of each is in the default run.
SAME = [v for v in VARIANTS if v.startswith(("seg/", "cls/", "a2/")) and not v.endswith("ade150") and "T/" not in v]


@pytest.mark.parametrize("variant", [pytest.param(v, marks=pytest.mark.long if v in SAME else ()) for v in VARIANTS])
def test_costs_equal_those_measured_on_the_released_code(variant: str):
    measured, expected = measure(VARIANTS[variant]), EXPECTED[variant]
    assert measured.params == int(expected["trainable_params"])
    assert measured.gmacs == pytest.approx(float(expected["gmacs_paper_convention"]), abs=5e-5 + 1e-9)
    if expected["gmacs_fvcore"]:  # not measured at 1024x2048
        assert measured.gmacs_fvcore == pytest.approx(float(expected["gmacs_fvcore"]), abs=5e-5 + 1e-9)


def test_the_expected_costs_are_the_shared_ones(shared: Path):
    released = lines(shared / "paper" / "costs.csv")
    assert EXPECTED.keys() == VARIANTS.keys()
    for variant, line in EXPECTED.items():
        assert line == {name: released[variant][name] for name in line}


ENCODERS = [
    Model("micro"),
    Model("micro", encoder="van"),
    Model("micro", encoder_norm="ln", attention=False, channel_mixing=False),
]
EVERY_PART = [
    *((model, task) for model in ENCODERS for task in ("segmentation", "classification")),
    *((Model("micro", decoder=decoder), "segmentation") for decoder in "ab"),
    *((Model("micro", context=context), "segmentation") for context in ("nl", "cc", "ema", "msca", "none")),
    (Model("micro", encoder="convnext_tiny", head_norm="bn"), "segmentation"),
]


@pytest.mark.parametrize(("model", "task"), EVERY_PART, ids=named)
def test_following_shapes_alone_counts_what_a_pass_with_numbers_does(model: Model, task: str):
    network = build_network(model, 5, task).eval()
    measured = measure(Cost(model, 5, 67, 96, task=task))
    assert (measured.gmacs * 1e9, measured.gmacs_fvcore * 1e9) == pytest.approx(
        multiply_adds(network, torch.zeros(1, 3, 67, 96)), rel=1e-12
    )
    assert measured.params == sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_the_product_costs_only_under_the_papers_convention():
    """fvcore cannot see "no attention" of Table 6; the paper's tool counts one per output element."""
    full, without = (measure(Cost(Model("micro", attention=a), 150, 64, 64)) for a in (True, False))
    assert full.gmacs_fvcore == without.gmacs_fvcore
    product = sum(depth * c * s * s for depth, c, s in zip((1, 1, 2, 1), (16, 32, 48, 64), (16, 8, 4, 2), strict=True))
    assert full.gmacs - without.gmacs == pytest.approx(product / 1e9)


def test_einsum_costs_only_under_fvcores_own_convention():
    """EMA on B: 32.33 as printed without its products, 33.27 with them. (fvcore rounds einsum to four digits.)"""
    none, ema = (measure(Cost(Model("micro", context=c), 5, 64, 64)) for c in ("none", "ema"))
    channels, pixels, bases, steps = 64, 8 * 8, 64, 3
    convolutions, norm = 2 * channels**2 * pixels, channels * pixels
    assert (ema.gmacs - none.gmacs) * 1e9 == pytest.approx(convolutions + norm)
    products = (2 * steps + 1) * channels * pixels * bases
    assert (ema.gmacs_fvcore - none.gmacs_fvcore) * 1e9 == pytest.approx(convolutions + 5 * norm + products, rel=1e-4)


def test_frozen_parameters_are_not_counted():
    """Table 5 prints 27.4 M for EMA: without the convolution that gets no gradient."""
    network = build_network(Model("micro", context="ema"), 5)
    frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    assert frozen == 64 * 64 + 64
    total = sum(p.numel() for p in network.parameters())
    assert measure(Cost(Model("micro", context="ema"), 5, 64, 64)).params == total - frozen


def test_an_unknown_task_is_refused_by_field():
    with pytest.raises(ValueError, match=r"Cost\.task: 'detection'"):
        Cost(Model("micro"), 5, 64, 64, task="detection")
    with pytest.raises(ValueError, match="detection"):
        build_network(Model("micro"), 5, "detection")
