"""Gradients of the selective scan, the same bits each time; beside ``selective_scan``.

Shapes: B games, L positions, D channels, N states of a channel; P programs and S splits of the
channels, see below. Nothing but the inputs was saved, so a warp first walks forward through a
game, however short, and keeps in scratch memory the states before every chunk of STEPS positions.
Then it takes the chunks in reverse: it recomputes a chunk's states and decays into registers and
walks back over them. The grid is as large as the GPU has room for, and a program goes from game to
game and uses its scratch memory again and again. Writing it is what the way forward waits for;
where the rows are bfloat16 the kept states are too, half as much, and what follows from them is
computed in float32.

Two warps a scheduler hide no wait for memory, and registers for more there are not. So what a
chunk reads is on its way while the chunk before is computed, and converted only when that is done;
and nothing that is added to is read: the memory adds, without an answer.

No sum depends on timing. A program alone adds its own games to its part of each weight's gradient
and its own blocks of channels to the gradients of B and C, in order; the parts, P of the former
and S of the latter, are added in order afterwards.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.arithmetic import LN_2, LOG2_E, inside, sigmoid, softplus
from tessera.model.kernels.rows import (
    join_rows,
    load_rows,
    load_step_sizes,
    load_tile,
    split_tile,
    step_sizes,
    store_tile,
)

FIRST_STEPS = tl.constexpr(8)  # positions whose inputs are loaded together on the way forward


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
    pads,
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
    grad_z_row,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
    STEPS: tl.constexpr,
    HAS_STATE: tl.constexpr,
    HAS_PADS: tl.constexpr,
    HAS_GRAD_LAST: tl.constexpr,
):
    """Write the gradients of everything that ``selective_scan`` reads.

    Programs: (P, S). Program (p, s) takes the games p, p + P, … and, in each of them, the s-th
    share of the blocks of CHANNELS channels.

    Args:
        x … pads: as in ``scan_forward_kernel``.
        grad_y: (B, L, D), any float dtype of at most 32 bits.
        grad_last: (B, D, N) float32, contiguous, read if HAS_GRAD_LAST.
        grad_x, grad_dt: (B, L, D), contiguous, written; grad_dt may be dt itself.
        grad_z: (B, L, D), written; its rows lie grad_z_row apart, games follow one another.
        grad_state: (B, D, N) float32, contiguous, written if HAS_STATE.
        parts_A: (P, D, N) float32, added to; so are parts_D and parts_bias, (P, D).
        parts_BC: (S, B, L, 2, N) float32, added to: the gradients of B and of C.
        scratch: float32 or bfloat16, for each program as many states of a block as there are
            chunks, those of L rounded up to a multiple of FIRST_STEPS.
        grad_game, grad_row: the strides of ``grad_y``.
        STEPS: positions of a chunk; a power of two from 2 to FIRST_STEPS.
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
    pair = tl.arange(0, 2)
    # So that a thread stores four states of a channel at once, whatever the scratch memory's dtype.
    group: tl.constexpr = STATES if STATES < 4 else 4
    cell = (index // group * (group * CHANNELS) + index % group)[:, None] + lane[None, :] * group
    room = tl.cdiv(length, FIRST_STEPS) * (FIRST_STEPS // STEPS) * (STATES * CHANNELS)
    scratch += (program * num_splits + split).to(tl.int64) * room

    for item in range(program, num_games, num_programs):
        game = tl.cast(item, tl.int64)
        first = game * length * num_channels
        grad_x_rows = grad_x + first
        grad_dt_rows = grad_dt + first
        grad_z_rows = grad_z + game * length * grad_z_row
        x_rows = x + game * x_game
        dt_rows = dt + game * dt_game
        B_rows = B + game * B_game
        C_rows = C + game * C_game
        z_rows = z + game * z_game
        pads_row = pads + game * length
        grad_rows = grad_y + game * grad_game
        parts_rows = parts_BC + (split.to(tl.int64) * num_games + game) * length * (2 * num_states)
        for block in range(first_block, tl.minimum(first_block + share, blocks)):
            channel = block * CHANNELS + lane
            is_channel = channel < num_channels
            is_element = is_channel[None, :] & is_state[:, None]
            element = channel[None, :] * num_states + index[:, None]
            game_element = game * num_channels * num_states + element
            rate = tl.load(A + element, mask=is_element, other=0.0) * LOG2_E
            skip = tl.load(D + channel, mask=is_channel, other=0.0)[None, :]
            bias = tl.load(dt_bias + channel, mask=is_channel, other=0.0)[None, :]
            held = tl.zeros([STATES, CHANNELS], tl.float32)
            if HAS_STATE:
                held = tl.load(state + game_element, mask=is_element, other=0.0)

            next_x = load_tile(x_rows, x_row, 0, channel, num_channels, length, FIRST_STEPS)
            next_dt = load_step_sizes(
                dt_rows, dt_row, pads_row, 0, channel, num_channels, length, FIRST_STEPS, HAS_PADS
            )
            next_B = load_rows(B_rows, B_row, 0, index, num_states, length, FIRST_STEPS)
            x_now, raw = next_x.to(tl.float32), step_sizes(next_dt, HAS_PADS)
            B_now = next_B
            for start in range(0, length, FIRST_STEPS):
                at = start + FIRST_STEPS
                next_x = load_tile(x_rows, x_row, at, channel, num_channels, length, FIRST_STEPS)
                next_dt = load_step_sizes(
                    dt_rows,
                    dt_row,
                    pads_row,
                    at,
                    channel,
                    num_channels,
                    length,
                    FIRST_STEPS,
                    HAS_PADS,
                )
                next_B = load_rows(B_rows, B_row, at, index, num_states, length, FIRST_STEPS)
                delta = softplus(raw + bias)
                deltas = split_tile(delta, FIRST_STEPS)
                inputs = split_tile(delta * x_now, FIRST_STEPS)
                for step in tl.static_range(FIRST_STEPS):
                    if step % STEPS == 0:
                        chunk = start // STEPS + step // STEPS
                        tl.store(
                            scratch + chunk * (STATES * CHANNELS) + cell,
                            held.to(scratch.dtype.element_ty),
                        )
                    decay = tl.exp2(deltas[step][None, :] * rate)
                    entered = inputs[step][None, :] * B_now[step].to(tl.float32)[:, None]
                    held = decay * held + entered
                x_now, raw = next_x.to(tl.float32), step_sizes(next_dt, HAS_PADS)
                B_now = next_B
            # One thread may read below what another wrote.
            tl.debug_barrier()

            grad_held = tl.zeros([STATES, CHANNELS], tl.float32)
            if HAS_GRAD_LAST:
                grad_held = tl.load(grad_last + game_element, mask=is_element, other=0.0)
            sum_A = tl.zeros([STATES, CHANNELS], tl.float32)
            sum_D = tl.zeros([STEPS, CHANNELS], tl.float32)
            sum_bias = tl.zeros([STEPS, CHANNELS], tl.float32)
            at = (num_chunks - 1) * STEPS
            next_state = tl.load(scratch + (num_chunks - 1) * (STATES * CHANNELS) + cell)
            next_x = load_tile(x_rows, x_row, at, channel, num_channels, length, STEPS)
            next_z = load_tile(z_rows, z_row, at, channel, num_channels, length, STEPS)
            next_grad = load_tile(grad_rows, grad_row, at, channel, num_channels, length, STEPS)
            next_dt = load_step_sizes(
                dt_rows, dt_row, pads_row, at, channel, num_channels, length, STEPS, HAS_PADS
            )
            next_B = load_rows(B_rows, B_row, at, index, num_states, length, STEPS)
            next_C = load_rows(C_rows, C_row, at, index, num_states, length, STEPS)
            x_now, raw = next_x.to(tl.float32), step_sizes(next_dt, HAS_PADS)
            z_now, grad_now = next_z.to(tl.float32), next_grad.to(tl.float32)
            B_now, C_now = next_B, next_C
            state_now = next_state.to(tl.float32)
            for back in range(num_chunks):
                start = (num_chunks - 1 - back) * STEPS
                states = (state_now,)
                # Before the first chunk there is none: it is loaded once more, for nothing.
                at = tl.maximum(start - STEPS, 0)
                next_state = tl.load(scratch + at // STEPS * (STATES * CHANNELS) + cell)
                next_x = load_tile(x_rows, x_row, at, channel, num_channels, length, STEPS)
                next_z = load_tile(z_rows, z_row, at, channel, num_channels, length, STEPS)
                next_grad = load_tile(grad_rows, grad_row, at, channel, num_channels, length, STEPS)
                next_dt = load_step_sizes(
                    dt_rows, dt_row, pads_row, at, channel, num_channels, length, STEPS, HAS_PADS
                )
                next_B = load_rows(B_rows, B_row, at, index, num_states, length, STEPS)
                next_C = load_rows(C_rows, C_row, at, index, num_states, length, STEPS)

                # The gate: y = read * z * gate; and the readout: read = C · state + D x.
                delta = softplus(raw + bias)
                gate = sigmoid(z_now)
                grad_read = grad_now * z_now * gate
                deltas = split_tile(delta, STEPS)
                inputs = split_tile(delta * x_now, STEPS)
                grads = split_tile(grad_read, STEPS)
                decays = ()
                reads = ()
                for step in tl.static_range(STEPS):
                    decay = tl.exp2(deltas[step][None, :] * rate)
                    entered = inputs[step][None, :] * B_now[step].to(tl.float32)[:, None]
                    held = decay * states[step] + entered
                    reads += (tl.sum(held * C_now[step].to(tl.float32)[:, None], 0),)
                    states += (held,)
                    decays += (decay,)
                grads_entered = ()
                grads_exponent = ()
                for step in tl.static_range(STEPS - 1, -1, -1):
                    out_C = tl.sum(grads[step][None, :] * states[step + 1], 1)
                    grad_held += grads[step][None, :] * C_now[step].to(tl.float32)[:, None]
                    # The recurrence: state = exp(Δ A) before + Δ x B.
                    out_B = tl.sum(grad_held * inputs[step][None, :], 1)
                    entered = tl.sum(grad_held * B_now[step].to(tl.float32)[:, None], 0)
                    grad_held = grad_held * decays[step]
                    grad_exponent = grad_held * states[step]
                    sum_A += grad_exponent * deltas[step][None, :]
                    exponent = tl.sum(grad_exponent * rate, 0)
                    # Triton knows no starred tuple.
                    grads_entered = (entered,) + grads_entered  # noqa: RUF005
                    grads_exponent = (exponent,) + grads_exponent  # noqa: RUF005
                    place = (start + step) * 2 * num_states + pair[None, :] * num_states
                    tl.atomic_add(
                        parts_rows + place + index[:, None],
                        tl.join(out_B, out_C),
                        mask=inside(index, num_states, start + step, length)[:, None],
                        sem="relaxed",
                    )
                read = join_rows(reads, STEPS) + skip * x_now
                grad_entered = join_rows(grads_entered, STEPS)
                grad_delta = join_rows(grads_exponent, STEPS) * LN_2 + x_now * grad_entered
                out_z = grad_now * read * gate * (1 + z_now * (1 - gate))
                out_x = grad_read * skip + delta * grad_entered
                out_dt = grad_delta * sigmoid(raw + bias)
                sum_D += grad_read * x_now
                sum_bias += out_dt
                store_tile(
                    grad_z_rows, grad_z_row, start, channel, num_channels, length, out_z, STEPS
                )
                store_tile(
                    grad_x_rows, num_channels, start, channel, num_channels, length, out_x, STEPS
                )
                store_tile(
                    grad_dt_rows, num_channels, start, channel, num_channels, length, out_dt, STEPS
                )
                x_now, raw = next_x.to(tl.float32), step_sizes(next_dt, HAS_PADS)
                z_now, grad_now = next_z.to(tl.float32), next_grad.to(tl.float32)
                B_now, C_now = next_B, next_C
                state_now = next_state.to(tl.float32)

            if HAS_STATE:
                tl.store(grad_state + game_element, grad_held, mask=is_element)
            own = program.to(tl.int64) * num_channels
            place = parts_A + own * num_states + element
            tl.atomic_add(place, sum_A, mask=is_element, sem="relaxed")
            sum_D = tl.sum(sum_D, 0)
            sum_bias = tl.sum(sum_bias, 0)
            tl.atomic_add(parts_D + own + channel, sum_D, mask=is_channel, sem="relaxed")
            tl.atomic_add(parts_bias + own + channel, sum_bias, mask=is_channel, sem="relaxed")
            # The next block writes over what one thread may still be reading.
            tl.debug_barrier()
