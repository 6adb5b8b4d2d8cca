"""The trainer: AdamW, a schedule, and states from which a stopped run continues. A `Task` defines what is trained."""

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

CHECKPOINT_INTERVAL = 100  # least iterations between two checkpoints, unless `Execution` sets an interval
CHECKPOINT_SHARE = 0.005  # largest fraction of the time that checkpoints may take
READ_LATE = {"cpu": 0, "cuda": 1}  # steps by which a loss is read late, so that a GPU computes the next one meanwhile


class Stopped(Exception):
    """The run was asked to stop; its state is saved and it can be continued."""


class Diverged(ArithmeticError):
    """The loss is not a finite number; the last good state is kept."""


@dataclass(frozen=True)
class Step:
    """One finished step, for a training curve."""

    iteration: int  # steps done, this one included
    loss: float
    learning_rate: float  # of the encoder
    images_per_second: float  # since the last report


class Task(Protocol):
    """What distinguishes one kind of training from another. `train` does the rest."""

    run: Run

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's groups; each has a `factor`, by which the scheduled learning rate is multiplied."""

    def learning_rate(self, iteration: int) -> float:
        """The scheduled learning rate at a step, counted from 0."""

    def batches(self, start: int, share: Share, loading: Loading) -> Iterator[Batch]:
        """Yield this process's share of the batches from iteration `start` to the run's end, one part at a time.

        A batch comes as `Train.accumulate` parts. Each part depends only on the seed and its position, and drawing it
        does not touch torch's global random state.
        """

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the samples, float32 (), of a batch on the model's device, called under autocast."""


def task(run: Run, source: Source | ClassFolderSource) -> Task:
    """The task of a run: classification or segmentation."""
    if run.task == "classification":
        return Classification(run, cast(ClassFolderSource, source))
    return Segmentation(run, cast(Source, source))


def build(run: Run, initial: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the run's network with its initial weights, which are the same for the same seed.

    `initial` has the weights that `run.init` names, under released names (`segnext.released_weights.load_initial`).
    Raises `ValueError` if only one of the two is given, or the weights do not fit.
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
    """Train a run to its end, from its newest state in `folder` if there is one, else from its initial weights.

    Returns the model and the seconds spent in steps over all attempts.

    Raises `Stopped`, after saving, if `stop()` returns True or at a multiple of `pause_every` iterations; `Diverged` if
    the loss is not finite; `OtherData` if the state was trained on other data; `OSError` if a state cannot be written.
    The last good state is kept.

    In a `world` of several processes all call this with the same arguments, and all stop at the same step soon after
    `stop()` returned True in one of them. Only rank 0 writes states and calls `on_step`. On CUDA a loss is read while
    the next step computes, so that the device never waits for the host.
    """
    device = torch.device(execution.device)
    set_up(execution)
    this = task(run, source)
    model = build(run, initial).to(device).train()
    if world.size > 1:
        synchronise(model)
    step = TrainingStep(this, model, execution, world)
    identity = world.gather(identity_of(source) if world.first else {})[0]  # only rank 0 looks at the files
    states = _States(run, folder, execution, world, model, step, identity)
    done, seconds = states.restored()
    losses = _Losses(run, device, world, on_step, seconds)
    loading = Loading(execution.workers, (run.seed, numbers_needed(model)), pinned=device.type == "cuda")
    batches = on_device(iter(this.batches(done, Share(world.rank, world.size), loading)), device)
    losses.start_clock()
    while done < run.train.iterations:
        rate = this.learning_rate(done)
        loss = step(itertools.islice(batches, run.train.accumulate), rate)
        done += 1
        losses.add(done, rate, loss, asked=stop())
        losses.read(states.saved)
        paused = bool(pause_every) and done % pause_every == 0
        ended = done == run.train.iterations
        stopped = (done >= losses.stop_after or paused) and not ended
        if stopped or ended or states.due(done):
            losses.read(states.saved, unread=0)
            states.save(done, losses.seconds)
            if stopped or ended:
                world.wait()  # when one process exits, a launcher ends the others: wait until rank 0 has written
            losses.start_clock()
        if stopped:
            raise Stopped(f"stopped after {done} of {run.train.iterations} iterations; the same command continues")
    return model, losses.seconds


class _States:
    """The states of a run in its folder: restores the newest, decides when the next is due, and saves it."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        execution: Execution,
        world: World,
        model: nn.Module,
        step: TrainingStep,
        identity: Mapping[str, str],
    ) -> None:
        self._run, self._folder, self._world = run, folder, world
        self._model, self._step, self._identity = model, step, identity
        self._device, self._interval = torch.device(execution.device), execution.checkpoint_interval
        self._took, self._ended = 0.0, -math.inf  # seconds that the last checkpoint took, and when it ended
        self.saved = 0  # iterations done at the newest state

    def restored(self) -> tuple[int, float]:
        """Restore the newest state, if there is one; returns iterations done, and the seconds that they took.

        Raises `ValueError` for the state of another run or a folder that is not shared, and `OtherData`.
        """
        seconds = 0.0
        if (state := load_state(self._folder, put_aside=self._world.first)) is not None:
            if state["run"] != self._run.id:
                raise ValueError(
                    f"{self._folder} holds the state of run {state['run']}, not of {self._run.id}; move it away"
                )
            require_same_data(state, self._identity, self._folder)
            self._model.load_state_dict(state["model"])
            self._step.optimiser.load_state_dict(state["optimiser"])
            self._step.scaler.load_state_dict(state.get("scaler") or self._step.scaler.state_dict())
            torch.set_rng_state(state["rng"])
            if self._device.type == "cuda" and "cuda_rng" in state:
                torch.cuda.set_rng_state(state["cuda_rng"], self._device)
            self.saved, seconds = state["iteration"], state["seconds"]
        if len(set(starts := self._world.gather(self.saved))) > 1:
            raise ValueError(
                f"{self._folder}: the processes see states after {starts} iterations; it must be a shared folder"
            )
        return self.saved, seconds

    def due(self, done: int) -> bool:
        """Whether to save a state after `done` iterations: at the interval if set, else as often as is cheap."""
        if self._interval is not None:
            return done % self._interval == 0
        waited = time.perf_counter() - self._ended
        return done % CHECKPOINT_INTERVAL == 0 and waited > self._took / CHECKPOINT_SHARE

    def save(self, done: int, seconds: float) -> None:
        """Rank 0 writes the state after `done` iterations; the others continue."""
        started = time.perf_counter()
        if self._world.first:
            cuda = {"cuda_rng": torch.cuda.get_rng_state(self._device)} if self._device.type == "cuda" else {}
            content = {
                "run": self._run.id,
                "data": self._identity,
                "iteration": done,  # gives the position in the data, too
                "seconds": seconds,
                "model": self._model.state_dict(),
                "optimiser": self._step.optimiser.state_dict(),
                "scaler": self._step.scaler.state_dict(),  # empty except for float16
                "rng": torch.get_rng_state(),
                **cuda,
            }
            save_state(self._folder, done, content)
        self.saved, self._ended = done, time.perf_counter()
        self._took = self._ended - started


class _Losses:
    """The losses of recent steps, each read `READ_LATE` steps later, with the clock and the request to stop."""

    def __init__(
        self, run: Run, device: torch.device, world: World, on_step: Callable[[Step], None], seconds: float
    ) -> None:
        self._batch, self._world, self._on_step = run.train.batch, world, on_step
        self._late = READ_LATE[device.type]
        self._pending: deque[tuple[int, float, _OnItsWay]] = deque()  # iteration, learning rate, (loss, asked to stop)
        self._started = 0.0
        self.seconds = seconds  # spent in steps, over all attempts
        self.stop_after = math.inf  # iterations after which all processes stop

    def start_clock(self) -> None:
        """Start the clock anew: time since the last step that was read does not count."""
        self._started = time.perf_counter()

    def add(self, iteration: int, rate: float, loss: Tensor, *, asked: bool) -> None:
        """Add a step: its loss, and whether this process was asked to stop, both summed over the processes."""
        if asked and self._world.size == 1:
            self.stop_after = iteration
        values = torch.stack([loss.double() / self._world.size, torch.full_like(loss, asked, dtype=torch.float64)])
        self._pending.append((iteration, rate, _OnItsWay(self._world.total(values))))

    def read(self, saved: int, unread: int | None = None) -> None:
        """Read all losses except the newest `unread` (None: `READ_LATE` of the device). Raises `Diverged`."""
        while len(self._pending) > (self._late if unread is None else unread):
            iteration, rate, values = self._pending.popleft()
            loss, asked = values.get()
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at iteration {iteration - 1}; the last good state is after {saved}")
            if asked:  # all processes read this sum at the same step, so they stop together
                self.stop_after = min(self.stop_after, iteration + self._late)
            now = time.perf_counter()
            elapsed, self._started = now - self._started, now
            self.seconds += elapsed
            if self._world.first:
                self._on_step(Step(iteration, loss, rate, self._batch / elapsed))


def identity_of(source: Source | ClassFolderSource) -> dict[str, str]:
    """What identifies a split: `fingerprint` (of names and sizes), and `contents` if `data check` computed it.

    It is cached per source, however often a training continues, because it must stat every file.
    """
    if source not in _IDENTITIES:
        contents = source.contents()
        _IDENTITIES[source] = {"fingerprint": source.fingerprint(), **({"contents": contents} if contents else {})}
    return _IDENTITIES[source]


_IDENTITIES: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


def require_same_data(state: Mapping[str, Any], identity: Mapping[str, str], folder: Path) -> None:
    """Raise `OtherData` if a state of `folder` was trained on other data, as far as both identities tell."""
    known = state.get("data", {})  # states of earlier versions have none
    for what in known.keys() & identity.keys():
        if known[what] != identity[what]:
            raise OtherData(
                f"the state after {state['iteration']} iterations in {folder} was trained on data with the {what} "
                f"{known[what]}, and the data that are here now have {identity[what]}: continue with those that it "
                f"began with, or delete {folder} to begin anew on these"
            )


class _OnItsWay:
    """Values copied from the device while the host continues."""

    def __init__(self, values: Tensor) -> None:
        self._values, self._arrived = values, None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def get(self) -> list[float]:
        """Wait for the values and return them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values.tolist()
