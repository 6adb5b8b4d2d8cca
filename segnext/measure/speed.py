"""Latency and peak memory of evaluating one image, each measurement in a process of its own.

`measure` needs no more than a `Speed` value. What an evaluation will need is known before it starts, from shapes alone:
one that does not fit is a recorded fact, not a killed process.
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

FEWEST, MOST, SECONDS = 3, 50, 2.0  # timed passes: until there are enough of them and enough time has passed
LOADING = 64  # side of the image on which libraries are loaded before anything is measured


@dataclass(frozen=True)
class Measured:
    """What evaluating one image takes: seconds of the timed passes, and bytes above the loaded network and the image.

    `predicted_memory` is what shapes alone say: outputs of operators, without the operators' own workspaces. Where it
    does not fit, `reason` says so and the rest is None.
    """

    predicted_memory: int
    latency: float | None = None  # median
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    passes: int = 0
    waited: float | None = None  # part of the timed passes that its threads waited for a core: others' work, 0 if quiet
    memory: int | None = None  # None also where the system keeps no accounts
    reason: str = ""

    def __str__(self) -> str:
        if self.latency is None:
            return self.reason
        memory = "unknown" if self.memory is None else f"{self.memory / 1e6:,.0f} MB"
        return f"{self.latency:.4f} s (median of {self.passes}), peak memory {memory}"


def measure(speed: Speed, device: str = "") -> Measured:
    """Measure in a fresh process, on `device` (such as `cuda:1`) of the platform.

    Raises what a later attempt may not: `ModuleNotFoundError` for a missing extra, `MemoryError` where it would fit
    but others occupy the memory now, `ChildProcessError` where the process was killed.
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
        process.kill()  # nothing to a process that has ended; on Ctrl-C the end of one that has not
        process.join()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _work(speed: Speed, device: str, sending: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    with contextlib.suppress(OSError):  # should memory run out all the same, let it be this process that goes
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        sending.send(_measure(speed, torch.device(device)))
    except (ModuleNotFoundError, MemoryError) as error:
        sending.send(type(error)(str(error)))
    except Exception:  # others may hold what cannot be sent
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
        if "memory" not in str(error):  # what the allocators of CPU and CUDA say alike
            raise
        return Measured(predicted, reason=f"out of memory: {needs}, {free / 1e9:.1f} GB were free")
    after = machine.waited()
    share = (after - before) / sum(times) / speed.platform.threads if before is not None and after is not None else None
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Measured(predicted, median, lower, upper, len(times), share, occupied)


def predict_memory(speed: Speed) -> int:
    """Bytes of the tensors that are alive at once, at most, while one image is evaluated: no number is computed."""
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
    """Follows what operators allocate beside the given tensors, and when the last tensor that uses it is gone."""

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
    """Starts a measurement of peak memory; what is returned gives the bytes above what was in use at its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        loaded = torch.cuda.memory_allocated(device)
        return lambda: torch.cuda.max_memory_allocated(device) - loaded
    machine.forget_peak()
    before = machine.resident()

    def above() -> int | None:
        after = machine.resident()
        # A peak that is not above that of loading the network was not seen: the system did not forget it.
        return after[1] - before[0] if before and after and after[1] > before[1] else None

    return above
