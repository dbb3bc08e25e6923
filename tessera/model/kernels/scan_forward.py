"""The selective scan, one warp for each game and block of channels; beside ``selective_scan``.

Shapes: B games, L positions, D channels, N states of a channel. A warp holds the states of its
channels in registers and walks through the game; with two million (game, channel) pairs in a batch
nothing is gained by splitting time. Triton lays a tile (states, channels) of 16 × 32 over the warp
so that a thread has four states of four channels: sums over either cost few shuffles. The inputs of
the next STEPS positions are on their way while these are computed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.arithmetic import LOG2_E, sigmoid, softplus
from tessera.model.kernels.rows import (
    join_rows,
    load_rows,
    load_step_sizes,
    load_tile,
    split_tile,
    step_sizes,
    store_tile,
)


@triton.jit(do_not_specialize=["length"])
def scan_forward_kernel(
    x,
    dt,
    A,
    B,
    C,
    D,
    z,
    dt_bias,
    state,
    pads,
    y,
    last,
    length,
    num_channels,
    num_states,
    x_game,
    x_row,
    dt_game,
    dt_row,
    B_game,
    B_row,
    C_game,
    C_row,
    z_game,
    z_row,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
    STEPS: tl.constexpr,
    HAS_STATE: tl.constexpr,
    HAS_PADS: tl.constexpr,
):
    """Write the gated output and the last state; see ``selective_scan``.

    Programs: one for each game and block of CHANNELS channels, the blocks of a game side by side.

    Args:
        x, dt, z: (B, L, D) in any float dtype of at most 32 bits; so are B and C, (B, L, N).
        A: (D, N) float32, contiguous.
        D, dt_bias: (D,) float32.
        state: (B, D, N) float32, contiguous, read if HAS_STATE.
        pads: (B, L) one byte, contiguous, not 0 where the state freezes, read if HAS_PADS.
        y: (B, L, D), contiguous, written.
        last: (B, D, N) float32, contiguous, written.
        x_game, x_row, …: elements from one game and one position to the next.
        STATES: ``num_states`` rounded up to a power of two.
        STEPS: positions that are loaded together; a power of two from 2 to 8.
    """
    blocks = tl.cdiv(num_channels, CHANNELS)
    program = tl.program_id(0)
    game = (program // blocks).to(tl.int64)
    channel = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, STATES)
    is_channel = channel < num_channels
    is_element = is_channel[None, :] & (index < num_states)[:, None]
    element = channel[None, :] * num_states + index[:, None]

    rate = tl.load(A + element, mask=is_element, other=0.0) * LOG2_E
    skip = tl.load(D + channel, mask=is_channel, other=0.0)[None, :]
    bias = tl.load(dt_bias + channel, mask=is_channel, other=0.0)[None, :]
    held = tl.zeros([STATES, CHANNELS], tl.float32)
    if HAS_STATE:
        before = state + game * num_channels * num_states
        held = tl.load(before + element, mask=is_element, other=0.0)
    x += game * x_game
    dt += game * dt_game
    B += game * B_game
    C += game * C_game
    z += game * z_game
    y += game * length * num_channels
    pads += game * length

    next_x = load_tile(x, x_row, 0, channel, num_channels, length, STEPS)
    next_z = load_tile(z, z_row, 0, channel, num_channels, length, STEPS)
    next_dt = load_step_sizes(dt, dt_row, pads, 0, channel, num_channels, length, STEPS, HAS_PADS)
    next_B = load_rows(B, B_row, 0, index, num_states, length, STEPS)
    next_C = load_rows(C, C_row, 0, index, num_states, length, STEPS)
    x_now, z_now = next_x.to(tl.float32), next_z.to(tl.float32)
    raw, B_now, C_now = step_sizes(next_dt, HAS_PADS), next_B, next_C
    for start in range(0, length, STEPS):
        at = start + STEPS
        next_x = load_tile(x, x_row, at, channel, num_channels, length, STEPS)
        next_z = load_tile(z, z_row, at, channel, num_channels, length, STEPS)
        next_dt = load_step_sizes(
            dt, dt_row, pads, at, channel, num_channels, length, STEPS, HAS_PADS
        )
        next_B = load_rows(B, B_row, at, index, num_states, length, STEPS)
        next_C = load_rows(C, C_row, at, index, num_states, length, STEPS)
        delta = softplus(raw + bias)
        deltas = split_tile(delta, STEPS)
        inputs = split_tile(delta * x_now, STEPS)
        reads = ()
        for step in tl.static_range(STEPS):
            decay = tl.exp2(deltas[step][None, :] * rate)
            entered = inputs[step][None, :] * B_now[step].to(tl.float32)[:, None]
            held = decay * held + entered
            reads += (tl.sum(held * C_now[step].to(tl.float32)[:, None], 0),)
        read = join_rows(reads, STEPS) + skip * x_now
        out = read * (z_now * sigmoid(z_now))
        store_tile(y, num_channels, start, channel, num_channels, length, out, STEPS)
        x_now, z_now = next_x.to(tl.float32), next_z.to(tl.float32)
        raw, B_now, C_now = step_sizes(next_dt, HAS_PADS), next_B, next_C

    tl.store(last + game * num_channels * num_states + element, held, mask=is_element)
