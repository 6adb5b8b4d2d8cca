"""The trainer: AdamW, a schedule, and a state that any stop can continue from. What is trained for is a `Task`."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from segnext.config import Execution, Run, Train
from segnext.data import Source
from segnext.data.imagenet import ClassFolderSource
from segnext.data.source import OtherData
from segnext.data.stream import Batch, Loading, Share, on_device
from segnext.distributed import World, synchronise
from segnext.model import build_network
from segnext.precision import set_up
from segnext.released_weights import load_initial
from segnext.stochastic import numbers_needed
from segnext.training.classification import Classification
from segnext.training.segmentation import Segmentation
from segnext.training.state import load_state, save_state
from segnext.training.step import TrainingStep

CHECKPOINT_INTERVAL = 100  # iterations at least between two checkpoints, if `Execution` names no other
CHECKPOINT_SHARE = 0.005  # of the time at most
READ_LATE = {"cpu": 0, "cuda": 1}  # steps that a loss may lie behind: a GPU computes the next one meanwhile


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

    def batches(self, start: int, share: Share, loading: Loading) -> Iterator[Batch]:
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

    `initial` are the weights that `run.init` names, under released names (`segnext.released_weights.load_initial`).
    Raises `ValueError` where one of the two is there without the other, and for weights that do not fit.
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
    pause_every: int = 0,
) -> tuple[nn.Module, float]:
    """Train the run to its end, from its newest state in `folder` if there is one, else from its initial weights.

    Returns the model and the seconds spent in steps over all attempts. Raises `Stopped` after saving when `stop()`
    turns true or at a multiple of `pause_every` iterations, `Diverged` when the loss is not finite, `OtherData` where
    the state was trained on other data, and `OSError` where a state cannot be written; the last good one is kept. In a
    `world` of several processes all call this with the same arguments and stop together soon after `stop()` turned true
    in one; the first alone writes states and calls `on_step`. On CUDA a loss is read while the step after it computes,
    so that the device never waits for the host.
    """
    device = torch.device(execution.device)
    set_up(execution)
    this = task(run, source)
    model = build(run, initial).to(device).train()
    if world.size > 1:
        synchronise(model)
    step = TrainingStep(this, model, execution, world)
    done, seconds = 0, 0.0
    identity = world.gather(identity_of(source) if world.first else {})[0]  # one look at the files for all
    if (state := load_state(folder, put_aside=world.first)) is not None:
        if state["run"] != run.id:
            raise ValueError(f"{folder} holds the state of run {state['run']}, not of {run.id}; move it away")
        require_same_data(state, identity, folder)
        model.load_state_dict(state["model"])
        step.optimiser.load_state_dict(state["optimiser"])
        step.scaler.load_state_dict(state.get("scaler") or step.scaler.state_dict())
        torch.set_rng_state(state["rng"])
        if device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], device)
        done, seconds = state["iteration"], state["seconds"]
    if len(set(starts := world.gather(done))) > 1:
        raise ValueError(f"{folder}: the processes see states after {starts} iterations; it must be a shared folder")
    settings, saved, saving, last = run.train, done, 0.0, -math.inf  # how long the last checkpoint took, and its end
    late, stop_after = READ_LATE[device.type], math.inf
    pending: deque[tuple[int, float, _OnItsWay]] = deque()  # (iteration, learning rate, loss) of steps under way
    started = time.perf_counter()

    def save() -> float:
        """Returns the seconds that it took."""
        started = time.perf_counter()
        if world.first:
            content = {
                "run": run.id,
                "data": identity,
                "iteration": done,  # also the position in the data: the stream is a function of it
                "seconds": seconds,
                "model": model.state_dict(),
                "optimiser": step.optimiser.state_dict(),
                "scaler": step.scaler.state_dict(),  # empty but for float16
                "rng": torch.get_rng_state(),
                **({"cuda_rng": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}),
            }
            save_state(folder, done, content)
        return time.perf_counter() - started

    def due() -> bool:
        if execution.checkpoint_interval is not None:
            return done % execution.checkpoint_interval == 0
        return done % CHECKPOINT_INTERVAL == 0 and time.perf_counter() - last > saving / CHECKPOINT_SHARE

    def read(unread: int) -> None:
        """Read the losses of all steps but the newest `unread`."""
        nonlocal seconds, started, stop_after
        while len(pending) > unread:
            iteration, rate, values = pending.popleft()
            loss, asked = values.get()
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at iteration {iteration - 1}; the last good state is after {saved}")
            if asked:  # after a step that all processes take before they can know: the same in each
                stop_after = min(stop_after, iteration + late)
            now = time.perf_counter()
            seconds, elapsed, started = seconds + now - started, now - started, now
            if world.first:
                on_step(Step(iteration, loss, rate, settings.batch / elapsed))

    loading = Loading(execution.workers, (run.seed, numbers_needed(model)), pinned=device.type == "cuda")
    batches = on_device(iter(this.batches(done, Share(world.rank, world.size), loading)), device)
    started = time.perf_counter()
    while done < settings.iterations:
        rate = this.learning_rate(done)
        loss = step(itertools.islice(batches, settings.accumulate), rate)
        done += 1
        asked = stop()
        if asked and world.size == 1:
            stop_after = done
        values = torch.stack([loss.double() / world.size, torch.full_like(loss, asked, dtype=torch.float64)])
        pending.append((done, rate, _OnItsWay(world.total(values))))
        read(late)
        paused = bool(pause_every) and done % pause_every == 0
        stopped = (done >= stop_after or paused) and done < settings.iterations
        if stopped or due() or done == settings.iterations:
            read(0)
            saving, saved = save(), done
            if stopped or done == settings.iterations:
                world.wait()  # a launcher ends the others when one leaves: not while the first is writing
            started = last = time.perf_counter()
        if stopped:
            raise Stopped(f"stopped after {done} of {settings.iterations} iterations; the same command continues")
    return model, seconds


def identity_of(source: Source | ClassFolderSource) -> dict[str, str]:
    """What tells a split from others: `fingerprint`, of names and sizes, and `contents` where `data check` left it.

    Looked at once for each source, however often its training goes on: it is a look at every file.
    """
    if source not in _IDENTITIES:
        contents = source.contents()
        _IDENTITIES[source] = {"fingerprint": source.fingerprint(), **({"contents": contents} if contents else {})}
    return _IDENTITIES[source]


_IDENTITIES: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


def require_same_data(state: Mapping[str, Any], identity: Mapping[str, str], folder: Path) -> None:
    """Raises `OtherData` where a state of `folder` was trained on other data, as far as both sides know."""
    known = state.get("data", {})  # states of earlier versions do not say
    for what in known.keys() & identity.keys():
        if known[what] != identity[what]:
            raise OtherData(
                f"the state after {state['iteration']} iterations in {folder} was trained on data with the {what} "
                f"{known[what]}, and the data that are here now have {identity[what]}: continue with those that it "
                f"began with, or delete {folder} to begin anew on these"
            )


class _OnItsWay:
    """Values that are copied from the device while the host goes on."""

    def __init__(self, values: Tensor) -> None:
        self._values, self._arrived = values, None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def get(self) -> list[float]:
        """The values, as soon as they are here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values.tolist()
