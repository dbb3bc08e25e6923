"""The selective scan, one warp for each game and block of channels; beside ``tessera.model.scan``.

Shapes: B games, L positions, D channels, N states of a channel. A warp holds the states of its
channels in registers and walks through the game; with two million (game, channel) pairs in a batch
nothing is gained by splitting time. Triton lays a tile (states, channels) of 16 × 32 over the warp
so that a thread has four states of four channels: sums over either cost few shuffles.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.arithmetic import FROZEN, LOG2_E, inside, load_float, sigmoid, softplus


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
    WHOLE: tl.constexpr,
    HAS_STATE: tl.constexpr,
):
    """Write the gated output and the last state; see ``tessera.model.scan.selective_scan``.

    Programs: one for each game and block of CHANNELS channels, the blocks of a game side by side.

    Args:
        x, dt, z: (B, L, D) in any float dtype of at most 32 bits; so are B and C, (B, L, N).
        A: (D, N) float32, contiguous.
        D, dt_bias: (D,) float32.
        state: (B, D, N) float32, contiguous, read if HAS_STATE.
        y: (B, L, D), contiguous, written.
        last: (B, D, N) float32, contiguous, written.
        x_game, x_row, …: elements from one game and one position to the next.
        STATES: ``num_states`` rounded up to a power of two.
        STEPS: positions whose inputs are loaded together, before the first of them is used.
        WHOLE: L is a multiple of STEPS, D one of CHANNELS, and N is STATES.
    """
    blocks = tl.cdiv(num_channels, CHANNELS)
    program = tl.program_id(0)
    game = (program // blocks).to(tl.int64)
    channel = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, STATES)
    is_channel = channel < num_channels
    is_state = index < num_states
    is_element = is_channel[None, :] & is_state[:, None]
    element = channel[None, :] * num_states + index[:, None]

    rate = load_float(A + element, is_element, 0.0, WHOLE) * LOG2_E
    skip = load_float(D + channel, is_channel, 0.0, WHOLE)
    bias = load_float(dt_bias + channel, is_channel, 0.0, WHOLE)
    held = tl.zeros([STATES, CHANNELS], tl.float32)
    if HAS_STATE:
        before = state + game * num_channels * num_states
        held = load_float(before + element, is_element, 0.0, WHOLE)
    x += game * x_game
    dt += game * dt_game
    B += game * B_game
    C += game * C_game
    z += game * z_game
    y += game * length * num_channels

    for start in range(0, length, STEPS):
        loads = ()
        for step in tl.static_range(STEPS):
            at = start + step
            at_channel = inside(channel, num_channels, at, length)
            at_state = inside(index, num_states, at, length)
            loads += (
                (
                    load_float(x + at * x_row + channel, at_channel, 0.0, WHOLE),
                    # A position beyond the end leaves the state as it was.
                    load_float(dt + at * dt_row + channel, at_channel, FROZEN, WHOLE),
                    load_float(z + at * z_row + channel, at_channel, 0.0, WHOLE),
                    load_float(B + at * B_row + index, at_state, 0.0, WHOLE),
                    load_float(C + at * C_row + index, at_state, 0.0, WHOLE),
                ),
            )
        for step in tl.static_range(STEPS):
            at = start + step
            x_now, raw, z_now, B_now, C_now = loads[step]
            delta = softplus(raw + bias)
            decay = tl.exp2(delta[None, :] * rate)
            held = decay * held + (delta * x_now)[None, :] * B_now[:, None]
            read = tl.sum(held * C_now[:, None], 0) + skip * x_now
            out = (read * (z_now * sigmoid(z_now))).to(y.dtype.element_ty)
            if WHOLE:
                tl.store(y + at * num_channels + channel, out)
            else:
                mask = inside(channel, num_channels, at, length)
                tl.store(y + at * num_channels + channel, out, mask=mask)

    tl.store(last + game * num_channels * num_states + element, held, mask=is_element)
