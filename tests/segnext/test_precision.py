"""Half precision: what must stay in float32 does, and a training in it ends where float32's does."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segnext import Execution
from segnext.context import NonLocal
from segnext.data import cached, open_split
from segnext.training.segmentation import segmentation_loss
from segnext.training.train import train
from studies.declare.protocols import protocol
from studies.tables import study

HALF = (torch.bfloat16, torch.float16)


def in_double(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by PyTorch's own operators in float64."""
    scores = scores.detach().double().requires_grad_()
    full = F.interpolate(scores, size=labels.shape[1:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(full, labels.long(), ignore_index=255, reduction="sum") / labels.numel()
    loss.backward()
    assert scores.grad is not None
    return loss.detach(), scores.grad


def check_loss(function, scores: Tensor, labels: Tensor, dtype: torch.dtype) -> None:
    expected, gradient = in_double(scores, labels)
    given_scores = scores.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = function(given_scores, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach().double(), expected, rtol=2e-6, atol=1e-7)
    assert given_scores.grad is not None
    of_float32 = {"rtol": 1e-5, "atol": 1e-5 * gradient.abs().max().item()}
    if scores.dtype != torch.float32:  # autograd hands a gradient over in the scores' own dtype
        bits = torch.finfo(scores.dtype)
        of_float32 = {"rtol": 2 * bits.eps, "atol": of_float32["atol"] + 2 * bits.tiny * bits.eps}
    torch.testing.assert_close(given_scores.grad.double(), gradient, **of_float32)


@st.composite
def losses(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    classes, height, width = draw(st.integers(2, 171)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    scores = torch.from_numpy(random.normal(0, 4, (2, classes, height, width)).astype(np.float32))
    size = (2, height * draw(st.integers(1, 4)) + draw(st.integers(0, 3)), width * 3 + draw(st.integers(0, 3)))
    labels = torch.from_numpy(random.integers(0, classes, size, np.uint8))
    labels[torch.from_numpy(random.random(size) < draw(st.sampled_from([0, 0.3, 1])))] = 255
    return scores, labels


@given(losses(), st.sampled_from(HALF), st.booleans())
def test_under_autocast_the_loss_and_its_gradient_are_float32s(
    case: tuple[Tensor, Tensor], dtype: torch.dtype, half_scores: bool
):
    scores, labels = case
    check_loss(segmentation_loss, scores.to(dtype) if half_scores else scores, labels, dtype)


@pytest.mark.parametrize("dtype", HALF)
def test_so_are_they_when_compiled(dtype: torch.dtype):
    compiled = torch.compile(segmentation_loss, dynamic=True, backend="aot_eager")
    for classes, size in ((2, 5), (19, 8), (171, 7)):
        scores = torch.randn(2, classes, size, size + 1) * 4
        labels = torch.randint(classes, (2, 4 * size + 1, 3 * size), dtype=torch.uint8)
        labels[:, :3] = 255
        check_loss(compiled, scores, labels, dtype)


def test_large_features_do_not_leave_float16s_range_in_self_attention():
    module = NonLocal(64, torch.nn.GroupNorm(2, 64)).eval()
    with torch.no_grad():
        for layer in (module.query, module.key):
            layer.weight.copy_(torch.eye(32, 64)[:, :, None, None])
            layer.bias.zero_()
        x = torch.full((1, 64, 4, 4), 60.0)  # 32 * 60 * 60 = 115,200; divided by sqrt(32): 20,365
        with torch.autocast("cpu", dtype=torch.float16):
            assert module(x).isfinite().all()


@pytest.mark.parametrize("compiled", ["", "inductor"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_determinism_reaches_torch_and_inductor_which_is_not_imported_in_vain(deterministic: bool, compiled: str):
    program = (
        "import sys, torch; from segnext import Execution; from segnext.precision import set_up\n"
        f"set_up(Execution(deterministic={deterministic}, compile={compiled!r}))\n"
        "inductor = sys.modules.get('torch._inductor.config')\n"
        "print(torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode(),\n"
        "      'torch._inductor' in sys.modules, getattr(inductor, 'deterministic', None))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    enabled, mode, imported, inductors = done.stdout.split()
    assert (enabled, mode) == (str(deterministic), "2" if deterministic else "0")
    assert compiled or imported == "False"
    if compiled and inductors != "None":  # torch 2.11 has no such setting
        assert inductors == str(deterministic)


@pytest.mark.long(first=True)
def test_two_hundred_iterations_in_half_precision_end_where_float32_does(tmp_path: Path):
    """Within two standard deviations of float32's mean over five seeds, in the mean of the last 20 losses."""
    table, quick = study("table7"), protocol("quick")
    (panel, *_), row = quick.panels(table), table.row("c")
    source = cached(open_split(quick.run(panel, row, 0).data, "train", None))

    def last_losses(seed: int, precision: str) -> float:
        run = quick.run(panel, row, seed)
        run = dataclasses.replace(run, train=dataclasses.replace(run.train, iterations=200, batch=4))
        told: list[float] = []
        folder = tmp_path / f"{precision}-{seed}"
        train(run, source, folder, Execution(precision=precision), on_step=lambda step: told.append(step.loss))
        return statistics.mean(told[-20:])

    float32 = [last_losses(seed, "float32") for seed in range(5)]
    for precision in ("bfloat16", "float16"):
        away = abs(last_losses(0, precision) - statistics.mean(float32)) / statistics.stdev(float32)
        assert away < 2, f"{precision}: {away:.1f} standard deviations"
