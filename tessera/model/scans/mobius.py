"""The recurrence of the hyperbolic state space: points of the ball, scaled and added by Möbius.

Möbius addition is not associative, so positions cannot be taken in any grouping: they come one
after the other, on a GPU in a kernel that holds each game's point in registers.

Shape suffixes: B games, L positions, N width of a point.
Source: Ganea, Bécigneul and Hofmann, "Hyperbolic neural networks" (arXiv:1805.09112), sections 2.3
and 2.4; the ball has the curvature −1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.model.backend import has_kernels
from tessera.model.hyperbolic import exp_0, log_0, norms

FURTHEST = 0.99  # from the origin; a point beyond it is drawn back to it
# A little further: a point that was drawn back, and is left as it is, is not drawn back again.
LIMIT = FURTHEST * (1 + 1e-4)


def drawn_back(points: Tensor) -> Tensor:
    """Points (…, N) none of which is beyond ``LIMIT``: those that were are at ``FURTHEST``."""
    reach = norms(points)
    return points * torch.where(reach > LIMIT, FURTHEST / reach, torch.ones_like(reach))


def mobius_sum(x: Tensor, y: Tensor) -> Tensor:
    """``x ⊕ y`` of points (…, N) of the ball."""
    product = (x * y).sum(-1, keepdim=True)
    of_x, of_y = (point.square().sum(-1, keepdim=True) for point in (x, y))
    return ((1 + 2 * product + of_y) * x + (1 - of_x) * y) / (1 + 2 * product + of_x * of_y)


def mobius_step(decay: Tensor, drive: Tensor, before: Tensor) -> Tensor:
    """``(A ⊗ h) ⊕ b``, drawn back; ``A ⊗ h`` is ``exp_0(A log_0(h))`` of a diagonal matrix A."""
    one = decay.new_ones(())
    return drawn_back(mobius_sum(exp_0(decay * log_0(before, one), one), drive))


def plain_mobius_scan(decay_BLN: Tensor, drive_BLN: Tensor, before_BN: Tensor) -> Tensor:
    """As ``mobius_scan``, in plain torch: the specification of the kernels."""
    found, last = [], before_BN
    for at in range(decay_BLN.shape[1]):
        last = mobius_step(decay_BLN[:, at], drive_BLN[:, at], last)
        found.append(last)
    return torch.stack(found, 1)


def mobius_scan(decay_BLN: Tensor, drive_BLN: Tensor, before_BN: Tensor) -> Tensor:
    """The points h (B, L, N) of ``h_t = (A_t ⊗ h_{t−1}) ⊕ b_t``.

    Args:
        decay_BLN: A, 0 to 1, float32 or float64; 1 where a position is left out.
        drive_BLN: b, of the same dtype, no further out than ``LIMIT``; 0 where a position is
            left out.
        before_BN: h before the first position.
    """
    if decay_BLN.dtype == torch.float64 or not has_kernels(decay_BLN.device):
        return plain_mobius_scan(decay_BLN, drive_BLN, before_BN)
    from tessera.model.kernels.mobius_operator import MOBIUS

    found: Tensor = MOBIUS.forward(decay_BLN, drive_BLN, before_BN)
    return found
