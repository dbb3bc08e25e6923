"""The short causal convolution through silu, and its gradients; beside ``model.convolution``.

Shapes: B games, L positions, D channels, K taps; P programs. A program loads the rows of STEPS
positions and of the K - 1 before them, once, and holds them in registers. The gradients of taps and
bias are summed over the games of a program, and over programs afterwards: in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.arithmetic import load_float, sigmoid


@triton.jit
def _load_row(rows, at, stride, channel, length, num_channels, CERTAIN: tl.constexpr):
    """Row ``at`` of a game as float32, zeros before its first and after its last position.

    CERTAIN promises that the row and all channels are there.
    """
    is_inside = channel < tl.where((at >= 0) & (at < length), num_channels, 0)
    return load_float(rows + at * stride + channel, is_inside, 0.0, CERTAIN)


@triton.jit
def _load_input(
    rows,
    before,
    at,
    stride,
    channel,
    length,
    num_channels,
    WIDTH: tl.constexpr,
    HAS_BEFORE: tl.constexpr,
    CERTAIN: tl.constexpr,
):
    """Row ``at`` of a game, from what came before the game's part if ``at`` is negative."""
    values = _load_row(rows, at, stride, channel, length, num_channels, CERTAIN)
    if HAS_BEFORE:
        earlier = _load_row(before, at + WIDTH, num_channels, channel, WIDTH, num_channels, False)
        values += earlier.to(rows.dtype.element_ty).to(tl.float32)
    return values


@triton.jit(do_not_specialize=["length"])
def convolution_forward_kernel(
    x,
    taps,
    bias,
    before,
    y,
    length,
    num_channels,
    x_game,
    x_row,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    WHOLE: tl.constexpr,
    HAS_BEFORE: tl.constexpr,
):
    """Write the output of ``tessera.model.convolution.causal_convolution``.

    Programs: one for each game, STEPS positions and CHANNELS channels, channels first.

    Args:
        x: (B, L, D) in any float dtype of at most 32 bits.
        taps: (K, D) float32, contiguous.
        bias: (D,) float32.
        before: (B, K - 1, D) float32, contiguous, read if HAS_BEFORE.
        y: (B, L, D), contiguous, written.
        x_game, x_row: elements of x from one game and one position to the next.
        WHOLE: L is a multiple of STEPS, D of CHANNELS.
    """
    WIDTH: tl.constexpr = TAPS - 1
    blocks = tl.cdiv(num_channels, CHANNELS)
    chunks = tl.cdiv(length, STEPS)
    program = tl.program_id(0)
    game = (program // (blocks * chunks)).to(tl.int64)
    start = program // blocks % chunks * STEPS
    channel = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < num_channels
    weights = ()
    for tap in tl.static_range(TAPS):
        weights += (load_float(taps + tap * num_channels + channel, is_channel, 0.0, WHOLE),)
    offset = load_float(bias + channel, is_channel, 0.0, WHOLE)
    x += game * x_game
    before += game * WIDTH * num_channels
    y += game * length * num_channels
    rows = ()
    for row in tl.static_range(STEPS + WIDTH):
        rows += (
            _load_input(
                x,
                before,
                start + row - WIDTH,
                x_row,
                channel,
                length,
                num_channels,
                WIDTH,
                HAS_BEFORE and row < WIDTH,
                WHOLE and row >= WIDTH,
            ),
        )
    for step in tl.static_range(STEPS):
        total = offset
        for tap in tl.static_range(TAPS):
            total += rows[step + tap] * weights[tap]
        at = start + step
        out = (total * sigmoid(total)).to(y.dtype.element_ty)
        if WHOLE:
            tl.store(y + at * num_channels + channel, out)
        else:
            mask = channel < tl.where(at < length, num_channels, 0)
            tl.store(y + at * num_channels + channel, out, mask=mask)


@triton.jit(do_not_specialize=["length", "num_games"])
def convolution_backward_kernel(
    x,
    taps,
    bias,
    before,
    grad_y,
    grad_x,
    grad_before,
    parts_taps,
    parts_bias,
    num_games,
    length,
    num_channels,
    x_game,
    x_row,
    grad_game,
    grad_row,
    grad_x_row,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    WHOLE: tl.constexpr,
    HAS_BEFORE: tl.constexpr,
):
    """Write the gradients of everything that ``causal_convolution`` reads.

    Programs: (P, blocks of CHANNELS channels). Program (p, b) takes the games p, p + P, …

    Args:
        x … before: as in ``convolution_forward_kernel``.
        grad_y: (B, L, D), any float dtype of at most 32 bits.
        grad_x: (B, L, D), written; its rows lie grad_x_row apart, games follow one another.
        grad_before: (B, K - 1, D) float32, contiguous, written if HAS_BEFORE.
        parts_taps: (P, K, D) float32, written; so is parts_bias, (P, D).
        grad_game, grad_row: the strides of ``grad_y``.
        STEPS: at least K - 1.
    """
    WIDTH: tl.constexpr = TAPS - 1
    program = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < num_channels
    weights = ()
    sums = ()
    for tap in tl.static_range(TAPS):
        weights += (load_float(taps + tap * num_channels + channel, is_channel, 0.0, WHOLE),)
        sums += (tl.zeros([CHANNELS], tl.float32),)
    offset = load_float(bias + channel, is_channel, 0.0, WHOLE)
    sum_bias = tl.zeros([CHANNELS], tl.float32)
    # What came before the game's part is one more chunk of positions, which end at -1.
    first_chunk = 0
    if HAS_BEFORE:
        first_chunk = -1

    for item in range(program, num_games, tl.num_programs(0)):
        game = tl.cast(item, tl.int64)
        x_rows = x + game * x_game
        before_rows = before + game * WIDTH * num_channels
        grad_rows = grad_y + game * grad_game
        grad_x_rows = grad_x + game * length * grad_x_row
        grad_before_rows = grad_before + game * WIDTH * num_channels
        for chunk in range(first_chunk, tl.cdiv(length, STEPS)):
            start = chunk * STEPS
            rows = ()
            for row in tl.static_range(STEPS + 2 * WIDTH):
                rows += (
                    _load_input(
                        x_rows,
                        before_rows,
                        start + row - WIDTH,
                        x_row,
                        channel,
                        length,
                        num_channels,
                        WIDTH,
                        HAS_BEFORE,
                        WHOLE and not HAS_BEFORE and row >= WIDTH and row < STEPS + WIDTH,
                    ),
                )
            grads = ()
            for row in tl.static_range(STEPS + WIDTH):
                grads += (
                    _load_row(
                        grad_rows,
                        start + row,
                        grad_row,
                        channel,
                        length,
                        num_channels,
                        WHOLE and not HAS_BEFORE and row < STEPS,
                    ),
                )
            totals = ()
            for row in tl.static_range(STEPS + WIDTH):
                total = offset
                for tap in tl.static_range(TAPS):
                    total += rows[row + tap] * weights[tap]
                gate = sigmoid(total)
                totals += (grads[row] * gate * (1 + total * (1 - gate)),)
            # The positions after the chunk are the next chunk's, to the weights.
            for step in tl.static_range(STEPS):
                sum_bias += totals[step]
                added = ()
                for tap in tl.static_range(TAPS):
                    added += (sums[tap] + totals[step] * rows[step + tap],)
                sums = added
            for step in tl.static_range(STEPS):
                at = start + step
                out = tl.zeros([CHANNELS], tl.float32)
                for tap in tl.static_range(TAPS):
                    out += totals[step + WIDTH - tap] * weights[tap]
                place = grad_x_rows + at * grad_x_row + channel
                if WHOLE and not HAS_BEFORE:
                    tl.store(place, out.to(grad_x.dtype.element_ty))
                else:
                    mask = channel < tl.where((at >= 0) & (at < length), num_channels, 0)
                    tl.store(place, out.to(grad_x.dtype.element_ty), mask=mask)
                if HAS_BEFORE:
                    mask = channel < tl.where((at < 0) & (at >= -WIDTH), num_channels, 0)
                    place = grad_before_rows + (at + WIDTH) * num_channels + channel
                    tl.store(place, out, mask=mask)

    own = program.to(tl.int64) * num_channels
    for tap in tl.static_range(TAPS):
        place = parts_taps + (own * TAPS + tap * num_channels) + channel
        tl.store(place, sums[tap], mask=is_channel)
    tl.store(parts_bias + own + channel, sum_bias, mask=is_channel)
