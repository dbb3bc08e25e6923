"""The sum of vectors and what a part of a block adds to them, and its norm for the next part.

Shape suffix: H ``d_model``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.backend import has_kernels


class ResidualNorm(nn.Module):
    """Adds to the vectors, and gives the sum and the root-mean-square norm of it.

    On a GPU with Triton one kernel does it, and one its gradients. There the norm comes in the
    dtype of autocast, to which the product that every part begins with would round it anyway.

    Args:
        d_model: width of a position's vector.
        eps: added to the mean square.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, hidden: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The sum and its norm, both of the shape of ``hidden``.

        Args:
            hidden: (…, H).
            added: of the same shape; None means zeros, and the sum is ``hidden`` itself.
        """
        device = hidden.device
        if hidden.dtype == torch.float64 or not has_kernels(device):
            return add_and_normalize(hidden, added, self.weight, self.eps)
        dtype = None
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        return triton_add_and_normalize(hidden, added, self.weight, self.eps, dtype)


class ResidualLayerNorm(nn.Module):
    """The same with a layer norm: the mean is taken off, and there is a bias; zero stays zero.

    Args:
        d_model: width of a position's vector.
        eps: added to the variance.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, hidden: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See ``ResidualNorm.forward``; everywhere in torch's own kernels."""
        total = hidden if added is None else hidden + added
        normed = F.layer_norm(total, self.weight.shape, self.weight, self.bias, self.eps)
        return total, normed.masked_fill(~total.any(-1, keepdim=True), 0.0)


# Each kind of norm, and the parameters it has for each number of a vector.
NORMS: dict[str, tuple[type[nn.Module], int]] = {
    "rms": (ResidualNorm, 1),
    "layer": (ResidualLayerNorm, 2),
}


def add_and_normalize(
    hidden: Tensor,
    added: Tensor | None,
    weight_H: Tensor,
    eps: float,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum of two tensors of vectors, and the norm of each of its vectors.

    This is the specification of the kernel.

    Args:
        hidden: (…, H).
        added: of the same shape; None means zeros, and the sum is ``hidden`` itself.
        weight_H: what each element of a vector of root mean square 1 is multiplied by.
        eps: added to the mean square.
        dtype: of the norm; None means that of the sum.
    """
    total = hidden if added is None else hidden + added
    normed = F.rms_norm(total, weight_H.shape, weight_H, eps)
    return total, normed if dtype is None else normed.to(dtype)


def triton_add_and_normalize(
    hidden: Tensor,
    added: Tensor | None,
    weight_H: Tensor,
    eps: float,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The same as ``add_and_normalize``, computed by the Triton kernels in ``model.kernels``.

    float64 is left to the plain form.
    """
    total = hidden.dtype if added is None else torch.promote_types(hidden.dtype, added.dtype)
    if torch.float64 in (total, dtype):
        return add_and_normalize(hidden, added, weight_H, eps, dtype)
    from tessera.model.kernels.norm_operator import ADDED_NORM, NORM

    if added is None:
        return hidden, NORM.forward(hidden, weight_H, eps, dtype or total)
    sums, normed = ADDED_NORM.forward(hidden, added, weight_H, eps, dtype or total)
    return sums, normed
