"""The trainer is the released one, and stopping it anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from conftest import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from segnext import Data, Execution, Model, Run, SegNeXt, Train
from segnext.data import DataError, cached, open_split
from segnext.data.stream import Loading, stream
from segnext.ham import NMF
from segnext.model import MSCANClassifier
from segnext.released_weights import load_released, to_released
from segnext.stochastic import numbers_needed, set_per_sample_randomness
from segnext.training.segmentation import learning_rate, parameter_groups, segmentation_loss
from segnext.training.state import load_state, save_state
from segnext.training.train import READ_LATE, Diverged, Step, Stopped, build, train

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


def test_checkpoints_that_are_slow_are_few(source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []

    def slow(folder: Path, iteration: int, state: dict[str, object]) -> None:
        time.sleep(0.2)
        written.append(iteration)

    monkeypatch.setattr("segnext.training.train.save_state", slow)
    monkeypatch.setattr("segnext.training.train.CHECKPOINT_INTERVAL", 1)
    train(RUN, source, tmp_path, Execution())  # six steps of some milliseconds
    assert written == [1, 6]


def flipped(content: bytes) -> bytes:
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize("damage", [flipped, lambda content: content[: len(content) // 2], lambda content: b""])
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_state_is_passed_over_in_the_log_and_changes_nothing(
    damage: Callable[[bytes], bytes], both: bool, source, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    whole = final_state(RUN, source, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(RUN, source, tmp_path / "cut", Execution(checkpoint_interval=2), stop=stop_after(5))
    older, newest = sorted((tmp_path / "cut").glob("*.pt"))
    for path in [older, newest] if both else [newest]:
        path.write_bytes(damage(path.read_bytes()))
    state = load_state(tmp_path / "cut")
    told = [f"{path} is damaged and passed over" for path in ([newest, older] if both else [newest])]
    if both:
        assert state is None
        told.append(f"no state in {tmp_path / 'cut'} is undamaged: the run starts again from its beginning")
    else:
        assert state is not None
        assert state["iteration"] == int(older.name[:8]) == 4
    assert [record.message for record in caplog.records] == told
    again = final_state(RUN, source, tmp_path / "cut")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_damaged_state_that_is_put_aside_pushes_out_no_good_one(tmp_path: Path):
    for iteration in (10, 20):
        save_state(tmp_path, iteration, {"iteration": iteration})
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"torn")
    assert load_state(tmp_path, put_aside=True) is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged", ".damaged"]
    for iteration in (5, 6, 7):
        save_state(tmp_path, iteration, {"iteration": iteration})
    assert [path.name[:8] for path in sorted(tmp_path.iterdir())] == ["00000006", "00000007"]


class Renamed:
    """A source with a fingerprint, and contents if they are known, of one's own choice."""

    def __init__(self, source, fingerprint: str, contents: str | None = None) -> None:
        self._source, self._fingerprint, self._contents = source, fingerprint, contents

    def __len__(self) -> int:
        return len(self._source)

    def load(self, index: int):
        return self._source.load(index)

    def fingerprint(self) -> str:
        return self._fingerprint

    def contents(self) -> str | None:
        return self._contents


def test_a_training_goes_on_with_the_data_that_it_began_with_alone(source, tmp_path: Path):
    begun = Renamed(source, "aaaa", "bytes")
    with pytest.raises(Stopped):
        train(RUN, begun, tmp_path, Execution(), stop=stop_after(2))
    for other, words in (
        (Renamed(source, "bbbb"), "fingerprint aaaa"),
        (Renamed(source, "aaaa", "x"), "contents bytes"),
    ):
        with pytest.raises(
            DataError, match=f"state after 2 iterations in {tmp_path} was trained on data with the {words}"
        ):
            train(RUN, other, tmp_path, Execution())
    train(RUN, Renamed(source, "aaaa"), tmp_path, Execution())  # where nobody read every byte, names and sizes decide


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


def test_losses_read_a_step_late_as_on_cuda_change_nothing(source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: dict[int, dict[int, float]] = {0: {}, 1: {}}
    ends = {}
    for late, losses in told.items():
        monkeypatch.setitem(READ_LATE, "cpu", late)

        def on_step(step: Step, losses: dict[int, float] = losses) -> None:
            assert step.iteration == len(losses) + 1
            losses[step.iteration] = step.loss

        with pytest.raises(Stopped, match="stopped after 3 of 6"):
            train(RUN, source, tmp_path / str(late), Execution(), on_step=on_step, stop=stop_after(3))
        assert len(losses) == 3, "a loss was not read before the state was saved"
        with pytest.raises(Stopped, match="stopped after 4 of 6"):
            train(RUN, source, tmp_path / str(late), Execution(), on_step=on_step, pause_every=2)
        ends[late] = train(RUN, source, tmp_path / str(late), Execution(), on_step=on_step)[0].state_dict()
    assert told[0] == told[1]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    wild = dataclasses.replace(RUN, train=Train(iterations=30, batch=2, learning_rate=1e30, warmup_iterations=3))
    good: list[int] = []
    once = Execution(checkpoint_interval=1)
    with pytest.raises(Diverged) as error:
        train(wild, source, tmp_path / "wild", once, on_step=lambda step: good.append(step.iteration))
    state = load_state(tmp_path / "wild")
    assert state is not None
    assert state["iteration"] == good[-1]
    assert f"at iteration {good[-1]}; the last good state is after {state['iteration']}" in str(error.value)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_batch_in_parts_steps_along_the_mean_of_their_gradients(source, tmp_path: Path):
    settings = Train(iterations=2, batch=6, accumulate=3, warmup_iterations=0)
    run = dataclasses.replace(RUN, train=settings)
    model, _ = train(run, source, tmp_path, Execution())
    expected = build(run).train()
    optimiser = torch.optim.AdamW(parameter_groups(expected, settings), fused=True)
    parts = stream(DATA, source, run.seed, 2, 0, 6, Loading(numbers=(run.seed, numbers_needed(expected))))
    for iteration in range(2):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, iteration) * group["factor"]
        optimiser.zero_grad()
        for part in itertools.islice(parts, 3):
            set_per_sample_randomness(expected, part.numbers)
            (segmentation_loss(expected.logits(part.images), part.labels) / 3).backward()
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_alike_and_continues_to_the_same_bits(precision: str, source, tmp_path: Path):
    losses: dict[str, list[float]] = {"float32": [], precision: []}
    ends = []
    for name, told in losses.items():
        model, _ = train(
            RUN, source, tmp_path / name, Execution(precision=name), on_step=lambda step, to=told: to.append(step.loss)
        )
        ends.append(model.state_dict())
    assert losses[precision] != losses["float32"]
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.02)
    assert {tensor.dtype for tensor in ends[1].values()} == {torch.float32, torch.int64}
    execution = Execution(precision=precision)
    with pytest.raises(Stopped):
        train(RUN, source, tmp_path / "stopped", execution, stop=stop_after(3))
    state = load_state(tmp_path / "stopped")
    assert state is not None
    assert ("scale" in state["scaler"]) == (precision == "float16")
    model, _ = train(RUN, source, tmp_path / "stopped", execution)
    assert all(torch.equal(tensor, ends[1][key]) for key, tensor in model.state_dict().items())


FROM_UPSTREAM = dataclasses.replace(RUN, init="upstream")


def equal(key: str, one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return torch.equal(to_released(one)[key], to_released(other)[key])


def test_a_run_starts_from_the_encoder_of_a_classification_run():
    upstream = MSCANClassifier(RUN.model, 5)
    network, scratch = build(FROM_UPSTREAM, to_released(upstream)), build(RUN)
    assert isinstance(network, SegNeXt)
    assert all(
        torch.equal(a, b) for a, b in zip(network.encoder.parameters(), upstream.encoder.parameters(), strict=True)
    )
    assert all(equal(key, network, scratch) for key in to_released(network) if key.startswith("decode_head."))


@pytest.mark.parametrize("classes", [7, 3])
@pytest.mark.long
def test_a_run_starts_from_a_segmentation_run_but_for_scores_of_other_classes(classes: int):
    torch.manual_seed(1)
    upstream = SegNeXt(RUN.model, classes)
    network, scratch = build(FROM_UPSTREAM, to_released(upstream)), build(RUN)
    for key in to_released(network):
        scores = key.startswith("decode_head.conv_seg.")
        assert equal(key, network, scratch if scores and classes != 7 else upstream), key


def test_weights_that_do_not_fit_are_an_error_that_lists_them_all():
    given = to_released(SegNeXt(RUN.model, 3))
    given["decode_head.stranger"] = torch.zeros(1)
    del given["backbone.norm1.weight"]
    given["decode_head.squeeze.conv.weight"] = torch.zeros(2)
    with pytest.raises(ValueError, match="upstream: these keys do not fit") as error:
        build(FROM_UPSTREAM, given)
    for word in ("missing: backbone.norm1.weight", "unknown: decode_head.stranger", "shape of decode_head.squeeze"):
        assert word in str(error.value)
    assert "conv_seg" not in str(error.value)


def test_weights_and_their_name_come_together_or_not_at_all():
    with pytest.raises(ValueError, match="starts from 'upstream', but its weights are not here"):
        build(FROM_UPSTREAM)
    with pytest.raises(ValueError, match=r"Run\.init is None"):
        build(RUN, to_released(build(RUN)))


def test_a_training_starts_from_the_weights_it_is_given(source, tmp_path: Path):
    start = to_released(SegNeXt(RUN.model, 7))
    wanted = dataclasses.replace(FROM_UPSTREAM, train=Train(iterations=1, batch=2, learning_rate=1e-12))
    model, _ = train(wanted, source, tmp_path, Execution(), initial=start)
    key = "backbone.block1.0.mlp.fc1.weight"
    torch.testing.assert_close(to_released(model)[key], start[key])
