"""Running sums that are the same bits every time, on every device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def running_sums(x: Tensor, axis: int = 1) -> Tensor:
    """The sums of a tensor over an axis, up to and with each place.

    In log₂ rounds of adding what lies 1, 2, 4, … places before. ``torch.cumsum`` of floats on a GPU
    makes no promise about its order of adding, and refuses where determinism is asked for.

    Args:
        x: of any shape.
        axis: along which.
    """
    if x.shape[axis] < 2:
        return x
    sums: Tensor = _RunningSums.apply(x, axis, False)
    return sums


class _RunningSums(torch.autograd.Function):
    """The sums, or their gradient: rounds the other way round and from the other end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, is_gradient: bool) -> Tensor:
        ctx.axis, ctx.is_gradient = axis, is_gradient
        length = x.shape[axis]
        shifts = [2**power for power in range((length - 1).bit_length())]
        for shift in reversed(shifts) if is_gradient else shifts:
            first, last = (x.narrow(axis, at, length - shift) for at in (0, shift))
            x = x.clone()
            to, of = (0, last) if is_gradient else (shift, first)
            x.narrow(axis, to, length - shift).add_(of)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _RunningSums.apply(gradient, ctx.axis, not ctx.is_gradient), None, None
