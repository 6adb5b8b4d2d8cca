"""Several processes that train one model: each takes its share of every batch, and all compute the same step.

`torchrun` or submitit starts them and sets each one's rank in the environment. We average gradients here, not by
torch's DistributedDataParallel, which regroups them after the first step of every start: with one fixed order, the sums
of a continued run have the same bits.
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

BUCKET = 8 << 20  # bytes of gradients that are sent together; T has 17 MB of gradients, L 196 MB

TIMEOUT = timedelta(minutes=10)  # Ours: longer than compiling or saving takes; torch's own are 10 (nccl), 30 (gloo)


@dataclass(frozen=True)
class World:
    """The processes that train together, and this process's rank; by default there is only one.

    Every method is a collective: all processes must call it. If one has died, the others get torch's `RuntimeError`
    after the timeout at the latest.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None  # of this process

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes states and reports."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes in float64; all processes get the same result."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def total(self, values: Tensor) -> Tensor:
        """Sum a tensor on this process's device over the processes, in place; on CUDA the host does not wait."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return once every process has called this."""
        self.sum([0.0])


class GradientAverage:
    """Replaces every gradient by its mean over the processes, bucket by bucket during the backward pass.

    A bucket holds the gradients of consecutive parameters, from the network's end to its beginning. Buckets are sent in
    one fixed order, each as soon as it and all before it are complete; `finish` sends the rest.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        self._size = world.size
        self._buckets: list[list[nn.Parameter]] = []
        self._waiting: list[int] = []  # number of gradients that each bucket still lacks
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work]] = []
        self._backward = False  # whether the current backward pass is the last of the step
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
        """Announce that the next backward pass is the last of the step and completes the gradients."""
        self._waiting, self._backward = [len(bucket) for bucket in self._buckets], True

    def finish(self) -> None:
        """Average the remaining gradients; on CUDA the host does not wait for the result."""
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
    """A context in which `processes` processes train together: by gloo on CPU, by NCCL on CUDA.

    With one process the environment is ignored, whatever another launcher left there. Otherwise each process learns its
    rank from `torchrun`, which sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or, under submitit, from
    SLURM's variables. On CUDA this process's own device becomes the current one. Raises `ValueError` if the launcher
    started another number of processes.
    """
    if processes == 1:
        yield World(device=torch.device(device))
        return
    if "SUBMITIT_EXECUTOR" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        from submitit.helpers import TorchDistributedEnvironment

        os.environ.pop("MASTER_PORT", None)  # an inherited port would be shared by all jobs of a node
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if (started := int(os.environ.get("WORLD_SIZE", "1"))) != processes:
        raise ValueError(
            f"this is one of {started} processes (WORLD_SIZE), but the run was planned for {processes}: start it "
            "again, or correct the nodes and GPUs of the job"
        )
    own = torch.device(device)
    if own.type == "cuda":
        # Some clusters show each process only its own GPU, as device 0.
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(own)
    dist.init_process_group(
        "nccl" if own.type == "cuda" else "gloo", timeout=timeout, device_id=own if own.type == "cuda" else None
    )
    yield World(dist.get_rank(), processes, own)
    # Not in `finally`: closing waits for the other processes, which after an error here wait for this one. They notice
    # the error when this process ends.
    dist.destroy_process_group()


def average(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes; with one process, the tensor itself. No gradient flows through it."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def synchronise(model: nn.Module) -> None:
    """Replace every BN of a model by a `GlobalBatchNorm2d` with the same weights, so that it sees the whole batch."""
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = GlobalBatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.__dict__.update(child.__dict__)  # the same parameters and buffers, under the same names
            setattr(model, name, norm)
        else:
            synchronise(child)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BN over the batch of all processes, which hold equally many samples: `(B, C, H, W) -> (B, C, H, W)`.

    It works on every device; torch's SyncBatchNorm does not run on a CPU. The global variance is the mean of the
    processes' variances plus the variance of their means, which avoids cancellation. All processes compute it from the
    same numbers in the same order, so their running statistics have the same bits. With one process, and in evaluation,
    it is torch's own BN.
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
    """Variance and mean over all processes, which hold equally many values."""
    own = torch.stack([variance, mean])
    every = own.new_empty(dist.get_world_size() * len(own), own.shape[1])
    dist.all_gather_into_tensor(every, own)
    variances, means = every.unflatten(0, (-1, 2)).unbind(1)  # (processes, C) each
    spread, mean = torch.var_mean(means, dim=0, correction=0)
    return variances.mean(dim=0) + spread, mean


class _Normalise(torch.autograd.Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, where mean and variance depend on the x of every process.

    With y = (x - mean) / sigma and the incoming gradient g, x gets `weight / sigma * (g - mean(g) - y mean(g y))`, with
    means over all processes. Weight and bias get the sums of this process, as in any other layer.
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
