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
    identity = world.gather(identity_of(source) if world.first else {})[0]  # one look at the files for all
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
                world.wait()  # a launcher ends the others when one leaves: not while the first is writing
            losses.start_clock()
        if stopped:
            raise Stopped(f"stopped after {done} of {run.train.iterations} iterations; the same command continues")
    return model, losses.seconds


class _States:
    """The states of a run in its folder: which one it continues from, when the next is due, and what is in one."""

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
        self._took, self._ended = 0.0, -math.inf  # the last checkpoint: its seconds, and when it was written
        self.saved = 0  # iterations after which the newest state was taken

    def restored(self) -> tuple[int, float]:
        """Puts the newest state in place, if there is one; iterations done, and the seconds that they took."""
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
        """Whether a state is to be saved after `done` iterations: at the interval, else as often as costs little."""
        if self._interval is not None:
            return done % self._interval == 0
        waited = time.perf_counter() - self._ended
        return done % CHECKPOINT_INTERVAL == 0 and waited > self._took / CHECKPOINT_SHARE

    def save(self, done: int, seconds: float) -> None:
        """Rank 0 writes the state after `done` iterations; the others go on."""
        started = time.perf_counter()
        if self._world.first:
            cuda = {"cuda_rng": torch.cuda.get_rng_state(self._device)} if self._device.type == "cuda" else {}
            content = {
                "run": self._run.id,
                "data": self._identity,
                "iteration": done,  # also the position in the data: the stream is a function of it
                "seconds": seconds,
                "model": self._model.state_dict(),
                "optimiser": self._step.optimiser.state_dict(),
                "scaler": self._step.scaler.state_dict(),  # empty but for float16
                "rng": torch.get_rng_state(),
                **cuda,
            }
            save_state(self._folder, done, content)
        self.saved, self._ended = done, time.perf_counter()
        self._took = self._ended - started


class _Losses:
    """The losses of steps under way, each read a few steps later; with them, the clock and the word to stop."""

    def __init__(
        self, run: Run, device: torch.device, world: World, on_step: Callable[[Step], None], seconds: float
    ) -> None:
        self._batch, self._world, self._on_step = run.train.batch, world, on_step
        self._late = READ_LATE[device.type]
        self._pending: deque[tuple[int, float, _OnItsWay]] = deque()  # iteration, learning rate, (loss, asked to stop)
        self._started = 0.0
        self.seconds = seconds  # in steps, over all attempts
        self.stop_after = math.inf  # iterations

    def start_clock(self) -> None:
        """What passed since the last step that was read does not count."""
        self._started = time.perf_counter()

    def add(self, iteration: int, rate: float, loss: Tensor, *, asked: bool) -> None:
        """A step that was taken: its loss and whether this process was asked to stop, summed over the processes."""
        if asked and self._world.size == 1:
            self.stop_after = iteration
        values = torch.stack([loss.double() / self._world.size, torch.full_like(loss, asked, dtype=torch.float64)])
        self._pending.append((iteration, rate, _OnItsWay(self._world.total(values))))

    def read(self, saved: int, unread: int | None = None) -> None:
        """Reads all losses but the newest `unread`, None: as many as the device may lie behind. Raises `Diverged`."""
        while len(self._pending) > (self._late if unread is None else unread):
            iteration, rate, values = self._pending.popleft()
            loss, asked = values.get()
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at iteration {iteration - 1}; the last good state is after {saved}")
            if asked:  # after a step that all processes take before they can know: the same in each
                self.stop_after = min(self.stop_after, iteration + self._late)
            now = time.perf_counter()
            elapsed, self._started = now - self._started, now
            self.seconds += elapsed
            if self._world.first:
                self._on_step(Step(iteration, loss, rate, self._batch / elapsed))


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
