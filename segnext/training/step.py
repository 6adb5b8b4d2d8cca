"""One training step: forward, loss, backward, gradients averaged over the processes, AdamW.

The trainer uses this step, and `segnext.measure.step_time` times it. It never waits for the device, so that on CUDA the
host runs ahead; the loss that it returns is a tensor on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from segnext.config import Execution, Run
from segnext.data.stream import Batch
from segnext.distributed import GradientAverage, World
from segnext.precision import autocast
from segnext.stochastic import set_per_sample_randomness

WARM_UP = 3  # passes before a capture, in which cuDNN chooses algorithms and libraries allocate workspaces

logger = logging.getLogger(__name__)

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A `Learner.loss`."""


class Learner(Protocol):
    """The part of a task (`segnext.training.train.Task`) that a step needs."""

    run: Run

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's groups; each has a `factor`, by which the scheduled learning rate is multiplied."""

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the samples, float32 (), of a batch on the model's device, called under autocast."""


class TrainingStep:
    """Takes training steps of a model, which must be on the execution's device and in training mode."""

    def __init__(self, task: Learner, model: nn.Module, execution: Execution, world: World = World()) -> None:  # noqa: B008
        self._model, self._precision = model, execution.precision
        self._device = torch.device(execution.device)
        self._parts = task.run.train.accumulate
        self.optimiser = torch.optim.AdamW(task.groups(model), fused=True)
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=execution.precision == "float16")
        self._average = GradientAverage(model, world)
        self._loss = _compiled(task.loss) if "inductor" in execution.compile else task.loss
        self._graph: _Graph | None = None
        self._capture = "graphs" in execution.compile
        if self._capture and self._device.type != "cuda":
            logger.warning("CUDA graphs need a CUDA device, and this is %s: training goes on without", self._device)
            self._capture = False

    def __call__(self, parts: Iterable[Batch], learning_rate: float) -> Tensor:
        """Take a step with the mean gradient of a batch's parts, on the device; returns their mean loss, float32 ()."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate * group["factor"]
        if self._graph is None:
            self.optimiser.zero_grad(set_to_none=True)
        else:
            self._graph.forget_gradients()
        losses = []
        for number, batch in enumerate(parts, start=1):
            if self._capture:
                self._graph = self._captured(batch)
            if self._graph is not None:
                losses.append(self._graph(batch))
                continue
            if number == self._parts:
                self._average.begin()
            losses.append(self._passed(batch))
        self._average.finish()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return torch.stack(losses).mean()

    def _passed(self, batch: Batch) -> Tensor:
        """Pass one part forward and backward: add to the gradients and return the part's loss."""
        if batch.numbers is not None:
            set_per_sample_randomness(self._model, batch.numbers)
        with autocast(self._device, self._precision):
            loss = self._loss(self._model, batch.images, batch.labels)
        self.scaler.scale(loss / self._parts if self._parts > 1 else loss).backward()
        return loss.detach()

    def _captured(self, batch: Batch) -> _Graph | None:
        self._capture = False
        try:
            with _buffers_kept(self._model):
                return _Graph(self._passed, self._model, batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            logger.warning("CUDA graphs do not work here, training goes on without them: %s", _first_line(error))
            self.optimiser.zero_grad(set_to_none=True)
            return None


class _Graph:
    """A pass as one CUDA graph: a single launch instead of thousands. Its tensors keep their addresses."""

    def __init__(self, passed: Callable[[Batch], Tensor], model: nn.Module, batch: Batch) -> None:
        self._batch = batch.clone()
        self._gradients = []
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
                self._gradients.append(parameter.grad)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                passed(self._batch)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = passed(self._batch)
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Zero the gradients in place, because the graph adds to these tensors."""
        torch._foreach_zero_(self._gradients)

    def __call__(self, batch: Batch) -> Tensor:
        self._batch.copy_(batch)
        self._graph.replay()
        return self._loss.clone()


def _compiled(function: Loss) -> Loss:
    """The function under `torch.compile`; if that fails on the first batch, log a warning and use it uncompiled.

    If the function itself is at fault, the uncompiled call raises the real error.
    """
    compiled: Loss | None = None

    def call(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        nonlocal compiled
        if compiled is not None:
            return compiled(model, images, labels)
        try:
            with _buffers_kept(model, after_failure_only=True):
                candidate = torch.compile(function)
                loss = candidate(model, images, labels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            logger.warning("torch.compile does not work here, training goes on without it: %s", _first_line(error))
            compiled = function
            return function(model, images, labels)
        compiled = candidate
        return loss

    return call


@contextmanager
def _buffers_kept(model: nn.Module, after_failure_only: bool = False) -> Iterator[None]:
    """Restore the model's buffers afterwards, because a forward pass in training changes them."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed or not after_failure_only:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(before[name])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
