"""What stands between the convolutions over boards, and its gradients; see ``model.board_tower``.

Shapes: R rows, one for each point of all boards; T boards, P points of a board, C channels, S
squeezed channels; Q programs. Nothing of a map passes through a kernel's memory twice. Gradients
of weights are summed over what a program does, and over programs afterwards: in a fixed order.

All tensors are contiguous. Maps and what goes with them are of any float dtype of at most 32 bits,
weights too; sums are float32. ROWS times WIDTH elements are done at a time; WIDTH is a power of
two, at least C.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(rows, place, is_there):
    """Elements as float32, 0 where there are none."""
    return tl.load(rows + place, mask=is_there, other=0.0).to(tl.float32)


@triton.jit
def _store(rows, place, values, is_there):
    tl.store(rows + place, values.to(rows.dtype.element_ty), mask=is_there)


@triton.jit(do_not_specialize=["num_rows"])
def layer_backward_kernel(
    grad,
    other_grad,
    grad_squeezed,
    squeeze,
    found,
    out,
    parts,
    parts_squeeze,
    parts_squeezed,
    num_rows,
    num_columns,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    NUM_GRADS: tl.constexpr,
    NUM_SQUEEZED: tl.constexpr,
    SQUEEZED: tl.constexpr,
    AS_FLOAT32: tl.constexpr,
):
    """Write the gradient of what a layer's ReLU was given, and those of the bias and a squeeze.

    Program q takes the blocks q, q + Q, … of ROWS rows.

    Args:
        grad, other_grad: (R, C), of the layer's output; the first NUM_GRADS of them are read.
        grad_squeezed: (R, S), read if S is not 0: of the output, squeezed.
        squeeze: (S, C), by which it was, read if S is not 0; of the dtype of ``found``.
        found: (R, C), the output.
        out: (R, C), written.
        parts: (Q, C), written: sums of ``out``.
        parts_squeeze, parts_squeezed: (Q, S, C) and (Q, S), written if S is not 0: the gradient of
            ``squeeze``, and the sums of ``grad_squeezed``.
        num_rows, num_columns: R, C.
        NUM_SQUEEZED: S; 0 if nothing was squeezed.
        SQUEEZED: a power of two, at least S and 16.
        AS_FLOAT32: whether products are of float32 whatever the dtype.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    if NUM_SQUEEZED > 0:
        channel = tl.arange(0, SQUEEZED)
        is_channel = channel < NUM_SQUEEZED
        at_weight = channel[:, None] * num_columns + column[None, :]
        is_weight = is_channel[:, None] & is_column[None, :]
        weights = tl.load(squeeze + at_weight, mask=is_weight, other=0.0)
        if AS_FLOAT32:
            weights = weights.to(tl.float32)
        squeeze_sums = tl.zeros([SQUEEZED, WIDTH], tl.float32)
        squeezed_sums = tl.zeros([ROWS, SQUEEZED], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(num_rows, ROWS), tl.num_programs(0)):
        row = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        is_row = row < num_rows
        is_there = is_row[:, None] & is_column[None, :]
        place = row[:, None] * num_columns + column[None, :]
        values = tl.load(found + place, mask=is_there, other=0.0)
        grads = tl.zeros([ROWS, WIDTH], tl.float32)
        if NUM_GRADS > 0:
            grads += _load(grad, place, is_there)
        if NUM_GRADS > 1:
            grads += _load(other_grad, place, is_there)
        if NUM_SQUEEZED > 0:
            at_channel = row[:, None] * NUM_SQUEEZED + channel[None, :]
            is_squeezed = is_row[:, None] & is_channel[None, :]
            own = tl.load(grad_squeezed + at_channel, mask=is_squeezed, other=0.0)
            squeezed_sums += own.to(tl.float32)
            factors = values
            if AS_FLOAT32:
                own = own.to(tl.float32)
                factors = values.to(tl.float32)
            grads += tl.dot(own, weights, input_precision="ieee")
            squeeze_sums += tl.dot(tl.trans(own), factors, input_precision="ieee")
        grads = tl.where(values > 0, grads, 0.0)
        sums += grads
        _store(out, place, grads, is_there)
    program = tl.program_id(0).to(tl.int64)
    tl.store(parts + program * num_columns + column, tl.sum(sums, 0), mask=is_column)
    if NUM_SQUEEZED > 0:
        first = program * NUM_SQUEEZED
        tl.store(parts_squeeze + first * num_columns + at_weight, squeeze_sums, mask=is_weight)
        tl.store(parts_squeezed + first + channel, tl.sum(squeezed_sums, 0), mask=is_channel)


@triton.jit(do_not_specialize=["num_boards"])
def meet_forward_kernel(
    board_map,
    added,
    out,
    num_boards,
    num_points,
    num_columns,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the ReLU of a map to which a vector is added, the same at all points of a board.

    Program q takes the boards q, q + Q, …

    Args:
        board_map: (T, P, C).
        added: (T, C).
        out: (T, P, C), written.
        num_boards, num_points, num_columns: T, P, C.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    for board in range(tl.program_id(0), num_boards, tl.num_programs(0)):
        vector = _load(added, board * num_columns + column, is_column)[None, :]
        for start in range(0, num_points, ROWS):
            point = start + tl.arange(0, ROWS)
            is_there = (point < num_points)[:, None] & is_column[None, :]
            row = (board * num_points + point).to(tl.int64)
            place = row[:, None] * num_columns + column[None, :]
            values = _load(board_map, place, is_there) + vector
            _store(out, place, tl.maximum(values, 0.0), is_there)


@triton.jit(do_not_specialize=["num_boards"])
def meet_backward_kernel(
    grad,
    found,
    grad_map,
    grad_added,
    num_boards,
    num_points,
    num_columns,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the gradients of what ``meet_forward_kernel`` reads.

    Programs as there.

    Args:
        grad: (T, P, C), of what came out.
        found: (T, P, C), what came out.
        grad_map: (T, P, C), written.
        grad_added: (T, C), written.
        num_boards, num_points, num_columns: T, P, C.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    for board in range(tl.program_id(0), num_boards, tl.num_programs(0)):
        sums = tl.zeros([ROWS, WIDTH], tl.float32)
        for start in range(0, num_points, ROWS):
            point = start + tl.arange(0, ROWS)
            is_there = (point < num_points)[:, None] & is_column[None, :]
            row = (board * num_points + point).to(tl.int64)
            place = row[:, None] * num_columns + column[None, :]
            grads = _load(grad, place, is_there)
            grads = tl.where(_load(found, place, is_there) > 0, grads, 0.0)
            sums += grads
            _store(grad_map, place, grads, is_there)
        _store(grad_added, board * num_columns + column, tl.sum(sums, 0), is_column)


@triton.jit(do_not_specialize=["num_boards"])
def points_forward_kernel(
    found,
    weight,
    bias,
    logits,
    means,
    num_boards,
    num_points,
    num_columns,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write each point's logit, a product of its channels, and the mean over a board's points.

    Program q takes the boards q, q + Q, …

    Args:
        found: (T, P, C).
        weight: (C,).
        bias: (1,).
        logits: (T, P), written.
        means: (T, C), written.
        num_boards, num_points, num_columns: T, P, C.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    weights = _load(weight, column, is_column)[None, :]
    offset = tl.load(bias).to(tl.float32)
    for board in range(tl.program_id(0), num_boards, tl.num_programs(0)):
        sums = tl.zeros([ROWS, WIDTH], tl.float32)
        for start in range(0, num_points, ROWS):
            point = start + tl.arange(0, ROWS)
            is_point = point < num_points
            is_there = is_point[:, None] & is_column[None, :]
            row = (board * num_points + point).to(tl.int64)
            values = _load(found, row[:, None] * num_columns + column[None, :], is_there)
            _store(logits, row, tl.sum(values * weights, 1) + offset, is_point)
            sums += values
        mean = tl.sum(sums, 0) / num_points
        _store(means, board * num_columns + column, mean, is_column)


@triton.jit(do_not_specialize=["num_boards"])
def points_backward_kernel(
    grad_logits,
    grad_means,
    weight,
    found,
    out,
    parts,
    parts_weight,
    parts_bias,
    num_boards,
    num_points,
    num_columns,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the gradient of what the ReLU before ``points_forward_kernel`` was given, and weights'.

    Programs as there.

    Args:
        grad_logits, grad_means: (T, P) and (T, C).
        weight, found: as in ``points_forward_kernel``.
        out: (T, P, C), written.
        parts: (Q, C), written: sums of ``out``, which is the gradient of a bias before the ReLU.
        parts_weight, parts_bias: (Q, C) and (Q,), written.
        num_boards, num_points, num_columns: T, P, C.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    weights = _load(weight, column, is_column)[None, :]
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    weight_sums = tl.zeros([ROWS, WIDTH], tl.float32)
    bias_sums = tl.zeros([ROWS], tl.float32)
    for board in range(tl.program_id(0), num_boards, tl.num_programs(0)):
        shared = _load(grad_means, board * num_columns + column, is_column) / num_points
        for start in range(0, num_points, ROWS):
            point = start + tl.arange(0, ROWS)
            is_point = point < num_points
            is_there = is_point[:, None] & is_column[None, :]
            row = (board * num_points + point).to(tl.int64)
            place = row[:, None] * num_columns + column[None, :]
            values = _load(found, place, is_there)
            own = _load(grad_logits, row, is_point)
            grads = own[:, None] * weights + shared[None, :]
            grads = tl.where(values > 0, grads, 0.0)
            sums += grads
            weight_sums += own[:, None] * values
            bias_sums += own
            _store(out, place, grads, is_there)
    program = tl.program_id(0).to(tl.int64)
    tl.store(parts + program * num_columns + column, tl.sum(sums, 0), mask=is_column)
    total = tl.sum(weight_sums, 0)
    tl.store(parts_weight + program * num_columns + column, total, mask=is_column)
    tl.store(parts_bias + program, tl.sum(bias_sums, 0))
