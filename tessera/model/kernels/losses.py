"""The cross-entropy of each target and its gradient; beside ``tessera.model.heads``.

Shapes: T positions, V tokens, U elements of a row of logits, of which the first V count. A program
takes ROWS positions, one for each of its warps: nothing but the logits passes through memory.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_rows(logits, row, num_rows, num_tokens, stride, WIDTH: tl.constexpr):
    """The logits of some rows as float32, minus infinity where there is no token."""
    token = tl.arange(0, WIDTH)
    # Up to the stride: Triton knows that 16 divides it, so a thread loads 16 bytes at once.
    mask = (row < num_rows)[:, None] & (token < stride)[None, :]
    place = row.to(tl.int64)[:, None] * stride + token[None, :]
    values = tl.load(logits + place, mask=mask, other=0.0).to(tl.float32)
    return tl.where((token < num_tokens)[None, :], values, float("-inf"))


@triton.jit
def losses_forward_kernel(
    logits,
    targets,
    losses,
    normalizers,
    num_rows,
    num_tokens,
    stride,
    pad_token,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the losses and what the backward needs of each row.

    Programs: one for ROWS positions.

    Args:
        logits: (T, U), any float dtype of at most 32 bits.
        targets: (T,) int64, any values.
        losses: (T,) float32, written; 0 where the target is pad_token.
        normalizers: (T,) float32, written: the logarithm of the sum of the exponentials.
        num_rows: T.
        num_tokens: V.
        stride: U.
        WIDTH: a power of two, at least U.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    values = _load_rows(logits, row, num_rows, num_tokens, stride, WIDTH)
    largest = tl.max(values, 1)
    normalizer = largest + tl.log(tl.sum(tl.exp(values - largest[:, None]), 1))
    target = tl.load(targets + row, mask=is_row, other=0)
    # A target that is no token has no logit: its loss is NaN, and so is the gradient.
    is_token = is_row & (target >= 0) & (target < num_tokens)
    place = logits + row.to(tl.int64) * stride + target
    of_target = tl.load(place, mask=is_token, other=float("nan"))
    loss = tl.where(target == pad_token, 0.0, normalizer - of_target.to(tl.float32))
    tl.store(normalizers + row, normalizer, mask=is_row)
    tl.store(losses + row, loss, mask=is_row)


@triton.jit
def losses_backward_kernel(
    logits,
    targets,
    normalizers,
    grad_losses,
    grad_logits,
    num_rows,
    num_tokens,
    stride,
    pad_token,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the gradient of the logits, zeros beyond the first V of a row.

    Programs: one for ROWS positions.

    Args:
        logits … normalizers: as in ``losses_forward_kernel``.
        grad_losses: (T,) float32.
        grad_logits: (T, U), written.
        WIDTH: a power of two, at least U.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    token = tl.arange(0, WIDTH)
    values = _load_rows(logits, row, num_rows, num_tokens, stride, WIDTH)
    normalizer = tl.load(normalizers + row, mask=is_row, other=0.0)
    target = tl.load(targets + row, mask=is_row, other=0)
    grad = tl.load(grad_losses + row, mask=is_row, other=0.0)
    grad = tl.where((target >= 0) & (target < num_tokens), grad, float("nan"))
    grad = tl.where(target == pad_token, 0.0, grad)
    is_target = token[None, :] == target[:, None]
    out = (tl.exp(values - normalizer[:, None]) - is_target.to(tl.float32)) * grad[:, None]
    place = row.to(tl.int64)[:, None] * stride + token[None, :]
    mask = is_row[:, None] & (token < stride)[None, :]
    tl.store(grad_logits + place, out.to(grad_logits.dtype.element_ty), mask=mask)
