"""SegFormer through the extra: the printed parameters, costs under the paper's convention, any size, names."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import needs

from segnext import Cost, Model, SegNeXt, Train
from segnext.measure.cost import measure, multiply_adds
from segnext.released_weights import load_released, released_name, to_released
from segnext.training.segmentation import parameter_groups

installed = needs("segformer", "transformers")
B0 = Model(encoder="segformer_b0")

# Printed parameters (Table 9); multiply-adds under the paper's convention as measured here, at 512x512 with 150 classes
# and at 1024x2048 with 19. The paper quotes SegFormer's own paper, counted by another tool: 8.4, 15.9, 62.4, 79.0 and
# 125.5, 243.7, 717.1, 962.9.
EXPECTED = {
    "segformer_b0": (3_752_694, 3.8, 8.6389, 122.7772),
    "segformer_b1": (13_715_798, 13.7, 16.1354, 240.9995),
    "segformer_b2": (27_461_974, 27.5, 62.7594, 707.4618),
    "segformer_b3": (47_337_814, 47.3, 79.4091, 954.2835),
}


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"'segformer_b0' needs transformers: pip install .*\[segformer\]"):
        SegNeXt(B0, 5)


@installed
@pytest.mark.parametrize("name", EXPECTED)
def test_costs(name: str):
    params, printed, small, large = EXPECTED[name]
    measured = measure(Cost(Model(encoder=name), 150, 512, 512))
    assert measured.params == params
    assert round(params / 1e6, 1) == printed
    assert measured.gmacs == pytest.approx(small, abs=5e-5 + 1e-9)
    assert measure(Cost(Model(encoder=name), 19, 1024, 2048)).gmacs == pytest.approx(large, abs=5e-5 + 1e-9)


@installed
def test_following_shapes_alone_counts_what_a_pass_with_numbers_does():
    measured = measure(Cost(B0, 5, 67, 96))
    counted = multiply_adds(SegNeXt(B0, 5).eval(), torch.zeros(1, 3, 67, 96))
    assert (measured.gmacs * 1e9, measured.gmacs_fvcore * 1e9) == pytest.approx(counted, rel=1e-12)


@installed
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 64)])
def test_any_size_from_32_and_the_same_bits_twice(size: tuple[int, int]):
    network, x = SegNeXt(B0, 5).eval(), torch.randn(2, 3, *size)
    with torch.no_grad():
        assert [y.shape[2] for y in network.encoder(x)] == [-(-size[0] // s) for s in (4, 8, 16, 32)]
        once = network(x)
        assert once.shape == (2, 5, *size)
        assert torch.equal(once, network(x))


@installed
def test_it_trains_with_the_heads_own_rate_and_exports():
    network = SegNeXt(B0, 5).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all(released_name(name).startswith(("backbone.", "decode_head.")) for name in network.state_dict())
    head = [g for g in parameter_groups(network, Train(iterations=1)) if g["factor"] == 10]
    assert sum(len(g["params"]) for g in head) == len(list(network.decoder.parameters()))
    other = SegNeXt(B0, 5)
    load_released(other, to_released(network))
    x = torch.randn(1, 3, 64, 64)
    exported = torch.export.export(other.eval(), (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network.eval()(x), rtol=1e-5, atol=1e-5)
