"""The trainer is the released one, and stopping it anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from conftest import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from segnext import Data, Execution, Model, Run, SegNeXt, Train
from segnext.checkpoints import load_released, to_released
from segnext.data import cached, open_split
from segnext.ham import NMF
from segnext.resume import load_state, save_state
from segnext.segmentation import learning_rate, parameter_groups, segmentation_loss
from segnext.train import Diverged, Stopped, build, train

GOLDEN = FIXTURES / "golden"
DATA = Data("diagnostic/scene", 7, (96, 96), (64, 64), ratio=(0.75, 1.5), generator="1")
RUN = Run("test", 1, Model("micro", drop_path=0.2), DATA, Train(iterations=6, batch=2, warmup_iterations=2), seed=3)


@pytest.fixture(scope="module")
def source():
    return cached(open_split(DATA, "train", None))


def test_five_steps_reproduce_the_released_ones(monkeypatch: pytest.MonkeyPatch):
    expected = json.loads((GOLDEN / "tiny.train.json").read_text())
    monkeypatch.setattr(NMF, "initial_bases", golden.bases)
    model = SegNeXt(Model("T", drop_path=0.0), classes=150, dropout=0.0).train()
    load_released(model, golden.weights(GOLDEN / "tiny.keys.json"))
    images = golden.image(1, 2, 3, 64, 64)
    labels = np.random.RandomState(2).randint(0, 150, (2, 8, 8)).repeat(8, axis=1).repeat(8, axis=2)
    labels[:, :5, :] = 255
    groups = parameter_groups(model, Train(iterations=160_000))
    counted = {
        str((round(group["lr"], 9), group["weight_decay"])): [
            len(group["params"]),
            sum(p.numel() for p in group["params"]),
        ]
        for group in groups
    }
    assert counted == expected["group_counts"]
    optimiser = torch.optim.AdamW(groups, fused=True)
    losses, norms = [], []
    for _ in range(5):
        loss = segmentation_loss(model.logits(images), torch.from_numpy(labels))
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item())
        optimiser.step()
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(norms, expected["grad_norms"], rtol=1e-4)
    written = to_released(model)
    for key, values in expected["probe"].items():
        np.testing.assert_allclose(written[key].flatten()[:4].numpy(), values, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(("iteration", "rate"), [(0, 6e-11), (749, 2.982e-5), (1500, 5.94375e-5), (80_000, 3e-5)])
def test_the_schedule_is_the_released_one(iteration: int, rate: float):
    """Values of the released code at 160k iterations (shared/oracle, lr_at_iteration)."""
    assert learning_rate(Train(iterations=160_000), iteration) == pytest.approx(rate, rel=1e-4)


@given(st.integers(2, 10_000), st.integers(0, 3000))
def test_the_schedule_falls_after_the_warm_up_and_never_below_zero(iterations: int, warmup: int):
    settings = Train(iterations=iterations, warmup_iterations=warmup)
    rates = [learning_rate(settings, i) for i in range(0, iterations, max(1, iterations // 50))]
    after = [rate for i, rate in zip(range(0, iterations, max(1, iterations // 50)), rates, strict=True) if i >= warmup]
    assert all(0 < rate <= settings.learning_rate for rate in rates)
    assert after == sorted(after, reverse=True)


def test_ignored_pixels_do_not_train_but_count_in_the_mean():
    scores = torch.randn(1, 4, 8, 8, requires_grad=True)
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    whole = segmentation_loss(scores, labels)
    labels[:, :4] = 255
    loss = segmentation_loss(scores, labels)
    upper, lower = (
        torch.nn.functional.cross_entropy(scores[:, :, part], labels[:, part].long() * 0, reduction="mean")
        for part in (slice(0, 4), slice(4, 8))
    )
    torch.testing.assert_close(whole, (upper + lower) / 2)
    torch.testing.assert_close(loss, lower / 2)


def test_the_same_seed_builds_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = build(RUN), build(RUN)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = build(dataclasses.replace(RUN, seed=4))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def stop_after(steps: int):
    seen = []

    def stop() -> bool:
        seen.append(1)
        return len(seen) >= steps

    return stop


def final_state(run: Run, source, folder: Path, *stops: int) -> dict[str, torch.Tensor]:
    execution = Execution(checkpoint_interval=2)
    for steps in stops:
        with pytest.raises(Stopped, match="the same command continues"):
            train(run, source, folder, execution, stop=stop_after(steps))
    model, seconds = train(run, source, folder, execution)
    assert seconds > 0
    return model.state_dict()


def test_stopping_and_continuing_ends_with_the_same_bits(source, tmp_path: Path):
    whole = final_state(RUN, source, tmp_path / "whole")
    stopped = final_state(RUN, source, tmp_path / "stopped", 1, 2, 2)
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_a_damaged_newest_state_falls_back_to_the_one_before(source, tmp_path: Path):
    whole = final_state(RUN, source, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(RUN, source, tmp_path / "cut", Execution(checkpoint_interval=2), stop=stop_after(5))
    older, newest = sorted((tmp_path / "cut").glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    state = load_state(tmp_path / "cut")
    assert state is not None
    assert state["iteration"] == int(older.name[:8]) == 4
    again = final_state(RUN, source, tmp_path / "cut")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_two_states_are_kept_and_a_failed_write_harms_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for iteration in (10, 20, 30):
        save_state(tmp_path, iteration, {"iteration": iteration})
    assert [path.name[:8] for path in sorted(tmp_path.iterdir())] == ["00000020", "00000030"]

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path, 40, {"iteration": 40})
    assert [path.name[:8] for path in sorted(tmp_path.iterdir())] == ["00000020", "00000030"]
    assert load_state(tmp_path) == {"iteration": 30}


def test_a_state_of_another_run_is_refused(source, tmp_path: Path):
    train(dataclasses.replace(RUN, train=Train(iterations=1, batch=2)), source, tmp_path, Execution())
    with pytest.raises(ValueError, match=RUN.id):
        train(RUN, source, tmp_path, Execution())


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(source, tmp_path: Path):
    wild = dataclasses.replace(RUN, train=Train(iterations=30, batch=2, learning_rate=1e30, warmup_iterations=3))
    with pytest.raises(Diverged, match=r"at iteration \d+; the last good state is after \d+"):
        train(wild, source, tmp_path, Execution(checkpoint_interval=1))
    state = load_state(tmp_path)
    assert state is not None
    assert state["iteration"] >= 1


def test_starting_from_something_that_cannot_be_loaded_is_an_error_not_a_start_from_scratch():
    with pytest.raises(ValueError, match="imagenet1k"):
        build(dataclasses.replace(RUN, init="imagenet1k"))
