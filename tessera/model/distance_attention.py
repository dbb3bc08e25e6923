"""A softmax over hyperbolic distances, and its gradient by hand: less memory is moved and kept.

Plain torch, in place wherever nobody looks again; ``plain_attention`` is the specification. With
tangent vectors q and k, lengths n, ``r = 2 min(√c n, MOST)``::

    cosh = cosh r_q cosh r_k − (q · k) sinh r_q sinh r_k / (n_q n_k)
    p    = softmax(−β acosh(max(cosh, 1 + 1e-5)) / √c)

Shape suffixes: B games, L positions, M keys, K heads, P width of a head, Q ``1 + P``, rounded up to
a multiple of 4 with zeros, so that products may read four numbers at once.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tessera.model.hyperbolic import LEAST_COSH, MOST, TINY, distances, lifted

_ALIGNMENT = 4  # elements
# Times the least distance: between that of the least cosh, however float32 and a device round it,
# and that of the next number of float32.
_ABOVE = 1.002


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, sees_BLM: Tensor, c: Tensor, beta: Tensor
) -> Tensor:
    """The same as ``DistanceAttention``, as it is written: its specification."""
    onto = partial(lifted, c=c)
    scores_BKLM = -beta * distances(onto(q), onto(k), c)
    return scores_BKLM.masked_fill(~sees_BLM[:, None], -torch.inf).softmax(-1) @ v


class DistanceAttention(torch.autograd.Function):
    """Mixed values (B, K, L, P) of queries (B, K, L, P), keys and values (B, K, M, P).

    All of one dtype, float32 or float64, with ``sees_BLM`` (B or 1, L, M) bool, and c and β ().
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sees_BLM: Tensor, c: Tensor, beta: Tensor
    ) -> Tensor:
        q_row, k_row = _lengths(q, c), _lengths(k, c)
        q_BKLQ, k_BKMQ = _lifted(q, q_row, -1), _lifted(k, k_row, 1)
        distance = (q_BKLQ @ k_BKMQ.mT).clamp_(min=LEAST_COSH).acosh_()
        slope = -beta * c.rsqrt()
        unseen = torch.zeros_like(sees_BLM, dtype=q.dtype).masked_fill_(~sees_BLM, -torch.inf)
        weight = torch.addcmul(unseen[:, None], distance, slope).softmax(-1)
        ctx.save_for_backward(
            *(q, k, v, c, beta, slope, distance, weight, q_BKLQ, k_BKMQ), *q_row, *k_row
        )
        return weight @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            return _gradients(grad.contiguous(), *ctx.saved_tensors)


def _gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    c: Tensor,
    beta: Tensor,
    slope: Tensor,
    distance: Tensor,
    weight: Tensor,
    q_BKLQ: Tensor,
    k_BKMQ: Tensor,
    *rows: Tensor,
) -> tuple[Tensor | None, ...]:
    """Those of the arguments of ``DistanceAttention``, out of what it saved."""
    of_scores = torch._softmax_backward_data(grad @ v.mT, weight, -1, weight.dtype)
    of_slope = (of_scores * distance).sum()
    # Of cosh, but for the slope, which the rows are multiplied with; none where it was clamped.
    least = _ABOVE * math.acosh(LEAST_COSH)
    of_scores.div_(distance.sinh())
    of_cosh = torch.ops.aten.threshold_backward(of_scores, distance, least)
    of_q, c_of_q = _unlifted(of_cosh @ k_BKMQ, q, _Lengths(*rows[:4]), -1, c, slope)
    of_k, c_of_k = _unlifted(of_cosh.mT @ q_BKLQ, k, _Lengths(*rows[4:]), 1, c, slope)
    of_c = c_of_q + c_of_k + of_slope * beta * c.rsqrt() / (2 * c)
    return of_q, of_k, weight.mT @ grad, None, of_c, -of_slope * c.rsqrt()


class _Lengths(NamedTuple):
    """What is made of vectors' lengths, each (B, K, L, 1).

    Attributes:
        length: n.
        cosh, sinh: of r.
        is_inside: 1 where r follows the length, 0 where it is at its most.
    """

    length: Tensor
    cosh: Tensor
    sinh: Tensor
    is_inside: Tensor


def _lengths(vectors: Tensor, c: Tensor) -> _Lengths:
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_(min=TINY)
    reach = c.sqrt() * length
    twice = 2 * reach.clamp(max=MOST)
    return _Lengths(length, twice.cosh(), twice.sinh(), (reach <= MOST).to(vectors.dtype))


def _lifted(vectors: Tensor, row: _Lengths, sign: int) -> Tensor:
    """The points (…, Q) on the hyperboloid, all but their first number times a sign."""
    width = vectors.shape[-1]
    points = vectors.new_empty(*vectors.shape[:-1], width + 1 + -(width + 1) % _ALIGNMENT)
    points[..., :1] = row.cosh
    points[..., width + 1 :] = 0
    torch.mul(vectors, sign * row.sinh / row.length, out=points[..., 1 : width + 1])
    return points


def _unlifted(
    of_points: Tensor, vectors: Tensor, row: _Lengths, sign: int, c: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of vectors and of c, out of that of their points, times a factor."""
    length, cosh, sinh, is_inside = row
    width = vectors.shape[-1]
    first, others = of_points[..., :1], of_points[..., 1 : width + 1]
    along = sign * (others * vectors).sum(-1, keepdim=True)
    of_reach = (first * sinh + along * cosh / length) * is_inside * factor
    of_length = 2 * c.sqrt() * of_reach - factor * along * sinh / length.square()
    found = others * (factor * sign * sinh / length)
    found.addcmul_(vectors, of_length.masked_fill(length <= TINY, 0.0) / length)
    return found, (of_reach * length).sum() * c.rsqrt()
