"""How fast the kernels are at the shapes of T, 512x512, batch 16: against cuDNN, PyTorch's own, and the bandwidth.

`python tests/gpu/kernel_speed.py` on a card; `--device cpu` rehearses it, tiny, under Triton's interpreter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
parser.add_argument("--warm", help=argparse.SUPPRESS)  # compile a part of the kernels, show nothing
options = parser.parse_args()
CPU = options.device == "cpu"
if CPU:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from segnext.fast.cross_entropy import cross_entropy  # noqa: E402
from segnext.fast.depthwise import depthwise, strips  # noqa: E402

BATCH = 1 if CPU else 16
STAGES = [(8, 6)] if CPU else [(32, 128), (64, 64), (160, 32), (256, 16)]
HIDDEN = [(16, 6)] if CPU else [(256, 128), (512, 64), (640, 32), (1024, 16)]
RUNS = 2 if CPU else 20
TIME = 0.05 if CPU else 0.03  # seconds of a measurement at most


def timed(call: Callable[[], object]) -> float:
    """Microseconds: the median, with L2 as the call before left it."""
    call()
    if CPU:
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e6
    call()
    torch.cuda.synchronize()
    times = []
    started = time.perf_counter()
    while len(times) < RUNS and (len(times) < 3 or time.perf_counter() - started < TIME):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(1_000_000)  # the host is ahead, so that launches do not count
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        times.append(before.elapsed_time(after) * 1e3)
    return sorted(times)[len(times) // 2]


def bandwidth() -> float:
    """Bytes a microsecond of a copy that L2 cannot hold, both directions."""
    x = torch.empty(1 << (16 if CPU else 28), device=options.device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / timed(lambda: y.copy_(x))


COPY = bandwidth() if options.warm is None else 1.0


def shown(name: str, bytes_moved: list[int], calls: dict[str, list[Callable[[], object]]]) -> None:
    """Forward, gradient for x, gradient for the weights: microseconds (fraction of the copy bandwidth)."""
    for way, parts in calls.items():
        cells = []
        for call, moved in zip(parts, bytes_moved, strict=False):
            try:
                took = timed(call)
                cells.append(f"{took:8.1f} ({moved / COPY / took:4.2f})")
            except Exception as error:
                cells.append(f"{type(error).__name__:>15}")
        print(f"{name:34}{way:8}{' '.join(cells)}", flush=True)


def gradients(call: Callable[..., Tensor], x: Tensor, layers: list[Tensor]) -> list[Callable[[], object]]:
    out = call(x, *layers)
    direction = torch.randn_like(out)
    return [
        lambda: call(x, *layers).shape,
        lambda: torch.autograd.grad(out, [x], direction, retain_graph=True),
        lambda: torch.autograd.grad(out, layers, direction, retain_graph=True),
    ]


def without_cudnn(call: Callable[[], object]) -> Callable[[], object]:
    def native() -> object:
        with torch.backends.cudnn.flags(enabled=False):
            return call()

    return native


def convolution(channels: int, side: int, kernel: tuple[int, int], dtype: torch.dtype) -> None:
    x = torch.randn(BATCH, channels, side, side, device=options.device, dtype=dtype)
    last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    x.requires_grad_()
    weight = torch.randn(channels, 1, *kernel, device=options.device).requires_grad_()
    bias = torch.randn(channels, device=options.device).requires_grad_()
    half = [layer.detach().to(dtype).requires_grad_() for layer in (weight, bias)]
    padding = (kernel[0] // 2, kernel[1] // 2)

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=padding, groups=channels)

    taps, direction = weight.detach().flatten(1).t().contiguous(), torch.randn_like(last)
    operators, shape = torch.ops.segnext, (*kernel, 1)
    ours = [
        lambda: depthwise(last, weight, bias).shape,
        lambda: operators.depthwise_input(direction, taps, *shape),  # autograd asks for both gradients at once
        lambda: operators.depthwise_weights(last.detach(), direction, *shape),
    ]
    name = f"{str(dtype)[6:]} {channels}x{side}x{side} {kernel[0]}x{kernel[1]}"
    ways = {"ours": ours}
    if options.warm is None:
        native = [without_cudnn(call) for call in gradients(plain, x, half)]
        ways = {"cudnn": gradients(plain, last, half), "torch": native, "ours": ours}
    shown(name, [2 * x.nbytes] * 3, ways)


def msca(channels: int, side: int, dtype: torch.dtype) -> None:
    shape = BATCH, channels, side, side
    x = torch.randn(shape, device=options.device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    layers = []
    for k in (7, 11, 21):
        layers += [(channels, 1, 1, k), (channels,), (channels, 1, k, 1), (channels,)]
    layers = [torch.randn(shape, device=options.device).requires_grad_() for shape in layers]
    half = [layer.detach().to(dtype).requires_grad_() for layer in layers]

    def plain(x: Tensor, *layers: Tensor) -> Tensor:
        total = x
        for i, k in zip((0, 4, 8), (7, 11, 21), strict=True):
            y = F.conv2d(x, layers[i], layers[i + 1], padding=(0, k // 2), groups=channels)
            total = total + F.conv2d(y, layers[i + 2], layers[i + 3], padding=(k // 2, 0), groups=channels)
        return total

    def ours(x: Tensor, *layers: Tensor) -> Tensor:
        pairs = [(layers[i], layers[i + 1]) for i in range(0, 12, 2)]
        return strips(x, pairs[::2], pairs[1::2])

    def both(call: Callable[..., Tensor], layers: list[Tensor]) -> list[Callable[[], object]]:
        out = call(x, *layers)
        direction = torch.randn_like(out)
        return [
            lambda: call(x, *layers).shape,
            lambda: torch.autograd.grad(out, [x, *layers], direction, retain_graph=True),
        ]

    name = f"{str(dtype)[6:]} {channels}x{side}x{side} strips"
    ways = {"ours": both(ours, layers)}
    if options.warm is None:
        ways = {"cudnn": both(plain, half)} | ways
    shown(name, [9 * x.nbytes, 17 * x.nbytes], ways)


def loss(classes: int, dtype: torch.dtype) -> None:
    h, size = (3, 12) if CPU else (64, 512)
    scores = torch.randn(BATCH, classes, h, h, device=options.device, dtype=dtype)
    scores = scores.contiguous(memory_format=torch.channels_last).requires_grad_()
    labels = torch.randint(classes, (BATCH, size, size), device=options.device, dtype=torch.uint8)

    def plain(scores: Tensor) -> Tensor:
        full = F.interpolate(scores.float(), (size, size), mode="bilinear", align_corners=False)
        return F.cross_entropy(full, labels.long(), ignore_index=255, reduction="sum")

    def both(call: Callable[[Tensor], Tensor]) -> list[Callable[[], object]]:
        out = call(scores)
        return [lambda: call(scores).shape, lambda: torch.autograd.grad(out, scores, retain_graph=True)]

    corners = 4 * 4 * scores.numel()
    moved = [scores.nbytes + labels.nbytes + corners, corners + scores.nbytes]
    shown(
        f"{str(dtype)[6:]} loss {classes} x {h} -> {size}",
        moved,
        {"plain": both(plain), "ours": both(lambda s: cross_entropy(s, labels))},
    )


def warm(part: str, dtype: torch.dtype) -> None:
    """Two stages have all the tiles there are."""
    for channels, side in STAGES[:2]:
        if part == str(channels):
            convolution(channels, side, (5, 5), dtype)
            convolution(HIDDEN[0][0], HIDDEN[0][1], (3, 3), dtype)
        elif part == f"strips{channels}":
            msca(channels, side, dtype)


def main() -> None:
    if options.warm is not None:
        warm(options.warm, getattr(torch, options.dtypes[0]))
        return
    if not CPU:  # Triton compiles one kernel after the other, a process on each core all at once
        parts = [(name, dtype) for dtype in options.dtypes for c, _ in STAGES[:2] for name in (str(c), f"strips{c}")]
        command = [sys.executable, __file__]
        workers = [
            subprocess.Popen([*command, "--warm", part, "--dtypes", dtype], stdout=subprocess.DEVNULL)
            for part, dtype in parts
        ]
        for worker in workers:
            worker.wait()
        print(torch.cuda.get_device_name(), torch.__version__)
    print(f"copy {COPY / 1e3:.0f} GB/s; microseconds (fraction of it, each input and output once)")
    print(f"{'':42}{'forward':>15} {'grad x':>15} {'grad w':>15}   (strips, loss: forward, all gradients)")
    for dtype in (getattr(torch, name) for name in options.dtypes):
        for channels, side in STAGES:
            convolution(channels, side, (5, 5), dtype)
            msca(channels, side, dtype)
        for channels, side in HIDDEN:
            convolution(channels, side, (3, 3), dtype)
        for classes in (5,) if CPU else (19, 150):
            loss(classes, dtype)


main()
