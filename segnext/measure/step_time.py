"""The time of a training step on this machine, on random images and labels, without an input pipeline."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from segnext.config import Execution, Run
from segnext.data.stream import Batch
from segnext.model import build_network
from segnext.precision import set_up
from segnext.stochastic import numbers_needed, per_sample_numbers
from segnext.training.step import TrainingStep
from segnext.training.train import task

_NO_IMAGES: Any = None  # a task needs its source only to load batches


@dataclass(frozen=True)
class Steps:
    """Seconds of a step on the whole batch, and its peak memory in bytes (only on CUDA)."""

    seconds: float  # median
    lower_quartile: float
    upper_quartile: float
    steps: int
    memory: int | None = None


def measure(run: Run, execution: Execution, steps: int, warmup: int = 3) -> Steps:
    """Time `steps` training steps of a run: forward, loss, backward and AdamW on a batch (B, 3, H, W) of its crop.

    Raises `torch.OutOfMemoryError` if it does not fit.
    """
    device = torch.device(execution.device)
    torch.set_num_threads(execution.threads)
    set_up(execution)
    this, model = task(run, _NO_IMAGES), build_network(run.model, run.data.classes, run.task).to(device).train()
    step, batches = TrainingStep(this, model, execution), _batches(run, numbers_needed(model), device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for number in range(warmup + steps):
        started = time.perf_counter()
        step(batches[number % len(batches)], run.train.learning_rate).item()
        times.append(time.perf_counter() - started)
    lower, median, upper = statistics.quantiles(times[warmup:], n=4, method="inclusive")
    memory = torch.cuda.max_memory_allocated(device) if cuda else None
    return Steps(median, lower, upper, steps, memory)


def _batches(run: Run, numbers: int, device: torch.device, count: int = 2) -> list[list[Batch]]:
    """Batches of random images and labels on the device, each as a list of its parts."""
    parts, (height, width) = run.train.accumulate, run.data.crop
    size = run.train.batch // parts
    chance = torch.Generator().manual_seed(0)
    found = []
    for part in range(count * parts):
        samples = range(part * size, (part + 1) * size)
        images = torch.randn(size, height, width, 3, generator=chance).permute(0, 3, 1, 2)
        if run.task == "classification":
            labels = torch.full((size, run.data.classes), 1 / run.data.classes)
        else:
            labels = torch.randint(run.data.classes, (size, height, width), dtype=torch.uint8, generator=chance)
        drawn = per_sample_numbers(run.seed, samples, numbers)
        found.append(Batch(part, torch.tensor(samples), images, labels, drawn).to(device))
    return [found[start : start + parts] for start in range(0, len(found), parts)]
