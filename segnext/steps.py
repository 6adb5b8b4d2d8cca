"""How long a training step takes on this machine, without an input pipeline: on random images and labels."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from segnext.config import Execution, Run
from segnext.model import build_network
from segnext.precision import autocast, set_up
from segnext.train import task

_NO_IMAGES: Any = None  # a task reads them for its batches alone


@dataclass(frozen=True)
class Steps:
    """Seconds of a step on the whole batch, and bytes at its peak (on CUDA alone)."""

    seconds: float  # median
    lower_quartile: float
    upper_quartile: float
    steps: int
    memory: int | None = None


def measure(run: Run, execution: Execution, steps: int, warmup: int = 3) -> Steps:
    """Time `steps` training steps of a run: forward, loss, backward and AdamW on a batch (B, 3, H, W) of its crop.

    Raises `torch.OutOfMemoryError` where it does not fit.
    """
    device = torch.device(execution.device)
    torch.set_num_threads(execution.threads)
    set_up(execution)
    this, model = task(run, _NO_IMAGES), build_network(run.model, run.data.classes, run.task).to(device).train()
    optimiser = torch.optim.AdamW(this.groups(model), fused=True)
    loss_of = torch.compile(this.loss) if execution.compile else this.loss
    scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "float16")
    parts, (height, width) = run.train.accumulate, run.data.crop
    size = run.train.batch // parts
    images = torch.randn(size, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    if run.task == "classification":
        labels = torch.full((size, run.data.classes), 1 / run.data.classes, device=device)
    else:
        labels = torch.randint(run.data.classes, (size, height, width), device=device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(warmup + steps):
        started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        for _ in range(parts):
            with autocast(device, execution.precision):
                loss = loss_of(model, images, labels)
            scaler.scale(loss / parts).backward()
        loss.item()
        scaler.step(optimiser)
        scaler.update()
        if cuda:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    lower, median, upper = statistics.quantiles(times[warmup:], n=4, method="inclusive")
    memory = torch.cuda.max_memory_allocated(device) if cuda else None
    return Steps(median, lower, upper, steps, memory)
