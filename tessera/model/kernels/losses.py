"""The cross-entropy of each target and its gradient; beside ``tessera.model.losses``.

Shapes: T positions, V tokens, U elements of a row of logits, of which the first V count. A program
takes one position, in one warp: nothing but the logits passes through memory.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def losses_forward_kernel(
    logits, targets, losses, normalizers, num_tokens, stride, pad_token, WIDTH: tl.constexpr
):
    """Write the losses and what the backward needs of each row.

    Programs: T.

    Args:
        logits: (T, U), any float dtype of at most 32 bits.
        targets: (T,) int64.
        losses: (T,) float32, written; 0 where the target is pad_token.
        normalizers: (T,) float32, written: the logarithm of the sum of the exponentials.
        num_tokens: V.
        stride: U.
        WIDTH: a power of two, at least V.
    """
    row = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, WIDTH)
    values = tl.load(logits + row * stride + token, mask=token < num_tokens, other=float("-inf"))
    values = values.to(tl.float32)
    largest = tl.max(values, 0)
    normalizer = largest + tl.log(tl.sum(tl.exp(values - largest), 0))
    target = tl.load(targets + row)
    of_target = tl.load(logits + row * stride + target).to(tl.float32)
    tl.store(normalizers + row, normalizer)
    tl.store(losses + row, tl.where(target == pad_token, 0.0, normalizer - of_target))


@triton.jit
def losses_backward_kernel(
    logits,
    targets,
    normalizers,
    grad_losses,
    grad_logits,
    num_tokens,
    stride,
    pad_token,
    WIDTH: tl.constexpr,
):
    """Write the gradient of the logits, zeros beyond the first V of a row.

    Programs: T.

    Args:
        logits … normalizers: as in ``losses_forward_kernel``.
        grad_losses: (T,) float32.
        grad_logits: (T, U), written.
        WIDTH: a power of two, at least U.
    """
    row = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, WIDTH)
    values = tl.load(logits + row * stride + token, mask=token < num_tokens, other=float("-inf"))
    probabilities = tl.exp(values.to(tl.float32) - tl.load(normalizers + row))
    target = tl.load(targets + row)
    scale = tl.where(target == pad_token, 0.0, tl.load(grad_losses + row))
    out = (probabilities - (token == target).to(tl.float32)) * scale
    place = grad_logits + row * stride + token
    tl.store(place, out.to(grad_logits.dtype.element_ty), mask=token < stride)
