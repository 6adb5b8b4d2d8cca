"""What a step cannot be faster than: bytes and operations by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from benchmarks.roofline import Counter, Operator, Rates, ceiling, step_operators


def counted(work) -> list[Operator]:
    with Counter() as counter:
        work()
    return counter.operators


def test_an_operator_moves_its_inputs_and_outputs_once():
    x, y = torch.ones(10, 20), torch.ones(20)
    assert [o.bytes for o in counted(lambda: x + y)] == [4 * (200 + 20 + 200)]
    assert [o.bytes for o in counted(lambda: x.add_(1))] == [4 * (200 + 200)]
    assert [o.bytes for o in counted(lambda: x.zero_())] == [4 * 200]
    assert [o.bytes for o in counted(lambda: x * x)] == [4 * (200 + 200)]
    assert [o.bytes for o in counted(lambda: y.expand(10, 20) + x)] == [4 * (20 + 200 + 200)]


def test_views_and_allocations_are_free():
    x = torch.ones(10, 20)
    assert counted(lambda: (x.permute(1, 0)[3:], x.view(200), torch.empty(50), torch.empty_like(x))) == []


def test_products_are_counted_forwards_and_backwards():
    """A product of (10, 20) and (20, 30): 2 * 10 * 20 * 30, and twice that backwards."""
    a, b = torch.ones(10, 20, requires_grad=True), torch.ones(20, 30, requires_grad=True)
    assert sum(o.flops for o in counted(lambda: (a @ b).sum().backward())) == 3 * 2 * 10 * 20 * 30
    x, w = torch.ones(2, 8, 16, 16, requires_grad=True), torch.ones(8, 1, 3, 3, requires_grad=True)
    whole = counted(lambda: F.conv2d(x, w, padding=1, groups=8).sum().backward())
    assert sum(o.flops for o in whole) == 3 * 2 * 9 * 2 * 8 * 16 * 16


def test_the_longer_of_bytes_and_operations_counts_for_every_operator():
    rates = Rates(copy=100, float32=10, tf32=20, half=40)
    operators = [Operator("mm", 200, 100, "torch.float32"), Operator("add", 300, 0, "torch.float32")]
    exact, tf32 = ceiling(operators, rates, "float32"), ceiling(operators, rates, "tf32")
    assert (exact.seconds, exact.bound, exact.bytes, exact.flops) == (13, 10, 500, 100)
    assert (tf32.seconds, tf32.bound) == (8, 5)
    assert ceiling([Operator("mm", 200, 400, "torch.bfloat16")], rates, "bfloat16").seconds == 10


def test_what_is_done_once_is_not_of_a_step():
    def work(steps: int) -> None:
        x = torch.ones(1000)
        for _ in range(steps):
            x = x + 1

    assert [operator.name for operator in step_operators(work)] == ["add"]
