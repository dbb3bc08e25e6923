"""What may be handed to the game: checked by type, shape and dtype, which asks no device.

Values inside a tensor are not looked at, because on a GPU that would wait for it. What a method
does with any value is said where it is described.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tessera.setting_errors import described

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def whole_numbers(
    name: str, value: Any, *shapes: tuple[int | None, ...], or_bool: bool = False
) -> Tensor:
    """The tensor, if it has one of the shapes and holds whole numbers.

    Args:
        name: what to call it in the message.
        value: anything.
        shapes: those allowed; None stands for any length.
        or_bool: whether bools are allowed too.

    Raises:
        ValueError: if the value is no such tensor.
    """
    dtypes = (*_WHOLE, torch.bool) if or_bool else _WHOLE
    has_shape = isinstance(value, Tensor) and any(_fits(value.shape, shape) for shape in shapes)
    if has_shape and value.dtype in dtypes:
        return value
    allowed = " or ".join(str(shape).replace("None", "any") for shape in shapes)
    kind = "bool or whole numbers" if or_bool else "whole numbers"
    raise ValueError(f"{name} must be a tensor {allowed} of {kind}, got {described(value)}.")


def chosen_games(mask: Any, batch_size: int, device: torch.device) -> Tensor:
    """The mask (B,) bool on the device; True everywhere if it is None.

    Raises:
        ValueError: if the mask is neither None nor such a tensor.
    """
    if mask is None:
        return torch.ones(batch_size, dtype=torch.bool, device=device)
    if isinstance(mask, Tensor) and mask.shape == (batch_size,) and mask.dtype == torch.bool:
        return mask.to(device)
    raise ValueError(f"mask must be a tensor ({batch_size},) of bool, got {described(mask)}.")


def _fits(shape: torch.Size, allowed: tuple[int | None, ...]) -> bool:
    return len(shape) == len(allowed) and all(
        length in (found, None) for found, length in zip(shape, allowed, strict=True)
    )
