"""The kernels behind `segnext.fast.depthwise`, in Triton: `spread`, `gather`, `weight_sums`.

A program owns a tile of TX pixels across x TC channels and marches *along* the kernel's longer axis (H, or W for 1xK),
R outputs at a time. The R inputs under a tap form a window in registers, which one load per tap moves on. Threads hold
neighbouring channels, so that a load takes 16 bytes. Programs are ordered by channels, then by tiles across, then by
the march, so programs that share a border run at the same time and find it in L2.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, assignment, var-annotated"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(program, A, X, C, chunk, DIL: tl.constexpr, R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr):
    """The channels, pixels across, first position along, image and place number of a program."""
    channels, tiles = tl.cdiv(C, TC), tl.cdiv(X, TX)
    c = (program % channels) * TC
    place = program // channels
    across = (place % tiles) * TX
    chunks = tl.cdiv(A, chunk * R * DIL)
    start = (place // tiles % chunks) * (chunk * R * DIL)
    return c, across, start, place // tiles // chunks, place


@triton.jit
def _first(start, block, DIL: tl.constexpr, R: tl.constexpr):
    """The first output of a block. Its outputs are DIL apart, so that taps DIL apart share a window."""
    return start + (block // DIL) * (R * DIL) + block % DIL


@triton.jit
def _within(along, A):
    """A mask of shape (1, 1), because Triton's interpreter turns a scalar mask combined with a tensor into integers."""
    along = along + tl.full([1, 1], 0, tl.int32)
    return (along >= 0) & (along < A)


@triton.jit
def _load(x, place, along, A, sA, inside):
    """Load the tile at one position along, with zeros beyond the border. int64, because B H W C may exceed 2^31."""
    mask = inside & _within(along, A)
    return tl.load(x + along.to(tl.int64) * sA + place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _tap(accs, window, taps, row, channel, C, R: tl.constexpr):
    """Add one tap times the window to R sums."""
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
    """Add the convolution of one input at R outputs to `accs`.

    It unrolls R taps at a time, not all K: the compiler would issue all loads first and run out of registers.
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
def spread(
    x, taps, bias, out, A, X, C, sB, sA, sX, branch, chunk,
    KX: tl.constexpr, DIL: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    FLIP: tl.constexpr, BIAS: tl.constexpr, R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
) -> None:  # fmt: skip
    """Convolve one input with one to three sets of taps; it reads the input once and writes each output once.

    At the same R outputs it computes one branch after the other, so later branches find the input in L1.
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
def gather(
    x, taps, bias, plus, out, A, X, C, sB, sA, sX, branch, chunk,
    KX: tl.constexpr, DIL: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    FLIP: tl.constexpr, BIAS: tl.constexpr, PLUS: tl.constexpr, R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
) -> None:  # fmt: skip
    """Convolve one to three inputs with their own taps and add them and `plus`: reads each once, writes once."""
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
    """Sum, over a program's pixels, x shifted by each tap times g, and g itself."""
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
def weight_sums(
    x, g, partial, A, X, C, sB, sA, sX, xbranch, gbranch, chunk,
    KX: tl.constexpr, JG: tl.constexpr, DIL: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    R: tl.constexpr, TX: tl.constexpr, TC: tl.constexpr,
) -> None:  # fmt: skip
    """Each program's part of the gradients of taps and biases: `partial` is (places, taps + biases, C).

    Neighbouring programs have the branches (or JG columns of a large kernel), so they find their common input in L2.
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
