"""Grad-CAM on its raw scale, effective receptive fields, and the evolution of Ham's bases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segnext.config import Model
from segnext.decoder import resize
from segnext.ham import NMF
from segnext.look.gradcam import grad_cam, share_inside
from segnext.look.insight import bases_evolution, effective_receptive_field, reach
from segnext.model import SegNeXt
from studies.declare.subtasks import REACH, WITHOUT_CONTEXT


@pytest.mark.parametrize(
    "model",
    [Model("micro"), Model("micro", decoder="a"), Model("T", encoder="convnext_tiny")],
    ids=["ham", "mlp", "convnext"],
)
def test_it_is_the_papers_formula_not_scaled(model):
    torch.manual_seed(0)
    network = SegNeXt(model, 3).eval()
    picture = torch.randn(1, 3, 64, 96)
    mask = np.zeros((64, 96), dtype=bool)
    mask[10:30, 20:60] = True
    for stage in (2, 4):
        heat = grad_cam(network, picture, 1, mask, stage)
        features = list(network.encoder(picture))  # by every way to the scores, through later stages too
        scores = resize(network.decoder(features), (64, 96))
        (gradient,) = torch.autograd.grad(scores[0, 1][torch.from_numpy(mask)].sum(), features[stage - 1])
        weighted = (gradient.mean(dim=(2, 3), keepdim=True) * features[stage - 1]).sum(dim=1, keepdim=True)
        expected = resize(weighted.relu(), (64, 96))[0, 0].detach().numpy()
        np.testing.assert_allclose(heat, expected, rtol=1e-3, atol=1e-5 * max(1.0, float(expected.max())))
    assert not any(parameter.grad is not None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="no pixel of class 1"):
        grad_cam(SegNeXt(Model("micro"), 3), torch.zeros(1, 3, 64, 64), 1, np.zeros((64, 64), dtype=bool))


def test_the_share_of_heat_inside():
    heat, mask = np.ones((4, 4), dtype=np.float32), np.zeros((4, 4), dtype=bool)
    mask[:2] = True
    heat[:2] = 3
    assert share_inside(heat, mask) == 0.75
    assert share_inside(np.zeros((4, 4), dtype=np.float32), mask) is None


def test_the_last_factorisation_is_hams_own():
    torch.manual_seed(0)
    nmf = NMF(8, 4).eval()
    x = torch.rand(1, 8, 5, 6)
    codes, errors = bases_evolution(nmf, x)
    assert codes.shape == (nmf.evaluation_steps + 2, 4, 5, 6)
    with torch.no_grad():
        own = float((x - nmf(x)).norm() / x.norm())
    assert errors[-1] == pytest.approx(own, rel=1e-5)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("branches", "row"), [((7,), "7x7"), ((7, 11, 21), "full")])
def test_a_field_ends_where_the_network_cannot_see(branches, row):
    torch.manual_seed(0)
    network = SegNeXt(Model(branches=branches, **WITHOUT_CONTEXT), 2)
    field = effective_receptive_field(network.encoder, 257, samples=2, stage=1)
    assert field.sum() == pytest.approx(1, rel=1e-4)
    rows, columns = field.nonzero()
    seen = max(abs(rows - 128).max(), abs(columns - 128).max())
    assert REACH[row] - 8 <= seen <= REACH[row]
    assert reach(field, 0.5) <= reach(field, 0.9) <= reach(field, 0.999999) <= seen


def test_a_side_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="257"):
        effective_receptive_field(SegNeXt(Model("micro"), 2).encoder, 224)
