"""What a training step takes at least, operator by operator: bytes over a bandwidth, operations over a rate.

`tests/benchmarks/gpu.py` uses it. The ceiling is that of the operators that a step calls, each for itself, so it falls
with every kernel of `segnext.fast` that does the work of several; their operations, far from a bound, are not counted.
`Ceiling.bound` is what remains when everything between convolutions is free.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"}
OVERWRITE = {"copy_", "fill_", "zero_", "set_"}  # what they write to is not read
KEPT = {"convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm", "_fused_adamw_"}  # of `Ceiling.bound`


@dataclass(frozen=True)
class Rates:
    """What was measured on a card: bytes a second, read and written; operations a second by the operands' precision."""

    copy: float
    float32: float
    tf32: float
    half: float

    def of(self, operand: str, precision: str) -> float:
        """Operations a second on such operands in a step of such a precision."""
        if operand in ("torch.bfloat16", "torch.float16"):
            return self.half
        return self.tf32 if precision == "tf32" else self.float32


@dataclass(frozen=True)
class Operator:
    """One call: the bytes of its inputs and outputs, each once, and its multiplications and additions."""

    name: str
    bytes: int
    flops: int
    operand: str  # the precision of its first operand


@dataclass(frozen=True)
class Ceiling:
    """Seconds that a step takes at least; `bound`: where all that is between the products were free."""

    seconds: float
    bound: float
    bytes: int
    flops: int


def ceiling(operators: Iterable[Operator], rates: Rates, precision: str) -> Ceiling:
    """Each operator takes the longer of its bytes and its operations."""
    seconds = bound = 0.0
    total = flops = 0
    for operator in operators:
        least = max(operator.bytes / rates.copy, operator.flops / rates.of(operator.operand, precision))
        seconds += least
        bound += least if operator.name in KEPT or operator.name.startswith("segnext::") else 0.0
        total += operator.bytes
        flops += operator.flops
    return Ceiling(seconds, bound, total, flops)


def step_operators(work: Callable[[int], object]) -> list[Operator]:
    """The operators of one step, where `work(n)` does n steps: what three have more than two, once all is set up."""
    counts = []
    work(2)
    for steps in (2, 3):
        with Counter() as counter:
            work(steps)
        counts.append(collections.Counter(counter.operators))
    return list((counts[1] - counts[0]).elements())


class Counter(TorchDispatchMode):
    """Follows every operator that reads or writes memory; views and mere allocations cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function._overloadpacket.__name__
        if function.namespace not in ("aten", "prims"):
            name = f"{function.namespace}::{name}"
        schema = function._schema
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        if is_view or name in FREE:
            return result
        given = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | (kwargs or {})
        read: list[Tensor] = []
        written: list[Tensor] = []
        for argument in schema.arguments:
            tensors = [leaf for leaf in tree_leaves(given.get(argument.name)) if isinstance(leaf, Tensor)]
            writes = argument.alias_info is not None and argument.alias_info.is_write
            written += tensors if writes else []
            read += [] if writes and name in OVERWRITE else tensors
        known = {_place(tensor) for tensor in (*read, *written)}
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and _place(leaf) not in known]
        moved = _bytes(read) + _bytes(written) + _bytes(made)
        if name == "convolution":
            flops = _convolution(result, args[1])
        elif name == "convolution_backward":  # for the input and for the weights, where they are asked for
            flops = sum(args[-1][:2]) * _convolution(args[0], args[2])
        else:
            formula = flop_registry.get(function._overloadpacket)
            flops = formula(*args, **(kwargs or {}), out_val=result) if formula else 0
        operand = str(read[0].dtype) if read else ""
        self.operators.append(Operator(name, moved, int(flops), operand))
        return result


def _convolution(output: Tensor, weight: Tensor) -> int:
    """Operations; torch's own formula takes the gradient of a depth-wise convolution's weights for a dense one's."""
    return 2 * output.numel() * weight[0].numel()


def _place(tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape)


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of memory: what is expanded, or given twice, is there once."""
    each = {_place(tensor): tensor for tensor in tensors}
    return sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in each.values())
