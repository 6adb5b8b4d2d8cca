"""The card gives the released code's numbers in float32, and stays within stated bounds of them otherwise."""

from __future__ import annotations

import json

import golden
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import FIXTURES
from torch import Tensor

from segnext import Execution, Model, SegNeXt, Train
from segnext.ham import NMF
from segnext.precision import autocast, set_up
from segnext.released_weights import load_released, to_released
from segnext.training.segmentation import parameter_groups, segmentation_loss

GOLDEN = FIXTURES / "golden"
CONTEXTS = ("ham", "nl", "cc", "ema", "msca", "none")

# Relative L2 of the logits against float32. A product's operands are rounded to 10 (TF32, float16) or 7 bits (bfloat16)
# of mantissa, 2^-11 or 2^-8 relative; errors of sums are independent, but those of some 100 layers add up, damped by
# layer scales: a few roundings' worth. float16 also keeps its results in 10 bits.
BOUNDS = {"tf32": 2e-3, "bfloat16": 3e-2, "float16": 5e-3}


@pytest.fixture(autouse=True)
def bases(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    """Those that the golden values were measured with, on the device."""
    given = golden.bases
    monkeypatch.setattr(NMF, "initial_bases", lambda *arguments: given(*arguments).to(device))


@pytest.fixture
def tiny(device: torch.device) -> SegNeXt:
    model = SegNeXt(Model("T", drop_path=0.0), classes=150, dropout=0.0).eval()
    load_released(model, golden.weights(GOLDEN / "tiny.keys.json"))
    return model.to(device)


def test_the_card_reproduces_the_released_outputs(tiny: SegNeXt, device: torch.device):
    expected = np.load(GOLDEN / "tiny.npz")
    x = golden.image(0, 1, 3, 96, 128).to(device)
    with torch.no_grad():
        found = {f"stage{i}": y[0, :: max(1, y.shape[1] // 8)] for i, y in enumerate(tiny.encoder(x), start=1)}
        found["logits"] = tiny.logits(x)
    assert set(found) == set(expected.files)
    for key, value in found.items():
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(value.cpu().numpy(), expected[key], rtol=0, atol=2e-5 * scale, err_msg=key)


def test_five_steps_on_the_card_are_the_released_ones(tiny: SegNeXt, device: torch.device):
    expected = json.loads((GOLDEN / "tiny.train.json").read_text())
    tiny.train()
    images = golden.image(1, 2, 3, 64, 64).to(device)
    labels = np.random.RandomState(2).randint(0, 150, (2, 8, 8)).repeat(8, axis=1).repeat(8, axis=2)
    labels[:, :5, :] = 255
    target = torch.from_numpy(labels.astype(np.uint8)).to(device)
    optimiser = torch.optim.AdamW(parameter_groups(tiny, Train(iterations=160_000)), fused=True)
    losses, norms = [], []
    for _ in range(5):
        loss = segmentation_loss(tiny.logits(images), target)
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in tiny.parameters()]).item())
        optimiser.step()
    np.testing.assert_allclose(losses, expected["losses"], rtol=2e-5)
    np.testing.assert_allclose(norms, expected["grad_norms"], rtol=1e-4)
    written = to_released(tiny)
    for key, values in expected["probe"].items():
        np.testing.assert_allclose(written[key].flatten()[:4].cpu().numpy(), values, atol=2e-6, err_msg=key)


@torch.no_grad()
def logits(model: SegNeXt, x: Tensor, precision: str) -> Tensor:
    set_up(Execution(precision=precision, cudnn_benchmark=False))
    with autocast(x.device, precision):
        return model.logits(x).float()


@pytest.mark.parametrize("precision", BOUNDS)
def test_other_precisions_stay_within_their_bounds(tiny: SegNeXt, device: torch.device, precision: str):
    x = golden.image(0, 1, 3, 96, 128).to(device)
    exact = logits(tiny, x, "float32")
    error = float((logits(tiny, x, precision) - exact).norm() / exact.norm())
    assert error <= BOUNDS[precision]
    if not (precision == "tf32" and (device.type == "cpu" or torch.cuda.get_device_capability() < (8, 0))):
        assert error > 0, "it was float32 after all"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("classes", "low", "high"), [(2, (8, 8), (64, 64)), (19, (9, 7), (65, 50)), (171, (16, 8), (128, 64))]
)
def test_the_loss_is_that_of_float32_under_autocast(
    device: torch.device, precision: str, classes: int, low: tuple[int, int], high: tuple[int, int]
):
    """Value and gradient, to float32's rounding, whatever comes in: the scores of half precision are the input."""
    generator = torch.Generator().manual_seed(3)
    scores = (5 * torch.randn(2, classes, *low, generator=generator)).to(device, getattr(torch, precision))
    labels = torch.randint(classes, (2, *high), generator=generator, dtype=torch.uint8)
    labels[torch.rand(2, *high, generator=generator) < 0.2] = 255
    labels = labels.to(device)
    exact = scores.double().requires_grad_()
    full = F.interpolate(exact, high, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(full, labels.long(), ignore_index=255, reduction="sum") / labels.numel()
    (wanted,) = torch.autograd.grad(expected, exact)
    given = scores.float().requires_grad_()
    with autocast(device, precision):
        loss = segmentation_loss(given, labels)
    (gradient,) = torch.autograd.grad(1024 * loss, given)  # scaled, as for float16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double() / 1024, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_context_trains_in_half_precision(
    device: torch.device, precision: str, context: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.undo()  # Ham's own bases
    torch.manual_seed(0)
    model = SegNeXt(Model("micro", context=context), 5).to(device).train()
    x = torch.randn(2, 3, 64, 64, device=device)
    labels = torch.randint(5, (2, 64, 64), dtype=torch.uint8, device=device)
    with autocast(device, precision):
        loss = segmentation_loss(model.logits(x), labels)
    (128 * loss).backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    with torch.no_grad(), autocast(device, precision):
        assert model.eval()(x).isfinite().all()
