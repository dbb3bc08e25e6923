"""Inputs of the hyperbolic recurrence, for its kernels and its plain form."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.model.scans.mobius import drawn_back


def mobius_cases(device: str = "cpu") -> dict[str, dict[str, Tensor]]:
    """Arguments by name: widths that are and are no power of two, near the origin and the border.

    In each some positions are left out, which neither decay nor drive.
    """
    found = {}
    for name, games, length, width, size in (
        ("width 3", 2, 3, 3, 0.3),
        ("one position", 3, 1, 8, 0.5),
        ("near the origin", 2, 9, 8, 0.003),
        ("near the border", 2, 9, 20, 3.0),
        ("a whole block", 1, 12, 64, 0.1),
    ):
        generator = torch.Generator().manual_seed(width)
        decay = torch.rand(games, length, width, generator=generator)
        drive = size * torch.randn(games, length, width, generator=generator)
        before = size * torch.randn(games, width, generator=generator)
        if length > 1:
            decay[0, -2], drive[0, -2] = 1.0, 0.0
        arguments = (decay, drawn_back(drive), drawn_back(before))
        names = ("decay_BLN", "drive_BLN", "before_BN")
        found[name] = {key: x.to(device) for key, x in zip(names, arguments, strict=True)}
    return found
