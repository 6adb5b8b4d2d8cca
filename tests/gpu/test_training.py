"""Training on a card: stopping, compiling and capturing change nothing, and the device never waits for the host."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from segnext import Data, Execution, Model, Run, Train
from segnext.config import PRECISIONS
from segnext.data import cached, open_split
from segnext.data.stream import Loading, Share, on_device
from segnext.distributed import World, synchronise
from segnext.stochastic import numbers_needed
from segnext.training.state import load_state
from segnext.training.step import TrainingStep
from segnext.training.train import Diverged, Step, Stopped, build, task, train

pytestmark = pytest.mark.gpu

DATA = Data("diagnostic/scene", 7, (96, 96), (64, 64), ratio=(0.75, 1.5), generator="1")
RUN = Run("test", 1, Model("micro", drop_path=0.2), DATA, Train(iterations=8, batch=4, warmup_iterations=2), seed=3)
CONTEXTS = ("ham", "nl", "cc", "ema", "msca", "none")


@pytest.fixture(scope="module")
def source():
    return cached(open_split(DATA, "train", None))


def stop_after(steps: int) -> Callable[[], bool]:
    seen: list[int] = []

    def stop() -> bool:
        seen.append(1)
        return len(seen) >= steps

    return stop


def trained(run: Run, source, folder: Path, execution: Execution, *stops: int) -> tuple[dict[str, Tensor], list[float]]:
    """Final weights and all losses, stopped after so many steps each."""
    told: dict[int, float] = {}

    def on_step(step: Step) -> None:
        told[step.iteration] = step.loss

    for steps in stops:
        with pytest.raises(Stopped):
            train(run, source, folder, execution, stop=stop_after(steps), on_step=on_step)
    model, _ = train(run, source, folder, execution, on_step=on_step)
    assert sorted(told) == list(range(1, run.train.iterations + 1))
    return {name: value.cpu() for name, value in model.state_dict().items()}, [told[key] for key in sorted(told)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("compile", ["", "graphs"])
def test_a_stopped_run_continues_to_the_same_bits_under_deterministic_algorithms(
    compile: str, precision: str, device: torch.device, source, tmp_path: Path
):
    execution = Execution(str(device), precision=precision, compile=compile, deterministic=True, checkpoint_interval=3)
    try:
        whole, losses = trained(RUN, source, tmp_path / "whole", execution)
        stopped, again = trained(RUN, source, tmp_path / "stopped", execution, 1, 2, 3)
    finally:
        torch.use_deterministic_algorithms(False)
    assert losses == again
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


@pytest.mark.parametrize("context", CONTEXTS)
def test_without_them_it_continues_to_rounding(context: str, device: torch.device, source, tmp_path: Path):
    run = dataclasses.replace(RUN, model=dataclasses.replace(RUN.model, context=context))
    _, losses = trained(run, source, tmp_path / "whole", Execution(str(device)))
    _, again = trained(run, source, tmp_path / "stopped", Execution(str(device)), 3)
    torch.testing.assert_close(again, losses, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("compile", "precision"),
    [("graphs", "float32"), ("graphs", "bfloat16"), ("inductor", "float32"), ("inductor+graphs", "bfloat16")],
)
def test_a_compiled_or_captured_step_gives_the_eager_losses(
    compile: str, precision: str, device: torch.device, source, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    if "inductor" in compile and device.type == "cpu":
        pytest.skip("on a CPU tests/segnext/test_stopped.py compiles")
    _, eager = trained(RUN, source, tmp_path / "eager", Execution(str(device), precision=precision))
    _, other = trained(RUN, source, tmp_path / "other", Execution(str(device), precision=precision, compile=compile))
    torch.testing.assert_close(other, eager, rtol=1e-3 if precision == "float32" else 2e-2, atol=0)
    said = [record.message for record in caplog.records]
    if device.type == "cuda":
        assert not [words for words in said if "goes on without" in words], "it fell back to eager"


def test_cuda_graphs_capture_every_context_and_the_classifiers_batches_in_parts(
    device: torch.device, source, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for context in CONTEXTS:
        model = dataclasses.replace(RUN.model, context=context)
        run = dataclasses.replace(RUN, model=model, train=dataclasses.replace(RUN.train, iterations=3, accumulate=2))
        _, eager = trained(run, source, tmp_path / context / "eager", Execution(str(device)))
        _, graph = trained(run, source, tmp_path / context / "graph", Execution(str(device), compile="graphs"))
        torch.testing.assert_close(graph, eager, rtol=1e-4, atol=0, msg=context)
    if device.type == "cuda":
        assert not [record.message for record in caplog.records if "goes on without" in record.message]


@pytest.mark.parametrize("compile", ["", "graphs"])
def test_a_loss_that_is_not_finite_ends_the_run_names_its_iteration_and_keeps_the_last_good_state(
    compile: str, device: torch.device, source, tmp_path: Path
):
    wild = dataclasses.replace(RUN, train=Train(iterations=30, batch=2, learning_rate=1e30, warmup_iterations=3))
    told: list[int] = []
    execution = Execution(str(device), compile=compile, checkpoint_interval=1)
    with pytest.raises(Diverged) as error:
        train(wild, source, tmp_path, execution, on_step=lambda step: told.append(step.iteration))
    state = load_state(tmp_path)
    assert state is not None
    assert f"at iteration {told[-1]}; the last good state is after {state['iteration']}" in str(error.value)
    assert state["iteration"] == told[-1] >= 1
    assert all(value.isfinite().all() for value in state["model"].values())


@contextmanager
def no_synchronisation(device: torch.device) -> Iterator[None]:
    """Every operation by which the host would wait for the device is an error."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compile", ["", "graphs"])
def test_a_step_and_the_next_batch_make_no_host_synchronisation(
    compile: str, precision: str, device: torch.device, source
):
    execution = Execution(str(device), precision=precision, compile=compile, cudnn_benchmark=False)
    this, model = task(RUN, source), build(RUN).to(device).train()
    step = TrainingStep(this, model, execution)
    loading = Loading(numbers=(RUN.seed, numbers_needed(model)), pinned=device.type == "cuda")
    batches = on_device(iter(this.batches(0, Share(), loading)), device)
    losses = [step([next(batches)], 1e-4) for _ in range(2)]  # matrices are made, libraries loaded, graphs captured
    with no_synchronisation(device):
        losses += [step([batch], 1e-4) for batch in batches]
    assert torch.stack(losses).isfinite().all()
    assert len(losses) == RUN.train.iterations


def test_training_itself_makes_none_between_two_checkpoints(device: torch.device, source, tmp_path: Path):
    run = dataclasses.replace(RUN, train=dataclasses.replace(RUN.train, iterations=20))

    def on_step(step: Step) -> None:
        if device.type == "cuda" and step.iteration in (4, 17):
            torch.cuda.set_sync_debug_mode("error" if step.iteration == 4 else "default")

    try:
        train(run, source, tmp_path, Execution(str(device), checkpoint_interval=100, workers=1), on_step=on_step)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def _in_a_group(rank: int, port: str, kind: str) -> None:
    """One process in a group of one: what is sent comes back. `World.size` says two, so that everything is sent."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "1", "RANK": "0"}
    device = torch.device(kind)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    source = cached(open_split(DATA, "train", None))
    losses, halved = [], []
    for world, compile in ((World(), ""), (World(size=2, device=device), ""), (World(size=2, device=device), "graphs")):
        this, model = task(RUN, source), build(RUN).to(device).train()
        if world.size > 1:
            synchronise(model)
        step = TrainingStep(this, model, Execution(kind, compile=compile), world)
        step.optimiser.step = lambda *_, **__: None  # type: ignore[method-assign]
        batches = on_device(iter(this.batches(0, Share(), Loading(numbers=(0, numbers_needed(model))))), device)
        losses.append([step([next(batches)], 0.0).item() for _ in range(2)])
        halved.append(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(losses[2], losses[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(halved[1], halved[0] / 2, rtol=1e-2, atol=0)
    torch.testing.assert_close(halved[2], halved[0] / 2, rtol=1e-2, atol=0)
    dist.destroy_process_group()


def test_nccl_carries_batch_norm_and_gradients_also_inside_a_graph(device: torch.device):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    torch.multiprocessing.spawn(_in_a_group, (port, device.type), nprocs=1)
