"""Running sums that are the same bits every time, on every device."""

from __future__ import annotations

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
    shift, length = 1, x.shape[axis]
    while shift < length:
        first, later = x.split([shift, length - shift], axis)
        earlier = x.narrow(axis, 0, length - shift)
        x = torch.cat([first, later + earlier], axis)
        shift *= 2
    return x
