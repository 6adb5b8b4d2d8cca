"""Several processes that train one model together: each takes its share of every batch, and all compute the same step.

`torchrun` or submitit start them and say in the environment who is who. Gradients are averaged here and not by torch's
DistributedDataParallel, which groups them anew after the first step of every start: in one fixed order the sums of a
continued run have the same bits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

BUCKET = 8 << 20  # bytes of gradients that are sent together: T's are 17 MB, L's 196

TIMEOUT = timedelta(minutes=10)  # Ours: longer than compiling or saving takes; torch's own are 10 (nccl), 30 (gloo)


@dataclass(frozen=True)
class World:
    """The processes that train together, and this one's place among them; by default it is alone.

    Every method is a collective: all processes must call it. Where one is gone the others get torch's `RuntimeError`,
    at the latest after the timeout.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None  # this process's

    @property
    def first(self) -> bool:
        """Whether this is the process that writes states and reports."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, in float64; the same everywhere."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def total(self, values: Tensor) -> Tensor:
        """A tensor on this process's device summed over the processes, in place; on CUDA the host does not wait."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return when every process is here."""
        self.sum([0.0])


class GradientAverage:
    """Puts the mean over the processes in every gradient's place, bucket by bucket while the backward pass still runs.

    A bucket holds the gradients of parameters that follow each other, from the network's end to its beginning. Buckets
    are sent in one fixed order, each as soon as it and all before it are complete; `finish` sends what is left.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        self._size = world.size
        self._buckets: list[list[nn.Parameter]] = []
        self._waiting: list[int] = []  # gradients that each bucket still waits for
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work]] = []
        self._backward = False  # whether the pass under way completes the gradients
        if self._size == 1:
            return
        held = 0
        for parameter in reversed([p for p in model.parameters() if p.requires_grad]):
            if not self._buckets or held + parameter.nbytes > BUCKET:
                self._buckets.append([])
                held = 0
            held += parameter.nbytes
            number = len(self._buckets) - 1
            self._buckets[number].append(parameter)
            parameter.register_post_accumulate_grad_hook(lambda _, number=number: self._completed(number))

    def begin(self) -> None:
        """The backward pass that comes next completes the gradients."""
        self._waiting, self._backward = [len(bucket) for bucket in self._buckets], True

    def finish(self) -> None:
        """Return with every gradient averaged; on CUDA the host does not wait for it."""
        self._backward = False
        for bucket in self._buckets[len(self._sent) :]:
            self._send(bucket)
        for gradients, flat, work in self._sent:
            work.wait()
            flat /= self._size
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view(gradient.shape))
        self._sent.clear()

    def _completed(self, number: int) -> None:
        if not self._backward:
            return
        self._waiting[number] -= 1
        while len(self._sent) < len(self._buckets) and self._waiting[len(self._sent)] == 0:
            self._send(self._buckets[len(self._sent)])

    def _send(self, bucket: list[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) if gradients else bucket[0].new_zeros(1)
        self._sent.append((gradients, flat, dist.all_reduce(flat, async_op=True)))


@contextlib.contextmanager
def distributed(device: str = "cpu", processes: int = 1, timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """The world of a job of so many processes, for as long as the context lasts: gloo on CPU, NCCL on CUDA.

    One process is alone, whatever another launcher left in the environment. Of several each learns who it is from
    `torchrun`, which sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or, under submitit, from what
    SLURM says. On CUDA, "cuda" means this process's own device from here on. Raises `ValueError` where the launcher
    started another number of processes.
    """
    if processes == 1:
        yield World(device=torch.device(device))
        return
    if "SUBMITIT_EXECUTOR" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        from submitit.helpers import TorchDistributedEnvironment

        os.environ.pop("MASTER_PORT", None)  # one that was left there would be that of every job of a node
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if (started := int(os.environ.get("WORLD_SIZE", "1"))) != processes:
        raise ValueError(
            f"this is one of {started} processes (WORLD_SIZE), but the run was planned for {processes}: start it "
            "again, or correct the nodes and GPUs of the job"
        )
    own = torch.device(device)
    if own.type == "cuda":
        # A cluster may show each process its own GPU alone.
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(own)
    dist.init_process_group(
        "nccl" if own.type == "cuda" else "gloo", timeout=timeout, device_id=own if own.type == "cuda" else None
    )
    yield World(dist.get_rank(), processes, own)
    # Not in `finally`: closing waits for the others, and after an error here they wait for this one. They learn of it
    # when this process ends.
    dist.destroy_process_group()


def average(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes; the tensor itself where one is alone. No gradient flows through it."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def synchronise(model: nn.Module) -> None:
    """Let every BN of a model see the whole batch: a `GlobalBatchNorm2d` in the place of each, with its weights."""
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = GlobalBatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.__dict__.update(child.__dict__)  # the same parameters and buffers, under the same names
            setattr(model, name, norm)
        else:
            synchronise(child)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BN over the batch of all processes, which hold equally many samples: `(B, C, H, W) -> (B, C, H, W)`.

    torch's SyncBatchNorm refuses CPU; this serves every device. The global variance is the mean of the processes' own
    plus the variance of their means, so nothing is subtracted that is larger than the result. All processes compute it
    from the same numbers in the same order: their running statistics are the same bits. One process alone, and
    evaluation, get torch's own BN.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(x)
        running_mean, running_var, passes = self.running_mean, self.running_var, self.num_batches_tracked
        assert running_mean is not None
        assert running_var is not None
        assert passes is not None
        assert self.momentum is not None
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            variance, mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
            variance, mean = _combined(variance, mean)
            count = dist.get_world_size() * x.numel() // x.shape[1]
            passes += 1
            running_mean.lerp_(mean.to(running_mean.dtype), self.momentum)
            unbiased = variance * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.to(running_var.dtype), self.momentum)
        return _Normalise.apply(x, self.weight, self.bias, mean, variance, self.eps, count)


def _combined(variance: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean over all processes, which hold equally many numbers."""
    own = torch.stack([variance, mean])
    every = own.new_empty(dist.get_world_size() * len(own), own.shape[1])
    dist.all_gather_into_tensor(every, own)
    variances, means = every.unflatten(0, (-1, 2)).unbind(1)  # (processes, C) each
    spread, mean = torch.var_mean(means, dim=0, correction=0)
    return variances.mean(dim=0) + spread, mean


class _Normalise(torch.autograd.Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, whose backward knows that both depend on every process's x.

    With y = (x - mean) / sigma and g the gradient arriving, x gets `weight / sigma * (g - mean(g) - y mean(g y))`, the
    means over all processes; weight and bias get this process's sums, as from any other layer.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, count: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        wide = mean.dtype
        deviation = torch.rsqrt(variance + ctx.eps)
        gradient = gradients[0].to(wide)
        normalised = (x.to(wide) - mean[:, None, None]) * deviation[:, None, None]
        sums = torch.stack([gradient.sum(dim=(0, 2, 3)), (gradient * normalised).sum(dim=(0, 2, 3))])
        own = sums.clone()
        dist.all_reduce(sums)
        of_gradient, of_product = (sums / ctx.count)[:, :, None, None]
        scale = (weight * deviation)[:, None, None]
        to_x = scale * (gradient - of_gradient - normalised * of_product)
        return to_x.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None, None, None
