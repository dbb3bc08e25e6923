"""Green's functions of tridiagonal matrices, in linear work and with exact gradients.

H is tridiagonal, N×N, with diagonal a, and p the products of opposite elements beside it; z is a
number off the real line, α = a − z, and G = (H − z)⁻¹. With ``g_i = 1 / (α_i − p_i g_{i−1})``, the
left Green's function, G of the first i rows and columns has g_i in its last corner. It knows
nothing of what follows, and is all that has to be carried on.

If p ≥ 0, a is real and z = iη with η > 0, then |g| ≤ 1/η: nothing has to be scaled or clamped.

Shape suffixes: … any axes, L positions, … any axes; positions are the second axis.
Source: the continued fractions of a tridiagonal resolvent, such as Usmani 1994; BK-Core of MUSE
phase 7 takes determinants instead, which have to be scaled, and approximates the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def sequential_green(
    alpha: Tensor, products: Tensor, before: Tensor | None = None, is_pad: Tensor | None = None
) -> Tensor:
    """The left Green's function, position by position: the specification of ``left_green``.

    Args:
        alpha: (B, L, …) complex.
        products: of its shape; p_i joins i with i − 1, the first one with what was before.
        before: (B, …) complex, g before the first position; None means 0, where nothing is.
        is_pad: (B, L, …) bool of that shape, True where a position is left out.

    Returns:
        g, of the shape of ``alpha``; where a position is left out, that of the one before it.
    """
    last = torch.zeros_like(alpha[:, 0]) if before is None else before.to(alpha.dtype)
    found = []
    for at in range(alpha.shape[1]):
        new = 1 / (alpha[:, at] - products[:, at] * last)
        last = new if is_pad is None else torch.where(is_pad[:, at], last, new)
        found.append(last)
    return torch.stack(found, 1)


def left_green(
    alpha: Tensor, products: Tensor, before: Tensor | None = None, is_pad: Tensor | None = None
) -> Tensor:
    """As ``sequential_green``, with the same arguments, in log₂ L rounds over all positions."""
    if before is None:
        before = torch.zeros_like(alpha[:, 0])
    if is_pad is None:
        is_pad = torch.zeros((), dtype=torch.bool, device=alpha.device).expand(alpha.shape)
    green: Tensor = _LeftGreen.apply(alpha, products, before.to(alpha.dtype), is_pad)
    return green


def resolvent_diagonal(diagonal: Tensor, above: Tensor, below: Tensor, z: Tensor) -> Tensor:
    """The diagonal of (H − z)⁻¹, (B, N, …) complex; every position sees all others.

    Not causal, so no mixer uses it. Its gradient is exact: each of the two continued fractions has
    one that is a linear recurrence.

    Args:
        diagonal: a, (B, N, …) complex.
        above: b, (B, N − 1, …) complex, the elements right of the diagonal.
        below: c, of the shape of ``above``, those left of it.
        z: a number, or of a shape that is broadcast to that of ``diagonal``.
    """
    alpha = diagonal - z
    products = torch.cat([torch.zeros_like(alpha[:, :1]), above * below], 1)
    left = left_green(alpha, products)
    # From the other end p_i joins i with i + 1.
    right = left_green(alpha.flip(1), products.roll(-1, 1).flip(1)).flip(1)
    return 1 / (1 / left + 1 / right - alpha)


class _LeftGreen(torch.autograd.Function):
    """g_i is a Möbius map of g_{i−1}, and maps are composed in any grouping."""

    @staticmethod
    def forward(
        ctx: Any, alpha: Tensor, products: Tensor, before: Tensor, is_pad: Tensor
    ) -> Tensor:
        one = torch.ones((), dtype=alpha.dtype, device=alpha.device)
        zero = torch.zeros_like(one)
        # The matrix of g ↦ 1 / (α − p g), and that of g ↦ g where a position is left out.
        kept = torch.stack([one, zero, zero, one]).view(4, *[1] * alpha.dim())
        own = torch.stack([zero.expand_as(alpha), one.expand_as(alpha), -products, alpha])
        a, b, c, d = _composed(torch.where(is_pad, kept, own).unflatten(0, (2, 2))).flatten(0, 1)
        green = (a * before[:, None] + b) / (c * before[:, None] + d)
        ctx.save_for_backward(green, products, before, is_pad)
        return green

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        green, products, before, is_pad = ctx.saved_tensors
        earlier = torch.cat([before[:, None], green[:, :-1]], 1)
        square = (green * green).masked_fill(is_pad, 0)
        passed = torch.where(is_pad, torch.ones_like(square), square * products)
        # What g_i moves, itself and all that come later; torch's gradients are conjugated.
        total = _sums_from_the_end(gradient, passed.conj())
        of_before = total[:, 0] * passed[:, 0].conj()
        return -total * square.conj(), total * (square * earlier).conj(), of_before, None


def _composed(matrices: Tensor) -> Tensor:
    """Of 2×2 matrices M (2, 2, B, L, …) all products M_i … M_0.

    Each is divided by its largest entry, which leaves the Möbius map as it is.
    """
    shift, length = 1, matrices.shape[3]
    while shift < length:
        # Each row times each column: two products, and their sum.
        later, earlier = matrices[:, :, :, shift:], matrices[:, :, :, :-shift]
        products = later[:, :, None] * earlier[None]
        new = products[:, 0] + products[:, 1]
        largest = new.abs().amax((0, 1))
        matrices = torch.cat([matrices[:, :, :, :shift], new / largest], 3)
        shift *= 2
    return matrices


def _sums_from_the_end(terms: Tensor, factors: Tensor) -> Tensor:
    """``s_i = t_i + f_{i+1} s_{i+1}`` of terms t and factors f, (B, L, …) both."""
    # Sums, and of each position the product of as many factors behind it as its sum has terms: zero
    # where that goes to the end, and for good.
    none = torch.zeros_like(factors[:, :1])
    both = torch.stack([terms, torch.cat([factors[:, 1:], none], 1)])
    shift, length = 1, terms.shape[1]
    while shift < length:
        further = both[1, :, :-shift] * both[:, :, shift:]
        further[0] += both[0, :, :-shift]
        both = torch.cat([further, both[:, :, -shift:]], 2)
        shift *= 2
    return both[0]
