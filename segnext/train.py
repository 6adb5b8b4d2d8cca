"""The trainer: AdamW, poly schedule with linear warm-up, and a state that any stop can continue from (Sec. 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.checkpoints import released_name
from segnext.config import Execution, Run, Train
from segnext.data import Source
from segnext.data.stream import stream
from segnext.decoder import resize
from segnext.metrics import IGNORE
from segnext.model import SegNeXt
from segnext.resume import load_state, save_state
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


def segmentation_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of `(B, classes, h, w)` scores resized to the `(B, H, W)` labels.

    Official code: summed over labelled pixels and divided by all pixels, ignored ones included (`datasets.md`,
    section 3); PyTorch's own mean divides by the labelled ones.
    """
    scores = resize(scores, labels.shape[1:])
    return F.cross_entropy(scores, labels.long(), ignore_index=IGNORE, reduction="sum") / labels.numel()


def learning_rate(train: Train, iteration: int) -> float:
    """The encoder's learning rate at a step, 0 the first: poly to zero, scaled up linearly during the warm-up."""
    poly = train.learning_rate * (1 - iteration / train.iterations) ** train.poly_power
    if iteration >= train.warmup_iterations:
        return poly
    return poly * (1 - (1 - iteration / train.warmup_iterations) * (1 - train.warmup_ratio))


def parameter_groups(model: nn.Module, train: Train) -> list[dict[str, Any]]:
    """Official code's groups, decided on the released names: `head` learns faster, `norm` is not decayed.

    As released, that decays all biases outside `norm`, the layer scales, the stem's BN and the decoder's GN.
    Each group carries `factor`, its multiple of the scheduled learning rate.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # EMA's first convolution
            continue
        released = released_name(name)
        head = "head" in released
        decayed = head or "norm" not in released
        key = (train.head_learning_rate_factor if head else 1.0, train.weight_decay if decayed else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "weight_decay": decay, "lr": train.learning_rate * factor}
        for (factor, decay), parameters in groups.items()
    ]


def build(run: Run) -> SegNeXt:
    """The run's model with its initial weights, the same for the same seed."""
    if run.init is not None:
        raise ValueError(f"starting from {run.init!r} is not possible in this version; only training from scratch is")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return SegNeXt(run.model, run.data.classes, run.train.dropout)


def train(
    run: Run,
    source: Source,
    folder: Path,
    execution: Execution,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[SegNeXt, float]:
    """Train the run to its end, from its newest state in `folder` if there is one.

    Returns the model and the seconds spent in steps over all attempts. Raises `Stopped` after saving when `stop()`
    turns true, and `Diverged` at once when the loss is not finite.
    """
    device = torch.device(execution.device)
    model = build(run).to(device).train()
    optimiser = torch.optim.AdamW(parameter_groups(model, run.train), fused=True)
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
    batches = stream(run.data, source, run.seed, settings.batch, done, settings.iterations, execution.workers)
    for batch in batches:
        rate = learning_rate(settings, batch.iteration)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        set_numbers(model, run.seed, batch.samples.tolist())
        images = batch.images.to(device, memory_format=torch.channels_last)
        loss = segmentation_loss(model.logits(images), batch.labels.to(device))
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
