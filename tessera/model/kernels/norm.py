"""The sum of two tensors of vectors and its norm, and their gradients; beside ``model.norm``.

Shapes: T vectors of H elements; P programs. A program takes ROWS vectors at a time, and nothing of
them passes through memory twice. The gradient of the weight is summed over the vectors of a
program, and over programs afterwards: in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_rows(rows, place, is_there, WHOLE: tl.constexpr):
    """Elements as float32, 0 where there are none; WHOLE promises that there always are."""
    values = tl.load(rows + place) if WHOLE else tl.load(rows + place, mask=is_there, other=0.0)
    return values.to(tl.float32)


@triton.jit
def _inverse_root(total, num_columns, eps):
    """1 / the root of the mean square of each vector (ROWS, 1)."""
    square = tl.sum(total * total, 1) / num_columns
    return (1 / tl.sqrt_rn(square + eps))[:, None]


@triton.jit(do_not_specialize=["num_rows"])
def norm_forward_kernel(
    hidden,
    added,
    weight,
    total,
    normed,
    num_rows,
    num_columns,
    eps,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    WHOLE: tl.constexpr,
    HAS_ADDED: tl.constexpr,
):
    """Write the results of ``tessera.model.norm.add_and_normalize``.

    Program p takes the blocks p, p + P, … of ROWS vectors. All tensors are contiguous and, but for
    the weight, of any float dtype of at most 32 bits.

    Args:
        hidden: (T, H).
        added: (T, H), read if HAS_ADDED.
        weight: (H,) float32.
        total: (T, H), written if HAS_ADDED.
        normed: (T, H), written: of the sum as ``total`` holds it.
        num_rows, num_columns: T, H.
        eps: added to the mean square.
        WIDTH: a power of two, at least H.
        WHOLE: T is a multiple of ROWS, and WIDTH is H.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    weights = tl.load(weight + column, mask=is_column, other=0.0)[None, :]
    for block in range(tl.program_id(0), tl.cdiv(num_rows, ROWS), tl.num_programs(0)):
        row = block * ROWS + tl.arange(0, ROWS)
        is_there = (row < num_rows)[:, None] & is_column[None, :]
        place = row.to(tl.int64)[:, None] * num_columns + column[None, :]
        values = _load_rows(hidden, place, is_there, WHOLE)
        if HAS_ADDED:
            values += _load_rows(added, place, is_there, WHOLE)
            rounded = values.to(total.dtype.element_ty)
            tl.store(total + place, rounded, mask=None if WHOLE else is_there)
            values = rounded.to(tl.float32)
        out = values * _inverse_root(values, num_columns, eps) * weights
        out = out.to(normed.dtype.element_ty)
        tl.store(normed + place, out, mask=None if WHOLE else is_there)


@triton.jit(do_not_specialize=["num_rows"])
def norm_backward_kernel(
    total,
    weight,
    grad_total,
    grad_normed,
    grad_hidden,
    grad_added,
    parts_weight,
    num_rows,
    num_columns,
    eps,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    WHOLE: tl.constexpr,
    HAS_ADDED: tl.constexpr,
    HAS_GRAD_TOTAL: tl.constexpr,
):
    """Write the gradients of everything that ``norm_forward_kernel`` reads.

    Programs as there.

    Args:
        total: (T, H), the sum, or ``hidden`` if nothing was added.
        weight … eps: as in ``norm_forward_kernel``.
        grad_total: (T, H), read if HAS_GRAD_TOTAL.
        grad_normed: (T, H).
        grad_hidden: (T, H), written; so is grad_added if HAS_ADDED, the same in another dtype.
        parts_weight: (P, H) float32, written.
    """
    column = tl.arange(0, WIDTH)
    is_column = column < num_columns
    weights = tl.load(weight + column, mask=is_column, other=0.0)[None, :]
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(num_rows, ROWS), tl.num_programs(0)):
        row = block * ROWS + tl.arange(0, ROWS)
        is_there = (row < num_rows)[:, None] & is_column[None, :]
        place = row.to(tl.int64)[:, None] * num_columns + column[None, :]
        values = _load_rows(total, place, is_there, WHOLE)
        grads = _load_rows(grad_normed, place, is_there, WHOLE)
        root = _inverse_root(values, num_columns, eps)
        values *= root
        sums += grads * values
        grads *= weights
        along = (tl.sum(grads * values, 1) / num_columns)[:, None]
        out = (grads - values * along) * root
        if HAS_GRAD_TOTAL:
            out += _load_rows(grad_total, place, is_there, WHOLE)
        mask = None if WHOLE else is_there
        tl.store(grad_hidden + place, out.to(grad_hidden.dtype.element_ty), mask=mask)
        if HAS_ADDED:
            tl.store(grad_added + place, out.to(grad_added.dtype.element_ty), mask=mask)
    own = tl.program_id(0).to(tl.int64) * num_columns
    tl.store(parts_weight + own + column, tl.sum(sums, 0), mask=is_column)
