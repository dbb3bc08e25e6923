"""The cross-entropy's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: T positions, U elements of a row of logits, of which the first ``num_tokens`` count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.losses import losses_backward_kernel, losses_forward_kernel
from tessera.model.kernels.operators import operator_of

ROWS = 4  # programs of a single warp would be so many that starting them takes the time


class LossesInputs(NamedTuple):
    """The arguments of ``tessera.model.heads.plain_losses``, of rows wider than the tokens."""

    logits_TU: Tensor
    targets_T: Tensor
    num_tokens: int
    pad_token: int


def _forward(inputs: LossesInputs) -> tuple[Tensor, Tensor]:
    """The losses, and what normalizes each row."""
    losses_T, normalizers_T = _room(inputs)
    _launch(losses_forward_kernel, inputs, losses_T, normalizers_T)
    return losses_T, normalizers_T


def _backward(inputs: LossesInputs, normalizers_T: Tensor, grad_T: Tensor) -> tuple[Tensor]:
    """The gradient of the logits (T, U), in their dtype."""
    grad_TU = inputs.logits_TU.new_empty(inputs.logits_TU.shape)
    _launch(losses_backward_kernel, inputs, normalizers_T, grad_T.contiguous(), grad_TU)
    return (grad_TU,)


def _launch(kernel: Any, inputs: LossesInputs, *others: Tensor) -> None:
    num_rows, stride = inputs.logits_TU.shape
    with current(inputs.logits_TU.device):
        kernel[(triton.cdiv(num_rows, ROWS),)](
            inputs.logits_TU.contiguous(),
            inputs.targets_T.contiguous(),
            *others,
            num_rows,
            inputs.num_tokens,
            stride,
            inputs.pad_token,
            WIDTH=triton.next_power_of_2(stride),
            ROWS=ROWS,
            num_warps=ROWS,
        )


def _room(inputs: LossesInputs) -> tuple[Tensor, Tensor]:
    """For the losses and the normalizers."""
    losses_T, normalizers_T = (
        inputs.logits_TU.new_empty(inputs.logits_TU.shape[0], dtype=torch.float32) for _ in range(2)
    )
    return losses_T, normalizers_T


LOSSES = operator_of("losses", LossesInputs, _forward, _backward, _room, num_kept=1)
