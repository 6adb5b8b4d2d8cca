"""Depth-wise convolutions in channels-last memory, and the sum of MSCA's strips (Eq. 1), for CUDA.

On a GPU they are bound by memory: each value takes part in 9 to 39 products per branch. So every kernel reads its
inputs once from memory and writes its outputs once; the taps around a pixel come from the registers or from L1.

A program owns a tile of TX pixels across x TC channels and marches *along* the kernel's longer axis (H, or W for 1xK),
R outputs at a time. The R inputs under a tap are a window in registers that moves on by one load a tap. Threads hold
neighbouring channels, so that a load takes 16 bytes. Channels come first in the order of the programs, then tiles
across, then the march: programs that share a border run at the same time and find it in L2.

Sums are in float32, so are the weights: rounding them to half precision, as autocast does for PyTorch's own
convolutions, costs a pass and gains nothing. Weight gradients are sums over a program's pixels, written to memory and
added in a fixed order: the same bits every time.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, assignment, var-annotated"

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

R = 4  # outputs along the march that share a window
PROGRAMS = 1056  # at least, where the size allows: 8 for each of an H100's 132 multiprocessors
TAPS = 25  # at most, as accumulators of a program for weight gradients; more are shared out


@triton.jit
def _place(program, A, X, C, chunk, DIL: tl.constexpr, R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr):
    """A program's channels, pixels across, first place along, image, and the number of its place."""
    channels, tiles = tl.cdiv(C, TC), tl.cdiv(X, TX)
    c = (program % channels) * TC
    place = program // channels
    across = (place % tiles) * TX
    chunks = tl.cdiv(A, chunk * R * DIL)
    start = (place // tiles % chunks) * (chunk * R * DIL)
    return c, across, start, place // tiles // chunks, place


@triton.jit
def _first(start, block, DIL: tl.constexpr, R: tl.constexpr):
    """Outputs of a block lie DIL apart, so that taps DIL apart share their window."""
    return start + (block // DIL) * (R * DIL) + block % DIL


@triton.jit
def _within(along, A):
    """A mask of (1, 1): Triton's interpreter makes integers of a scalar mask that meets a tensor's."""
    along = along + tl.full([1, 1], 0, tl.int32)
    return (along >= 0) & (along < A)


@triton.jit
def _load(x, place, along, A, sA, inside):
    """One place along, all of the tile: zeros beyond the border. int64: B H W C may exceed 2^31."""
    mask = inside & _within(along, A)
    return tl.load(x + along.to(tl.int64) * sA + place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _tap(accs, window, taps, row, channel, C, R: tl.constexpr):
    """One tap times the window, added to R sums."""
    w = tl.load(taps + row * C + channel, mask=channel < C, other=0.0)[None, :]
    added = ()
    for r in tl.static_range(R):
        added = added + (accs[r] + w * window[r],)
    return added


@triton.jit
def _convolved(
    accs, x, taps, channel, column, rel, first, A, X, C, sA, sX,
    KX: tl.constexpr, DIL: tl.constexpr, K: tl.constexpr, FLIP: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """One input's convolution at R outputs, added to `accs`.

    Loops over R taps, not all K at once: the compiler would issue all loads first, and their values fill the registers.
    """
    last: tl.constexpr = K * KX - 1 if FLIP else 0
    step: tl.constexpr = -1 if FLIP else 1
    for j in range(KX):
        shift = (j - KX // 2) * DIL
        inside = ((column + shift >= 0) & (column + shift < X))[:, None] & (channel < C)[None, :]
        here = x + shift.to(tl.int64) * sX
        window = ()
        for s in tl.static_range(R - 1):
            window = window + (_load(here, rel, first + (s - K // 2) * DIL, A, sA, inside),)
        for q in range(K // R):
            for s in tl.static_range(R):
                t = q * R + s
                window = window + (_load(here, rel, first + (t + R - 1 - K // 2) * DIL, A, sA, inside),)
                accs = _tap(accs, window, taps, last + step * (t * KX + j), channel, C, R)
                window = window[1:]
        for s in tl.static_range(K % R):
            t = K // R * R + s
            window = window + (_load(here, rel, first + (t + R - 1 - K // 2) * DIL, A, sA, inside),)
            accs = _tap(accs, window, taps, last + step * (t * KX + j), channel, C, R)
            window = window[1:]
    return accs


@triton.jit
def _begin(bias, channel, C, BIAS: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr):
    zero = tl.zeros([TX, TC], tl.float32)
    if BIAS:
        zero += tl.load(bias + channel, mask=channel < C, other=0.0)[None, :]
    return zero


@triton.jit
def _write(out, rel, accs, first, A, sA, inside, DIL: tl.constexpr, R: tl.constexpr):
    for r in tl.static_range(R):
        along = first + r * DIL
        where = out + along.to(tl.int64) * sA + rel
        tl.store(where, accs[r].to(out.dtype.element_ty), mask=inside & _within(along, A))


@triton.jit(do_not_specialize=["A", "X", "chunk"])
def _spread(
    x, taps, bias, out, A, X, C, sB, sA, sX, branch, chunk,
    KX: tl.constexpr, DIL: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    FLIP: tl.constexpr, BIAS: tl.constexpr, R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
):  # fmt: skip
    """One input, convolved by one to three sets of taps: reads once, writes each output once.

    One branch after the other, at the same R outputs: the second finds the input in L1.
    """
    c0, across, start, image, _ = _place(tl.program_id(0), A, X, C, chunk, DIL, R, TX, TC)
    channel, column = c0 + tl.arange(0, TC), across + tl.arange(0, TX)
    centre = (column < X)[:, None] & (channel < C)[None, :]
    base = image.to(tl.int64) * sB + across.to(tl.int64) * sX + c0
    rel = (tl.arange(0, TX) * sX)[:, None] + tl.arange(0, TC)[None, :]
    one = tl.full((), 1, tl.int64)
    here = x + base
    for block in range(chunk * DIL):
        first = _first(start, block, DIL, R)
        accs = (_begin(bias, channel, C, BIAS, TX, TC),) * R
        accs = _convolved(accs, here, taps, channel, column, rel, first, A, X, C, sA, sX, KX, DIL, K0, FLIP, R)
        _write(out + base, rel, accs, first, A, sA, centre, DIL, R)
        if K1 > 0:
            accs = (_begin(bias + C, channel, C, BIAS, TX, TC),) * R
            above = taps + K0 * C
            accs = _convolved(accs, here, above, channel, column, rel, first, A, X, C, sA, sX, KX, DIL, K1, FLIP, R)
            _write(out + one * branch + base, rel, accs, first, A, sA, centre, DIL, R)
        if K2 > 0:
            accs = (_begin(bias + 2 * C, channel, C, BIAS, TX, TC),) * R
            above = taps + (K0 + K1) * C
            accs = _convolved(accs, here, above, channel, column, rel, first, A, X, C, sA, sX, KX, DIL, K2, FLIP, R)
            _write(out + one * branch * 2 + base, rel, accs, first, A, sA, centre, DIL, R)


@triton.jit(do_not_specialize=["A", "X", "chunk"])
def _gather(
    x, taps, bias, plus, out, A, X, C, sB, sA, sX, branch, chunk,
    KX: tl.constexpr, DIL: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    FLIP: tl.constexpr, BIAS: tl.constexpr, PLUS: tl.constexpr, R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
):  # fmt: skip
    """One to three inputs, each convolved by its own taps, and `plus`, added up: reads each once, writes once."""
    c0, across, start, image, _ = _place(tl.program_id(0), A, X, C, chunk, DIL, R, TX, TC)
    channel, column = c0 + tl.arange(0, TC), across + tl.arange(0, TX)
    centre = (column < X)[:, None] & (channel < C)[None, :]
    base = image.to(tl.int64) * sB + across.to(tl.int64) * sX + c0
    rel = (tl.arange(0, TX) * sX)[:, None] + tl.arange(0, TC)[None, :]
    one = tl.full((), 1, tl.int64)
    for block in range(chunk * DIL):
        first = _first(start, block, DIL, R)
        zero = _begin(bias, channel, C, BIAS, TX, TC)
        if K1 > 0:
            zero += _begin(bias + C, channel, C, BIAS, TX, TC)
        if K2 > 0:
            zero += _begin(bias + 2 * C, channel, C, BIAS, TX, TC)
        accs = ()
        for r in tl.static_range(R):
            if PLUS:
                accs = accs + (zero + _load(plus + base, rel, first + r * DIL, A, sA, centre),)
            else:
                accs = accs + (zero,)
        here = x + base
        accs = _convolved(accs, here, taps, channel, column, rel, first, A, X, C, sA, sX, KX, DIL, K0, FLIP, R)
        if K1 > 0:
            here = x + one * branch + base
            above = taps + K0 * C
            accs = _convolved(accs, here, above, channel, column, rel, first, A, X, C, sA, sX, KX, DIL, K1, FLIP, R)
        if K2 > 0:
            here = x + one * branch * 2 + base
            above = taps + (K0 + K1) * C
            accs = _convolved(accs, here, above, channel, column, rel, first, A, X, C, sA, sX, KX, DIL, K2, FLIP, R)
        _write(out + base, rel, accs, first, A, sA, centre, DIL, R)


@triton.jit
def _correlate(
    x, g, sums, bias, start, column, channel, rel, A, X, C, sA, sX, chunk, first_j, part,
    KX: tl.constexpr, JG: tl.constexpr, DIL: tl.constexpr, K: tl.constexpr,
    R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
):  # fmt: skip
    """A program's sums of `x` shifted by each tap times `g`, and of `g`."""
    channels = channel < C
    centre = (column < X)[:, None] & channels[None, :]
    one = tl.full((), 1, tl.int64)
    total = tl.zeros([TX, TC], tl.float32)
    accs = ()
    for _i in tl.static_range(JG * K):
        accs = accs + (tl.zeros([TX, TC], tl.float32),)
    for block in range(chunk * DIL):
        first = _first(start, block, DIL, R)
        gradients = ()
        for r in tl.static_range(R):
            gradients = gradients + (_load(g, rel, first + r * DIL, A, sA, centre),)
            total += gradients[r]
        added = ()
        for j in tl.static_range(JG):
            shift = (first_j + j - KX // 2) * DIL
            inside = ((column + shift >= 0) & (column + shift < X))[:, None] & channels[None, :]
            here = x + one * shift * sX
            window = ()
            for s in tl.static_range(R - 1):
                window = window + (_load(here, rel, first + (s - K // 2) * DIL, A, sA, inside),)
            for t in tl.static_range(K):
                window = window + (_load(here, rel, first + (t + R - 1 - K // 2) * DIL, A, sA, inside),)
                acc = accs[j * K + t]
                for r in tl.static_range(R):
                    acc += gradients[r] * window[r]
                added = added + (acc,)
                window = window[1:]
        accs = added
    for j in tl.static_range(JG):
        for t in tl.static_range(K):
            row = t * KX + first_j + j
            tl.store(sums + row * C + channel, tl.sum(accs[j * K + t], axis=0), mask=channels)
    tl.store(bias + channel, tl.sum(total, axis=0), mask=channels & (channel * 0 == part))


@triton.jit(do_not_specialize=["A", "X", "chunk"])
def _weights(
    x, g, partial, A, X, C, sB, sA, sX, xbranch, gbranch, chunk,
    KX: tl.constexpr, JG: tl.constexpr, DIL: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
):  # fmt: skip
    """Each program's part of the gradients for taps and biases: `partial` is (places, taps + biases, C).

    The branches (or JG columns of a large kernel) are neighbouring programs, which find the common input in L2.
    """
    N: tl.constexpr = 1 + (K1 > 0) + (K2 > 0)
    SHARES: tl.constexpr = KX // JG
    program = tl.program_id(0)
    part = program % (N * SHARES)
    c0, across, start, image, place = _place(program // (N * SHARES), A, X, C, chunk, DIL, R, TX, TC)
    channel, column = c0 + tl.arange(0, TC), across + tl.arange(0, TX)
    base = image.to(tl.int64) * sB + across.to(tl.int64) * sX + c0
    rel = (tl.arange(0, TX) * sX)[:, None] + tl.arange(0, TC)[None, :]
    TAPS: tl.constexpr = (K0 + K1 + K2) * KX
    sums = partial + place.to(tl.int64) * (TAPS + N) * C
    bias = sums + TAPS * C
    here, there = x + base, g + base
    one = tl.full((), 1, tl.int64)
    if N == 1:
        _correlate(here, there, sums, bias, start, column, channel, rel, A, X, C, sA, sX, chunk, part * JG, part,
                   KX, JG, DIL, K0, R, TX, TC)  # fmt: skip
    else:
        if part == 0:
            _correlate(here, there, sums, bias, start, column, channel, rel, A, X, C, sA, sX, chunk, 0, 0,
                       KX, JG, DIL, K0, R, TX, TC)  # fmt: skip
        if part == 1:
            _correlate(here + one * xbranch, there + one * gbranch, sums + K0 * C, bias + C,
                       start, column, channel, rel, A, X, C, sA, sX, chunk, 0, 0,
                       KX, JG, DIL, K1, R, TX, TC)  # fmt: skip
        if N == 3:
            if part == 2:
                _correlate(here + one * xbranch * 2, there + one * gbranch * 2, sums + (K0 + K1) * C, bias + 2 * C,
                           start, column, channel, rel, A, X, C, sA, sX, chunk, 0, 0,
                           KX, JG, DIL, K2, R, TX, TC)  # fmt: skip


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """`F.conv2d` of `(B, C, H, W)` with weights (C, 1, kh, kw), kh and kw odd, in stride 1 and of the same size.

    The result is channels-last and has x's dtype, or autocast's where that is on; sums are in float32.
    """
    height, width = weight.shape[2:]
    return _depthwise(_cast(x), _taps([weight]), _biases([bias]), height, width, dilation)


def strips(
    local: Tensor,
    rows: Sequence[tuple[Tensor, Tensor | None]],
    columns: Sequence[tuple[Tensor, Tensor | None]],
) -> Tensor:
    """`local + sum_i column_i(row_i(local))`, the bracket of Eq. 1: `(B, C, H, W) -> (B, C, H, W)`.

    One to three branches; rows and columns are weights (C, 1, 1, k) and (C, 1, k, 1) with their biases. All rows are
    one pass (one read, a write each), all columns another (a read each, one for `local`, one write): 9 tensors for
    three branches instead of 21. The result is as `depthwise` gives it. Raises `ValueError` for other shapes.
    """
    sizes = [weight.shape[3] for weight, _ in rows]
    if not 1 <= len(rows) <= 3 or sizes != [weight.shape[2] for weight, _ in columns]:
        found = [tuple(weight.shape[2:]) for weight, _ in (*rows, *columns)]
        raise ValueError(f"strips: one to three pairs of 1xK and Kx1 are computed together, not {found}")
    row_taps, column_taps = (_taps([weight for weight, _ in part]) for part in (rows, columns))
    row_biases, column_biases = (_biases([bias for _, bias in part]) for part in (rows, columns))
    return _strips(_cast(local), row_taps, row_biases, column_taps, column_biases, sizes)[0]


def _cast(x: Tensor) -> Tensor:
    """As autocast would for `F.conv2d`."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def _taps(weights: list[Tensor]) -> Tensor:
    """(taps, C), so that neighbouring threads read neighbouring channels; one small kernel for all of a call."""
    return torch.cat([weight.flatten(1).t() for weight in weights]).float()


def _biases(biases: list[Tensor | None]) -> Tensor | None:
    """(branches, C); None where a branch has none: in this network either all have one or none."""
    if any(bias is None for bias in biases):
        if not all(bias is None for bias in biases):
            raise ValueError("strips: either every branch has a bias or none")
        return None
    return torch.stack([bias for bias in biases if bias is not None]).float()


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _halves(x: Tensor, branches: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.new_empty(branches, batch, height, width, channels)


def _launch(
    kernel: Any, tensors: Sequence[Any], x: Tensor, along: str, kx: int, dilation: int, ks: Sequence[int], **more: Any
) -> None:
    """Run a convolution's kernel on x's `(B, C, H, W)`; a plain rule of the shape decides its tiles."""
    batch, channels, height, width = x.shape
    if not x.numel():
        return
    strides = {"H": width * channels, "W": channels}
    across = "W" if along == "H" else "H"
    sizes = {"H": height, "W": width}
    tc = _tile(channels)
    warps, tx = _shape(sizes[across], tc, 16 // x.element_size())
    places = batch * triton.cdiv(sizes[across], tx) * triton.cdiv(channels, tc)
    blocks = triton.cdiv(sizes[along], R * dilation)
    chunk = min(blocks, max(1, places * blocks // PROGRAMS))
    k0, k1, k2 = [*ks, 0, 0][:3]
    with _on(x):
        kernel[(places * triton.cdiv(blocks, chunk),)](
            *tensors, sizes[along], sizes[across], channels, height * width * channels, strides[along],
            strides[across], x.numel(), chunk,
            KX=kx, DIL=dilation, K0=k0, K1=k1, K2=k2, R=R, TX=tx, TC=tc, num_warps=warps, enable_fp_fusion=True, **more,
        )  # fmt: skip


def _tile(channels: int) -> int:
    """Channels of a program: 64 where they divide (128 bytes in half precision), else what wastes least."""
    return next((tc for tc in (64, 32, 16) if channels % tc == 0), min(64, triton.next_power_of_2(channels)))


def _shape(across: int, tc: int, vector: int) -> tuple[int, int]:
    """Warps and pixels across: each thread has `vector` channels of one pixel, and no half of a tile is empty.

    Unless a program had no more threads than channels: Triton then passes the taps through shared memory.
    """
    warps = 4
    while warps > 1 and 2 * tc <= 16 * warps and warps * 32 * vector // tc >= 2 * across:
        warps //= 2
    return warps, max(1, warps * 32 * vector // tc)


def _on(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the tensors' is."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def _convolve(
    x: Tensor, taps: Tensor, biases: Tensor | None, out: Tensor, like: Tensor, along: str, kx: int, dilation: int,
    ks: Sequence[int], flip: bool,
) -> None:  # fmt: skip
    """One input to as many outputs as there are branches."""
    taps, biases = _packed(taps, biases)
    tensors = (x, taps, taps if biases is None else biases, out)
    _launch(_spread, tensors, like, along, kx, dilation, ks, FLIP=flip, BIAS=biases is not None)


def _sum(
    x: Tensor, taps: Tensor, biases: Tensor | None, plus: Tensor, out: Tensor, along: str, ks: Sequence[int], flip: bool
) -> None:
    """As many inputs as there are branches, and `plus`, to one output."""
    taps, biases = _packed(taps, biases)
    tensors = (x.contiguous(), taps, taps if biases is None else biases, plus, out)
    _launch(_gather, tensors, plus, along, 1, 1, ks, FLIP=flip, BIAS=biases is not None, PLUS=True)


def _packed(taps: Tensor, biases: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """As the kernels read them: Inductor hands an operator tensors of its own strides."""
    return taps.contiguous(), None if biases is None else biases.contiguous()


def _sums(x: Tensor, gradient: Tensor, like: Tensor, along: str, kx: int, dilation: int, ks: Sequence[int]) -> Tensor:
    """Gradients for taps and, below them, biases: float32 (taps + biases, C). x or the gradient has the branches."""
    batch, channels, height, width = like.shape
    rows = sum(ks) * kx + len(ks)
    x, gradient = (each.contiguous() if each.dim() == 5 else each for each in (x, gradient))
    if not like.numel():
        return like.new_zeros(rows, channels, dtype=torch.float32)
    strides, sizes = {"H": width * channels, "W": channels}, {"H": height, "W": width}
    across = "W" if along == "H" else "H"
    tc = _tile(channels)
    warps, tx = _shape(sizes[across], tc, 4)
    columns = kx if kx * ks[0] <= TAPS else 1
    places = batch * triton.cdiv(sizes[across], tx)
    blocks = triton.cdiv(sizes[along], R * dilation)
    parts = len(ks) * (kx // columns) * triton.cdiv(channels, tc)
    # Fewer programs than elsewhere: each writes its sums, and those are read again.
    chunk = min(blocks, max(1, 2 * places * blocks * parts // PROGRAMS))
    places *= triton.cdiv(blocks, chunk)
    partial = like.new_empty(places, rows, channels, dtype=torch.float32)
    k0, k1, k2 = [*ks, 0, 0][:3]
    with _on(like):
        _weights[(places * parts,)](
            x, gradient, partial, sizes[along], sizes[across], channels, height * width * channels, strides[along],
            strides[across], like.numel() if x.dim() == 5 else 0, like.numel() if gradient.dim() == 5 else 0, chunk,
            KX=kx, JG=columns, DIL=dilation, K0=k0, K1=k1, K2=k2, R=R, TX=tx, TC=tc, num_warps=warps,
            enable_fp_fusion=True,
        )  # fmt: skip
    return partial.sum(0)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _axes(height: int, width: int) -> tuple[str, int, int]:
    """Along which axis to march, the taps along it, and across: along the rows for 1xK alone."""
    return ("H", height, width) if height > 1 else ("W", width, 1)


@torch.library.custom_op("segnext::depthwise", mutates_args=())
def _depthwise(x: Tensor, taps: Tensor, biases: Tensor | None, height: int, width: int, dilation: int) -> Tensor:
    along, k, kx = _axes(height, width)
    x, out = _last(x), _empty(x)
    _convolve(x, taps, biases, out, x, along, kx, dilation, [k], flip=False)
    return out


@torch.library.custom_op("segnext::depthwise_input", mutates_args=())
def _depthwise_input(gradient: Tensor, taps: Tensor, height: int, width: int, dilation: int) -> Tensor:
    along, k, kx = _axes(height, width)
    gradient, out = _last(gradient), _empty(gradient)
    _convolve(gradient, taps, None, out, gradient, along, kx, dilation, [k], flip=True)
    return out


@torch.library.custom_op("segnext::depthwise_weights", mutates_args=())
def _depthwise_weights(x: Tensor, gradient: Tensor, height: int, width: int, dilation: int) -> Tensor:
    along, k, kx = _axes(height, width)
    return _sums(_last(x), _last(gradient), x, along, kx, dilation, [k])


@torch.library.custom_op("segnext::strips", mutates_args=())
def _strips(
    local: Tensor,
    row_taps: Tensor,
    row_biases: Tensor | None,
    column_taps: Tensor,
    column_biases: Tensor | None,
    ks: list[int],
) -> tuple[Tensor, Tensor]:
    local, out, halves = _last(local), _empty(local), _halves(local, len(ks))
    _convolve(local, row_taps, row_biases, halves, local, "W", 1, 1, ks, flip=False)
    _sum(halves, column_taps, column_biases, local, out, "H", ks, flip=False)
    return out, halves


@torch.library.custom_op("segnext::strips_backward", mutates_args=())
def _strips_backward(
    gradient: Tensor, local: Tensor, halves: Tensor, row_taps: Tensor, column_taps: Tensor, ks: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, local, out, below = _last(gradient), _last(local), _empty(local), _halves(local, len(ks))
    _convolve(gradient, column_taps, None, below, gradient, "H", 1, 1, ks, flip=True)
    columns = _sums(halves, gradient, local, "H", 1, 1, ks)
    _sum(below, row_taps, None, gradient, out, "W", ks, flip=True)
    return out, _sums(local, below, local, "W", 1, 1, ks), columns


@_depthwise.register_fake
def _(x: Tensor, taps: Tensor, biases: Tensor | None, height: int, width: int, dilation: int) -> Tensor:
    return _empty(x)


@_depthwise_input.register_fake
def _(gradient: Tensor, taps: Tensor, height: int, width: int, dilation: int) -> Tensor:
    return _empty(gradient)


@_depthwise_weights.register_fake
def _(x: Tensor, gradient: Tensor, height: int, width: int, dilation: int) -> Tensor:
    return x.new_empty(height * width + 1, x.shape[1], dtype=torch.float32)


@_strips.register_fake
def _(
    local: Tensor,
    row_taps: Tensor,
    row_biases: Tensor | None,
    column_taps: Tensor,
    column_biases: Tensor | None,
    ks: list[int],
) -> tuple[Tensor, Tensor]:
    return _empty(local), _halves(local, len(ks))


@_strips_backward.register_fake
def _(
    gradient: Tensor, local: Tensor, halves: Tensor, row_taps: Tensor, column_taps: Tensor, ks: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    sums = local.new_empty(sum(ks) + len(ks), local.shape[1], dtype=torch.float32)
    return _empty(local), sums, torch.empty_like(sums)


def _keep_depthwise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, taps, biases, *ctx.shape = inputs
    ctx.biased = biases is not None
    ctx.save_for_backward(x, taps)


def _depthwise_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, taps = ctx.saved_tensors
    to_x = to_taps = to_biases = None
    if ctx.needs_input_grad[0]:
        to_x = _depthwise_input(gradient, taps, *ctx.shape)
    if any(ctx.needs_input_grad[1:3]):
        sums = _depthwise_weights(x, gradient, *ctx.shape)
        to_taps, to_biases = sums[:-1], sums[-1:] if ctx.biased else None
    return to_x, to_taps, to_biases, None, None, None


def _keep_strips(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    local, row_taps, row_biases, column_taps, column_biases, ctx.ks = inputs
    ctx.row_biased, ctx.column_biased = row_biases is not None, column_biases is not None
    ctx.save_for_backward(local, output[1], row_taps, column_taps)


def _strips_gradients(ctx: Any, gradient: Tensor, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    to_local, rows, columns = _strips_backward(gradient, *ctx.saved_tensors, ctx.ks)
    taps = sum(ctx.ks)
    row_biases = rows[taps:] if ctx.row_biased else None
    column_biases = columns[taps:] if ctx.column_biased else None
    return to_local, rows[:taps], row_biases, columns[:taps], column_biases, None


_depthwise.register_autograd(_depthwise_backward, setup_context=_keep_depthwise)
_strips.register_autograd(_strips_gradients, setup_context=_keep_strips)
