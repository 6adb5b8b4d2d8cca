"""Latency and peak memory of evaluating one image, each measurement in its own process.

`measure` needs only a `Speed` value. It predicts the memory that an evaluation needs from shapes before it starts, so
that an evaluation that does not fit is recorded as a fact instead of being killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import statistics
import time
import traceback
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from segnext.config import Platform, Speed
from segnext.measure import machine
from segnext.model import build_network

FEWEST, MOST, SECONDS = 3, 50, 2.0  # timed passes: at least, at most, and their total time
LOADING = 64  # side of the image of a first pass, which loads libraries before anything is measured


@dataclass(frozen=True)
class Measured:
    """The result of a measurement: seconds of the timed passes, and bytes beyond the loaded network and the image.

    `predicted_memory` is derived from shapes: it covers the outputs of operators, but not their workspaces. If it does
    not fit, `reason` says so and the rest is None.
    """

    predicted_memory: int
    latency: float | None = None  # median
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    passes: int = 0
    waited: float | None = None  # fraction of the timed passes spent waiting for a core; 0 on an idle machine
    memory: int | None = None  # None also if the OS does not report it
    reason: str = ""

    def __str__(self) -> str:
        if self.latency is None:
            return self.reason
        memory = "unknown" if self.memory is None else f"{self.memory / 1e6:,.0f} MB"
        return f"{self.latency:.4f} s (median of {self.passes}), peak memory {memory}"


def measure(speed: Speed, device: str = "") -> Measured:
    """Measure in a new process, on `device` (such as `cuda:1`) of the platform.

    Raises only errors that a later attempt may not meet: `ModuleNotFoundError` for a missing extra, `MemoryError` if
    other processes occupy the memory that it needs, `ChildProcessError` if the process was killed.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(speed, device or speed.platform.device, sending), daemon=True)
    process.start()
    sending.close()
    try:
        outcome: Measured | Exception = receiving.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"the measuring process ended with exit code {process.exitcode}") from None
    finally:
        process.kill()  # ends the process after Ctrl-C; does nothing if it has already ended
        process.join()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _work(speed: Speed, device: str, sending: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    with contextlib.suppress(OSError):  # if memory still runs out, the OS should kill this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        sending.send(_measure(speed, torch.device(device)))
    except (ModuleNotFoundError, MemoryError) as error:
        sending.send(type(error)(str(error)))
    except Exception:  # other errors may not be picklable
        sending.send(RuntimeError(traceback.format_exc()))


def _measure(speed: Speed, device: torch.device) -> Measured:
    torch.set_num_threads(speed.platform.threads)
    predicted = predict_memory(speed)
    needed, whole, free = predicted + 12 * speed.height * speed.width, speed.platform.memory_gib * 2**30, _free(device)
    needs = f"needs about {needed / 1e9:.1f} GB"
    if needed > whole:
        return Measured(predicted, reason=f"{needs}, {whole / 1e9:.1f} GB are there")
    if needed > free:
        raise MemoryError(f"{needs}, {free / 1e9:.1f} of {whole / 1e9:.1f} GB are free now")
    network = build_network(speed.model, speed.classes).eval().to(device)
    image = torch.rand(1, 3, speed.height, speed.width, device=device)

    def evaluate(image: Tensor) -> float:
        _wait(device)
        start = time.perf_counter()
        with torch.inference_mode(), _precision(speed.platform, device):
            network(image)
        _wait(device)
        return time.perf_counter() - start

    evaluate(image[:, :, :LOADING, :LOADING])
    try:
        with machine.nothing_kept():
            peak = _peak(device)
            evaluate(image)
            occupied = peak()
        times: list[float] = []
        before = machine.waited()
        while len(times) < FEWEST or (len(times) < MOST and sum(times) < SECONDS):
            times.append(evaluate(image))
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error):  # the word in the messages of both allocators, CPU and CUDA
            raise
        return Measured(predicted, reason=f"out of memory: {needs}, {free / 1e9:.1f} GB were free")
    after = machine.waited()
    share = (after - before) / sum(times) / speed.platform.threads if before is not None and after is not None else None
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Measured(predicted, median, lower, upper, len(times), share, occupied)


def predict_memory(speed: Speed) -> int:
    """Peak bytes of the tensors alive during the evaluation of one image, from shapes, without computing values."""
    network = build_network(speed.model, speed.classes).eval()
    fake = FakeTensorMode()
    tensors = (*network.named_parameters(), *network.named_buffers())
    weights: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in tensors}
    with fake, torch.inference_mode(), _precision(speed.platform, torch.device("cpu")):
        image = torch.empty(1, 3, speed.height, speed.width)
        with _Tracker([image, *weights.values()]) as tracker:
            torch.func.functional_call(network, weights, image)
    return tracker.peak


class _Tracker(TorchDispatchMode):
    """Tracks the storage that operators allocate beside the given tensors, until its last tensor is gone."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in given)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._follow, result)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self.alive -= size


def _precision(platform: Platform, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if platform.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, platform.precision))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else machine.available()


def _peak(device: torch.device) -> Callable[[], int | None]:
    """Start a measurement of peak memory; returns a function that gives the bytes above those in use at its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        loaded = torch.cuda.memory_allocated(device)
        return lambda: torch.cuda.max_memory_allocated(device) - loaded
    machine.forget_peak()
    before = machine.resident()

    def above() -> int | None:
        after = machine.resident()
        # A peak no higher than that of loading the network was not observed: the OS did not reset it.
        return after[1] - before[0] if before and after and after[1] > before[1] else None

    return above
