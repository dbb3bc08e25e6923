"""The hyperbolic state space's recurrence and its gradients; beside ``scans.mobius``.

Shapes: B games, L positions, N width of a point, in a block of WIDTH. A program takes one game and
walks through it, its point in registers. All arithmetic is in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

_SMALL = tl.constexpr(0.3)  # below it a series is nearer than the formula
_TINY = tl.constexpr(1e-20)


@triton.jit
def _tanh_over(length, square):
    """tanh(m) / m, and its derivative over m."""
    e = tl.exp(-2 * length)
    tanh = (1 - e) / (1 + e)
    ratio = tanh / length
    slope = (1 - tanh * tanh - ratio) / square
    series = 1 - square * (1 / 3 - square * (2 / 15 - square * (17 / 315 - square * (62 / 2835))))
    slopes = square * (34 / 105 - square * (496 / 2835 - square * (13820 / 155925)))
    slopes = -2 / 3 + square * (8 / 15 - slopes)
    is_small = length < _SMALL
    return tl.where(is_small, series, ratio), tl.where(is_small, slopes, slope)


@triton.jit
def _artanh_over(length, square):
    """artanh(n) / n, and its derivative over n."""
    ratio = 0.5 * tl.log((1 + length) / (1 - length)) / length
    slope = (1 / (1 - square) - ratio) / square
    series = 1 / 9 + square * (1 / 11 + square * (1 / 13))
    series = 1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * series)))
    slopes = 8 / 9 + square * (10 / 11 + square * (12 / 13))
    slopes = 2 / 3 + square * (4 / 5 + square * (6 / 7 + square * slopes))
    is_small = length < _SMALL
    return tl.where(is_small, series, ratio), tl.where(is_small, slopes, slope)


@triton.jit
def _length(square):
    return tl.sqrt(tl.maximum(square, _TINY))


@triton.jit
def mobius_forward_kernel(
    decay, drive, before, states, length, width, furthest, limit, WIDTH: tl.constexpr
):
    """Write the points after all positions.

    Programs: one for a game.

    Args:
        decay: (B, L, N) float32.
        drive: (B, L, N) float32.
        before: (B, N) float32.
        states: (B, L, N) float32, written.
        length: L.
        width: N.
        furthest: from the origin, where points are drawn back to.
        limit: beyond which they are.
        WIDTH: a power of two, at least N.
    """
    game = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, WIDTH)
    inside = place < width
    point = tl.load(before + game * width + place, mask=inside, other=0.0)
    row = game * length * width + place
    for _ in range(length):
        a = tl.load(decay + row, mask=inside, other=0.0)
        b = tl.load(drive + row, mask=inside, other=0.0)
        square = tl.sum(point * point, 0)
        back, _ = _artanh_over(_length(square), square)
        scaled = a * point * back
        square = tl.sum(scaled * scaled, 0)
        onto, _ = _tanh_over(_length(square), square)
        x = scaled * onto
        product, of_x, of_b = tl.sum(x * b, 0), tl.sum(x * x, 0), tl.sum(b * b, 0)
        over = 1 + 2 * product + of_x * of_b
        point = ((1 + 2 * product + of_b) * x + (1 - of_x) * b) / over
        reach = _length(tl.sum(point * point, 0))
        point = point * tl.where(reach > limit, furthest / reach, 1.0)
        tl.store(states + row, point, mask=inside)
        row += width


@triton.jit
def mobius_backward_kernel(
    decay,
    drive,
    before,
    states,
    grad_states,
    grad_decay,
    grad_drive,
    grad_before,
    length,
    width,
    furthest,
    limit,
    WIDTH: tl.constexpr,
):
    """Write the gradients, from the last position to the first.

    Programs: one for a game.

    Args:
        decay, drive, before, states: as in ``mobius_forward_kernel``.
        grad_states: (B, L, N) float32.
        grad_decay, grad_drive: (B, L, N) float32, written.
        grad_before: (B, N) float32, written.
        length, width, furthest, limit, WIDTH: as there.
    """
    game = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, WIDTH)
    inside = place < width
    first = game * length * width + place
    row = first + (length - 1) * width
    total = tl.zeros((WIDTH,), dtype=tl.float32)
    for nth in range(length):
        total += tl.load(grad_states + row, mask=inside, other=0.0)
        a = tl.load(decay + row, mask=inside, other=0.0)
        b = tl.load(drive + row, mask=inside, other=0.0)
        # The point before this position; before the first one it is the game's.
        of_states = tl.where(nth < length - 1, width, 0)
        point = tl.load(states + row - width, mask=place < of_states, other=0.0)
        of_game = before + game * width + place
        point += tl.load(of_game, mask=place < width - of_states, other=0.0)
        # What the forward made of it.
        square = tl.sum(point * point, 0)
        back, back_slope = _artanh_over(_length(square), square)
        tangent = point * back
        scaled = a * tangent
        square = tl.sum(scaled * scaled, 0)
        onto, onto_slope = _tanh_over(_length(square), square)
        x = scaled * onto
        product, of_x, of_b = tl.sum(x * b, 0), tl.sum(x * x, 0), tl.sum(b * b, 0)
        over = 1 + 2 * product + of_x * of_b
        of_first, of_second = 1 + 2 * product + of_b, 1 - of_x
        y = (of_first * x + of_second * b) / over
        reach = _length(tl.sum(y * y, 0))
        # Drawn back, only what is across the point moves it.
        across = furthest / reach * (total - y * (tl.sum(y * total, 0) / (reach * reach)))
        grad_y = tl.where(reach > limit, across, total)
        # The Möbius sum.
        grad_over = -tl.sum(grad_y * y, 0) / over
        grad = grad_y / over
        grad_first, grad_second = tl.sum(grad * x, 0), tl.sum(grad * b, 0)
        grad_product = 2 * grad_first + 2 * grad_over
        grad_of_b = grad_first + grad_over * of_x
        grad_of_x = grad_over * of_b - grad_second
        grad_x = of_first * grad + grad_product * b + 2 * grad_of_x * x
        grad_b = of_second * grad + grad_product * x + 2 * grad_of_b * b
        # The two maps at the origin, and the decay between them.
        grad_scaled = onto * grad_x + onto_slope * tl.sum(grad_x * scaled, 0) * scaled
        grad_tangent = a * grad_scaled
        total = back * grad_tangent + back_slope * tl.sum(grad_tangent * point, 0) * point
        tl.store(grad_decay + row, grad_scaled * tangent, mask=inside)
        tl.store(grad_drive + row, grad_b, mask=inside)
        row -= width
    tl.store(grad_before + game * width + place, total, mask=inside)
