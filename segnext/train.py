"""The trainer: AdamW, a schedule, and a state that any stop can continue from. What is trained for is a `Task`."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from segnext.checkpoints import load_initial
from segnext.classification import Classification
from segnext.config import Execution, Run, Train
from segnext.data import Source
from segnext.data.imagenet import ClassFolderSource
from segnext.data.stream import Batch, Share
from segnext.distributed import World, synchronise
from segnext.model import build_network
from segnext.precision import autocast, set_up
from segnext.resume import load_state, save_state
from segnext.segmentation import Segmentation
from segnext.stochastic import set_numbers

CHECKPOINT_INTERVAL = 100  # iterations at least between two checkpoints, if `Execution` names no other
CHECKPOINT_SHARE = 0.005  # of the time at most

logger = logging.getLogger(__name__)

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A `Task.loss`."""


class Stopped(Exception):
    """The run was asked to stop; its state is saved and it can be continued."""


class Diverged(ArithmeticError):
    """The loss is not a finite number; the last good state is kept."""


@dataclass(frozen=True)
class Step:
    """One finished step, as a curve shows it."""

    iteration: int  # steps done, this one included
    loss: float
    learning_rate: float  # of the encoder
    images_per_second: float  # since the last report


class Task(Protocol):
    """What sets one kind of training apart. `train` does the rest."""

    run: Run

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's groups; each has `factor`, its multiple of the scheduled learning rate."""

    def learning_rate(self, iteration: int) -> float:
        """The scheduled learning rate at a step, 0 the first."""

    def batches(self, start: int, share: Share, workers: int) -> Iterator[Batch]:
        """This process's share of the batches from iteration `start` to the run's end, a part at a time.

        A batch of `Train.accumulate` parts comes as so many, one after the other. Each is a function of the seed and
        its place alone, and leaves torch's global random state alone.
        """

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the samples, float32 (), of a batch on the model's device and under autocast."""


def task(run: Run, source: Source | ClassFolderSource) -> Task:
    """The task that a run names."""
    if run.task == "classification":
        return Classification(run, cast(ClassFolderSource, source))
    return Segmentation(run, cast(Source, source))


def build(run: Run, initial: Mapping[str, Any] | None = None) -> nn.Module:
    """The run's network with its initial weights, the same for the same seed.

    `initial` are the weights that `run.init` names, under released names (`segnext.checkpoints.load_initial`). Raises
    `ValueError` where one of the two is there without the other, and for weights that do not fit.
    """
    if run.init is not None and initial is None:
        raise ValueError(f"the run starts from {run.init!r}, but its weights are not here; give them as `initial`")
    if run.init is None and initial is not None:
        raise ValueError("initial weights were given, but the run starts from scratch: Run.init is None")
    dropout = {"dropout": run.train.dropout} if isinstance(run.train, Train) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = build_network(run.model, run.data.classes, run.task, **dropout)
    if initial is not None:
        load_initial(network, initial, run.init if isinstance(run.init, str) else f"run {run.init and run.init.id}")
    return network


def train(
    run: Run,
    source: Source | ClassFolderSource,
    folder: Path,
    execution: Execution,
    *,
    initial: Mapping[str, Any] | None = None,
    world: World = World(),  # noqa: B008  # frozen
    on_step: Callable[[Step], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, float]:
    """Train the run to its end, from its newest state in `folder` if there is one, else from its initial weights.

    Returns the model and the seconds spent in steps over all attempts. Raises `Stopped` after saving when `stop()`
    turns true, `Diverged` at once when the loss is not finite, and `OSError` where a state cannot be written; the last
    good one is kept. In a `world` of several processes all call this with the same arguments and stop together as soon
    as `stop()` turns true in one; the first alone writes states and calls `on_step`.
    """
    device = torch.device(execution.device)
    set_up(execution)
    this = task(run, source)
    model = build(run, initial).to(device).train()
    if world.size > 1:
        synchronise(model, bool(execution.compile))
    optimiser = torch.optim.AdamW(this.groups(model), fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "float16")
    done, seconds = 0, 0.0
    if (state := load_state(folder)) is not None:
        if state["run"] != run.id:
            raise ValueError(f"{folder} holds the state of run {state['run']}, not of {run.id}; move it away")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state.get("scaler") or scaler.state_dict())
        torch.set_rng_state(state["rng"])
        done, seconds = state["iteration"], state["seconds"]
    if len(set(starts := world.gather(done))) > 1:
        raise ValueError(f"{folder}: the processes see states after {starts} iterations; it must be a shared folder")

    def save() -> float:
        """Returns the seconds that it took."""
        started = time.perf_counter()
        if world.first:
            content = {
                "run": run.id,
                "iteration": done,  # also the position in the data: the stream is a function of it
                "seconds": seconds,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "scaler": scaler.state_dict(),  # empty but for float16
                "rng": torch.get_rng_state(),
            }
            save_state(folder, done, content)
        return time.perf_counter() - started

    def due() -> bool:
        if execution.checkpoint_interval is not None:
            return done % execution.checkpoint_interval == 0
        return done % CHECKPOINT_INTERVAL == 0 and time.perf_counter() - last > saving / CHECKPOINT_SHARE

    settings, saved, saving, last = run.train, done, 0.0, -math.inf  # how long the last checkpoint took, and its end
    parts = settings.accumulate
    loss_of = _compiled(this.loss) if execution.compile else this.loss
    batches = iter(this.batches(done, Share(world.rank, world.size), execution.workers))
    started = time.perf_counter()
    while done < settings.iterations:
        rate = this.learning_rate(done)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        optimiser.zero_grad(set_to_none=True)
        losses = []
        for batch in itertools.islice(batches, parts):
            set_numbers(model, run.seed, batch.samples.tolist())
            images = batch.images.to(device, memory_format=torch.channels_last)
            with autocast(device, execution.precision):
                loss = loss_of(model, images, batch.labels.to(device))
            scaler.scale(loss / parts if parts > 1 else loss).backward()
            losses.append(loss.detach())
        # One meeting says whether all may take the step, and whether someone was asked to stop after it.
        value, stopping = world.sum([torch.stack(losses).mean().item() / world.size, float(stop())])
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at iteration {done}; the last good state is after {saved}")
        world.average_gradients(model.parameters())
        scaler.step(optimiser)
        scaler.update()

        now = time.perf_counter()
        done, seconds, elapsed, started = done + 1, seconds + now - started, now - started, now
        if world.first:
            on_step(Step(done, value, rate, settings.batch / elapsed))
        stopped = bool(stopping) and done < settings.iterations
        if stopped or due() or done == settings.iterations:
            saving, saved = save(), done
            if stopped or done == settings.iterations:
                world.wait()  # a launcher ends the others when one leaves: not while the first is writing
            started = last = time.perf_counter()
        if stopped:
            raise Stopped(f"stopped after {done} of {settings.iterations} iterations; the same command continues")
    return model, seconds


def _compiled(function: Loss) -> Loss:
    """The same under `torch.compile`; where that fails on the first batch, a warning in the log and the same as it is.

    What fails for another reason fails again as it is, with its own error.
    """
    compiled: Loss | None = None

    def call(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        nonlocal compiled
        if compiled is not None:
            return compiled(model, images, labels)
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        try:
            compiled = torch.compile(function)
            return compiled(model, images, labels)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            logger.warning("torch.compile does not work here, training goes on without it: %s", reason)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(before[name])
            compiled = function
            return function(model, images, labels)

    return call
