"""The cross-entropy's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: T positions, U elements of a row of logits, of which the first ``num_tokens`` count.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.losses import losses_backward_kernel, losses_forward_kernel

ROWS = 4  # programs of a single warp would be so many that starting them takes the time

_SCHEMA = "(Tensor logits, Tensor targets, int num_tokens, int pad_token"


@torch.library.custom_op(
    "tessera::losses", mutates_args=(), schema=f"{_SCHEMA}) -> (Tensor, Tensor)"
)
def losses_operator(
    logits_TU: Tensor, targets_T: Tensor, num_tokens: int, pad_token: int
) -> tuple[Tensor, Tensor]:
    """The losses of ``tessera.model.losses.plain_losses``, and what normalizes each row."""
    logits_TU, targets_T = logits_TU.contiguous(), targets_T.contiguous()
    losses_T, normalizers_T = _outputs(logits_TU)
    with current(logits_TU.device):
        losses_forward_kernel[(triton.cdiv(len(logits_TU), ROWS),)](
            logits_TU,
            targets_T,
            losses_T,
            normalizers_T,
            len(logits_TU),
            num_tokens,
            logits_TU.shape[1],
            pad_token,
            WIDTH=triton.next_power_of_2(logits_TU.shape[1]),
            ROWS=ROWS,
            num_warps=ROWS,
        )
    return losses_T, normalizers_T


@torch.library.custom_op(
    "tessera::losses_backward",
    mutates_args=(),
    schema=f"{_SCHEMA}, Tensor normalizers, Tensor grad_losses) -> Tensor",
)
def losses_backward_operator(
    logits_TU: Tensor,
    targets_T: Tensor,
    num_tokens: int,
    pad_token: int,
    normalizers_T: Tensor,
    grad_losses_T: Tensor,
) -> Tensor:
    """The gradient of the logits (T, U), in their dtype."""
    grad_TU = _gradient(logits_TU)
    with current(logits_TU.device):
        losses_backward_kernel[(triton.cdiv(len(logits_TU), ROWS),)](
            logits_TU.contiguous(),
            targets_T.contiguous(),
            normalizers_T,
            grad_losses_T.contiguous(),
            grad_TU,
            len(logits_TU),
            num_tokens,
            logits_TU.shape[1],
            pad_token,
            WIDTH=triton.next_power_of_2(logits_TU.shape[1]),
            ROWS=ROWS,
            num_warps=ROWS,
        )
    return grad_TU


@losses_operator.register_fake
def _outputs(logits_TU: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """Room for the losses and the normalizers."""
    losses_T, normalizers_T = (
        logits_TU.new_empty(logits_TU.shape[0], dtype=torch.float32) for _ in range(2)
    )
    return losses_T, normalizers_T


@losses_backward_operator.register_fake
def _gradient(logits_TU: Tensor, *others: Any) -> Tensor:
    """Room for the gradient."""
    return logits_TU.new_empty(logits_TU.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits_TU, targets_T, *ctx.sizes = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(logits_TU, targets_T, output[1])


def _backward(ctx: Any, grad_losses_T: Tensor, _: Any) -> tuple[Tensor, None, None, None]:
    logits_TU, targets_T, normalizers_T = ctx.saved_tensors
    grad_TU = losses_backward_operator(
        logits_TU, targets_T, *ctx.sizes, normalizers_T, grad_losses_T
    )
    return grad_TU, None, None, None


losses_operator.register_autograd(_backward, setup_context=_save)
