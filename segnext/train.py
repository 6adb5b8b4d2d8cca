"""The trainer: AdamW, a schedule, and a state that any stop can continue from. What is trained for is a `Task`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from segnext.checkpoints import load_initial
from segnext.config import Execution, Run, Train
from segnext.data import Source
from segnext.data.stream import Batch, Share
from segnext.model import build_network
from segnext.resume import load_state, save_state
from segnext.segmentation import Segmentation
from segnext.stochastic import set_numbers


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


def task(run: Run, source: Source) -> Task:
    """The task that a run names."""
    if run.task == "segmentation":
        return Segmentation(run, source)
    raise ValueError(f"Run.task: {run.task} is not possible in this version")


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
    source: Source,
    folder: Path,
    execution: Execution,
    *,
    initial: Mapping[str, Any] | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, float]:
    """Train the run to its end, from its newest state in `folder` if there is one, else from its initial weights.

    Returns the model and the seconds spent in steps over all attempts. Raises `Stopped` after saving when `stop()`
    turns true, and `Diverged` at once when the loss is not finite.
    """
    device = torch.device(execution.device)
    this = task(run, source)
    model = build(run, initial).to(device).train()
    optimiser = torch.optim.AdamW(this.groups(model), fused=True)
    done, seconds = 0, 0.0
    if (state := load_state(folder)) is not None:
        if state["run"] != run.id:
            raise ValueError(f"{folder} holds the state of run {state['run']}, not of {run.id}; move it away")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"])
        done, seconds = state["iteration"], state["seconds"]

    def save() -> None:
        save_state(
            folder,
            done,
            {
                "run": run.id,
                "iteration": done,  # also the position in the data: the stream is a function of it
                "seconds": seconds,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "rng": torch.get_rng_state(),
            },
        )

    saved = done
    settings = run.train
    started = time.perf_counter()
    for batch in this.batches(done, Share(), execution.workers):
        rate = this.learning_rate(done)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        set_numbers(model, run.seed, batch.samples.tolist())
        images = batch.images.to(device, memory_format=torch.channels_last)
        loss = this.loss(model, images, batch.labels.to(device))
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at iteration {batch.iteration}; the last good state is after {saved}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

        now = time.perf_counter()
        done, seconds, elapsed, started = done + 1, seconds + now - started, now - started, now
        on_step(Step(done, value, rate, settings.batch / elapsed))
        stopping = stop() and done < settings.iterations
        if stopping or done % execution.checkpoint_interval == 0 or done == settings.iterations:
            save()
            saved = done
            started = time.perf_counter()
        if stopping:
            raise Stopped(f"stopped after {done} of {settings.iterations} iterations; the same command continues")
    return model, seconds
