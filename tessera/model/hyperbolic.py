"""Hyperbolic space as vectors: maps at the origin of the Poincaré ball, and distances.

A ball of curvature −c has the radius 1/√c. What is mapped into it is a vector of the tangent space
at its origin.

Shape suffixes: … any axes, L and M positions, P width of a vector.
Source: Ganea, Bécigneul and Hofmann, "Hyperbolic neural networks" (arXiv:1805.09112), section 2;
distances by the hyperboloid, Nickel and Kiela (arXiv:1806.03417), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12
# No point is further out than tanh of this, over √c: beyond it float32 cannot tell points apart.
MOST = 3.0
# The least 1 + u of which acosh is taken: below it a distance has no finite gradient.
LEAST_COSH = 1 + 1e-5


def norms(vectors: Tensor) -> Tensor:
    """Lengths (…, 1) of vectors (…, P); of zero nearly zero, with the gradient zero."""
    return vectors.square().sum(-1, keepdim=True).clamp(min=TINY**2).sqrt()


def exp_0(tangent: Tensor, c: Tensor) -> Tensor:
    """The points ``tanh(√c‖v‖) v / (√c‖v‖)`` of tangent vectors v (…, P) at the origin."""
    reach = (c.sqrt() * norms(tangent)).clamp(min=TINY)
    return tangent * (reach.tanh() / reach)


def log_0(points: Tensor, c: Tensor) -> Tensor:
    """The tangent vectors of points (…, P): the inverse of ``exp_0``, where it was not cut off."""
    reach = (c.sqrt() * norms(points)).clamp(min=TINY, max=1 - 1e-6)
    return points * (reach.atanh() / reach)


def lifted(tangent: Tensor, c: Tensor) -> Tensor:
    """The points of tangent vectors (…, P) on the hyperboloid (…, 1 + P), see ``distances``.

    Those of ``exp_0``, but none further from the origin than ``MOST`` allows.
    """
    length = norms(tangent)
    # The distance from the origin is 2 artanh of √c times the length in the ball.
    reach = 2 * (c.sqrt() * length).clamp(max=MOST)
    return torch.cat([reach.cosh(), tangent * (reach.sinh() / length)], -1)


def distances(one: Tensor, other: Tensor, c: Tensor) -> Tensor:
    """The distances (…, L, M) of all pairs of lifted points (…, L, 1 + P) and (…, M, 1 + P).

    ``acosh(1 + 2c‖x − y‖² / ((1 − c‖x‖²)(1 − c‖y‖²))) / √c`` of x and y in the ball: one matrix
    product, no difference of vectors.
    """
    signed = torch.cat([one[..., :1], -one[..., 1:]], -1)
    cosh = signed @ other.transpose(-1, -2)
    return cosh.clamp(min=LEAST_COSH).acosh() / c.sqrt()
