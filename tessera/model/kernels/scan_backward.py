"""Gradients of the selective scan, the same bits each time; beside ``tessera.model.scan``.

Shapes: B games, L positions, D channels, N states of a channel; P programs and S splits of the
channels, see below. Nothing but the inputs was saved, so a warp first walks forward through a
game and keeps in scratch memory the states before every chunk of STEPS positions. Then it takes
the chunks in reverse: it recomputes a chunk's states and decays into registers and walks back
over them. The grid is as large as the GPU has room for, and a program goes from game to game:
its scratch memory is used again and again and stays in the GPU's cache.

No sum depends on timing. A program alone adds its own games to its part of each weight's gradient
and its own blocks of channels to the gradients of B and C, in order; the parts, P of the former
and S of the latter, are added in order afterwards.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.arithmetic import (
    FROZEN,
    LN_2,
    LOG2_E,
    inside,
    load_float,
    sigmoid,
    softplus,
)


@triton.jit
def _add(pointers, values, mask, WHOLE: tl.constexpr):
    """Add to memory that no other program touches."""
    tl.store(pointers, load_float(pointers, mask, 0.0, WHOLE) + values, mask=mask)


@triton.jit(do_not_specialize=["length", "num_games"])
def scan_backward_kernel(
    x,
    dt,
    A,
    B,
    C,
    D,
    z,
    dt_bias,
    state,
    grad_y,
    grad_last,
    grad_x,
    grad_dt,
    grad_z,
    grad_state,
    parts_A,
    parts_BC,
    parts_D,
    parts_bias,
    scratch,
    num_games,
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
    grad_game,
    grad_row,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
    STEPS: tl.constexpr,
    WHOLE: tl.constexpr,
    HAS_STATE: tl.constexpr,
    HAS_GRAD_LAST: tl.constexpr,
):
    """Write the gradients of everything that ``selective_scan`` reads.

    Programs: (P, S). Program (p, s) takes the games p, p + P, … and, in each of them, the s-th
    share of the blocks of CHANNELS channels.

    Args:
        x … state: as in ``scan_forward_kernel``.
        grad_y: (B, L, D), any float dtype of at most 32 bits.
        grad_last: (B, D, N) float32, contiguous, read if HAS_GRAD_LAST.
        grad_x, grad_dt, grad_z: (B, L, D), contiguous, written.
        grad_state: (B, D, N) float32, contiguous, written if HAS_STATE.
        parts_A: (P, D, N) float32, added to; so are parts_D and parts_bias, (P, D).
        parts_BC: (S, B, L, 2, N) float32, added to: the gradients of B and of C.
        scratch: float32, for each program as many states of a block as there are chunks.
        grad_game, grad_row: the strides of ``grad_y``.
    """
    program = tl.program_id(0)
    split = tl.program_id(1)
    num_programs = tl.num_programs(0)
    num_splits = tl.num_programs(1)
    num_chunks = tl.cdiv(length, STEPS)
    blocks = tl.cdiv(num_channels, CHANNELS)
    share = tl.cdiv(blocks, num_splits)
    first_block = split * share
    lane = tl.arange(0, CHANNELS)
    index = tl.arange(0, STATES)
    is_state = index < num_states
    column = tl.arange(0, 2 * STEPS)
    cell = lane[None, :] * STATES + index[:, None]
    scratch += (program * num_splits + split).to(tl.int64) * num_chunks * (STATES * CHANNELS)

    for item in range(program, num_games, num_programs):
        game = tl.cast(item, tl.int64)
        first = game * length * num_channels
        grad_x_rows = grad_x + first
        grad_dt_rows = grad_dt + first
        grad_z_rows = grad_z + first
        x_rows = x + game * x_game
        dt_rows = dt + game * dt_game
        B_rows = B + game * B_game
        C_rows = C + game * C_game
        z_rows = z + game * z_game
        grad_rows = grad_y + game * grad_game
        first = (split.to(tl.int64) * num_games + game) * length * num_states
        parts_rows = parts_BC + 2 * first
        for block in range(first_block, tl.minimum(first_block + share, blocks)):
            channel = block * CHANNELS + lane
            is_channel = channel < num_channels
            is_element = is_channel[None, :] & is_state[:, None]
            element = channel[None, :] * num_states + index[:, None]
            game_element = game * num_channels * num_states + element
            rate = load_float(A + element, is_element, 0.0, WHOLE) * LOG2_E
            skip = load_float(D + channel, is_channel, 0.0, WHOLE)
            bias = load_float(dt_bias + channel, is_channel, 0.0, WHOLE)
            held = tl.zeros([STATES, CHANNELS], tl.float32)
            if HAS_STATE:
                held = load_float(state + game_element, is_element, 0.0, WHOLE)

            for chunk in range(num_chunks):
                tl.store(scratch + chunk * (STATES * CHANNELS) + cell, held)
                loads = ()
                for step in tl.static_range(STEPS):
                    at = chunk * STEPS + step
                    at_channel = inside(channel, num_channels, at, length)
                    at_state = inside(index, num_states, at, length)
                    loads += (
                        (
                            load_float(x_rows + at * x_row + channel, at_channel, 0.0, WHOLE),
                            load_float(dt_rows + at * dt_row + channel, at_channel, FROZEN, WHOLE),
                            load_float(B_rows + at * B_row + index, at_state, 0.0, WHOLE),
                        ),
                    )
                for step in tl.static_range(STEPS):
                    x_now, raw, B_now = loads[step]
                    delta = softplus(raw + bias)
                    decay = tl.exp2(delta[None, :] * rate)
                    held = decay * held + (delta * x_now)[None, :] * B_now[:, None]
            # One thread may read below what another wrote here, and in the block before.
            tl.debug_barrier()

            grad_held = tl.zeros([STATES, CHANNELS], tl.float32)
            if HAS_GRAD_LAST:
                grad_held = load_float(grad_last + game_element, is_element, 0.0, WHOLE)
            sum_A = tl.zeros([STATES, CHANNELS], tl.float32)
            sum_D = tl.zeros([CHANNELS], tl.float32)
            sum_bias = tl.zeros([CHANNELS], tl.float32)
            for back in range(num_chunks):
                chunk = num_chunks - 1 - back
                # First of the loads: what is summed over states then takes the layout of rows, one
                # channel a thread, and no thread repeats another's work on it.
                states = (tl.load(scratch + chunk * (STATES * CHANNELS) + cell),)
                loads = ()
                for step in tl.static_range(STEPS):
                    at = chunk * STEPS + step
                    at_channel = inside(channel, num_channels, at, length)
                    at_state = inside(index, num_states, at, length)
                    loads += (
                        (
                            load_float(x_rows + at * x_row + channel, at_channel, 0.0, WHOLE),
                            load_float(dt_rows + at * dt_row + channel, at_channel, FROZEN, WHOLE),
                            load_float(z_rows + at * z_row + channel, at_channel, 0.0, WHOLE),
                            load_float(grad_rows + at * grad_row + channel, at_channel, 0.0, WHOLE),
                            load_float(B_rows + at * B_row + index, at_state, 0.0, WHOLE),
                            load_float(C_rows + at * C_row + index, at_state, 0.0, WHOLE),
                        ),
                    )
                sum_BC = tl.zeros([STATES, 2 * STEPS], tl.float32)
                decays = ()
                deltas = ()
                grads = ()
                for step in tl.static_range(STEPS):
                    at = chunk * STEPS + step
                    x_now, raw, z_now, grad_now, B_now, C_now = loads[step]
                    delta = softplus(raw + bias)
                    decay = tl.exp2(delta[None, :] * rate)
                    held = decay * states[step] + (delta * x_now)[None, :] * B_now[:, None]
                    states += (held,)
                    # The readout and the gate: read = C · state + D x, y = read z gate.
                    read = tl.sum(held * C_now[:, None], 0) + skip * x_now
                    gate = sigmoid(z_now)
                    grad_read = grad_now * z_now * gate
                    sum_D += grad_read * x_now
                    out_C = tl.sum(grad_read[None, :] * held, 1)
                    out_z = grad_now * read * gate * (1 + z_now * (1 - gate))
                    # Side by side the sums of a chunk fill all threads, and go out in one piece.
                    sum_BC = tl.where(column[None, :] == 2 * step + 1, out_C[:, None], sum_BC)
                    mask = is_channel
                    if not WHOLE:
                        mask = inside(channel, num_channels, at, length)
                    place = grad_z_rows + at * num_channels + channel
                    tl.store(place, out_z.to(grad_z.dtype.element_ty), mask=mask)
                    decays += (decay,)
                    deltas += (delta,)
                    grads += (grad_read,)
                for step in tl.static_range(STEPS - 1, -1, -1):
                    at = chunk * STEPS + step
                    x_now, raw, z_now, grad_now, B_now, C_now = loads[step]
                    delta = deltas[step]
                    grad_held += grads[step][None, :] * C_now[:, None]
                    # The recurrence: state = exp(Δ A) before + Δ x B.
                    out_B = tl.sum(grad_held * (delta * x_now)[None, :], 1)
                    sum_BC = tl.where(column[None, :] == 2 * step, out_B[:, None], sum_BC)
                    grad_entered = tl.sum(grad_held * B_now[:, None], 0)
                    grad_held = grad_held * decays[step]
                    grad_exponent = grad_held * states[step]
                    sum_A += grad_exponent * delta[None, :]
                    grad_delta = tl.sum(grad_exponent * rate, 0) * LN_2 + x_now * grad_entered
                    out_x = grads[step] * skip + delta * grad_entered
                    out_dt = grad_delta * sigmoid(raw + bias)
                    sum_bias += out_dt
                    mask = is_channel
                    if not WHOLE:
                        mask = inside(channel, num_channels, at, length)
                    place = at * num_channels + channel
                    tl.store(grad_x_rows + place, out_x.to(grad_x.dtype.element_ty), mask=mask)
                    tl.store(grad_dt_rows + place, out_dt.to(grad_dt.dtype.element_ty), mask=mask)
                pair = 2 * STEPS * chunk + column
                is_sum = (pair < 2 * length)[None, :] & is_state[:, None]
                _add(
                    parts_rows + pair[None, :] * num_states + index[:, None], sum_BC, is_sum, WHOLE
                )

            if HAS_STATE:
                tl.store(grad_state + game_element, grad_held, mask=is_element)
            own = program.to(tl.int64) * num_channels
            _add(parts_A + own * num_states + element, sum_A, is_element, WHOLE)
            _add(parts_D + own + channel, sum_D, is_channel, WHOLE)
            _add(parts_bias + own + channel, sum_bias, is_channel, WHOLE)
            # The next block writes over what one thread may still be reading.
            tl.debug_barrier()
