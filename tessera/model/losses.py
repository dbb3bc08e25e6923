"""The cross-entropy of every target, in plain torch and by a kernel.

Shape suffixes: T positions of all games, V ``vocab_size``, U ``V`` rounded up to a multiple of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.accelerator import triton_obstacle

# Rows of whole 32 bytes, for the kernel and for the matrix products around it.
_ALIGNMENT = 16  # elements


def head_losses(
    hidden_TH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_T: Tensor, pad_token: int
) -> Tensor:
    """The cross-entropy of each target under the logits ``weight @ hidden + bias``, in nats.

    On a GPU with Triton one kernel makes it of the logits, and one their gradient: torch's own
    would write them in float32 first, and that several times over.

    Args:
        hidden_TH: (T, H), any float dtype.
        weight_VH, bias_V: of the head.
        targets_T: (T,) int64, below V.
        pad_token: the target whose cross-entropy is 0, and which has no gradient.

    Returns:
        (T,), at least float32.
    """
    if hidden_TH.dtype == torch.float64 or not _has_kernel(hidden_TH.device):
        return plain_losses(F.linear(hidden_TH, weight_VH, bias_V), targets_T, pad_token)
    from tessera.model.kernels.losses_operator import LOSSES

    more = -len(weight_VH) % _ALIGNMENT
    logits_TU = F.linear(hidden_TH, F.pad(weight_VH, (0, 0, 0, more)), F.pad(bias_V, (0, more)))
    return LOSSES.forward(logits_TU, targets_T, len(weight_VH), pad_token)[0]


def plain_losses(logits_TV: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
    """The cross-entropy of each target (T,), 0 where it is PAD; the specification of the kernel."""
    dtype = torch.promote_types(logits_TV.dtype, torch.float32)
    # The mean that torch takes itself is one block's work on a GPU, forward and backward.
    return F.cross_entropy(logits_TV.to(dtype), targets_T, ignore_index=pad_token, reduction="none")


# torch.compile takes the answer for the tensors' device as a constant.
@torch.compiler.assume_constant_result
def _has_kernel(device: torch.device) -> bool:
    return device.type == "cuda" and not triton_obstacle(device)
