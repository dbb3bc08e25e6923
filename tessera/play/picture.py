"""Pictures of positions made of pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tessera.play.drawing import Scene, panel
from tessera.play.pixels import drawn, png
from tessera.play.shapes import Drawing

__all__ = ["Scene", "draw_scenes", "drawn", "in_pixels", "png"]

_CELL = 26  # one point of a scene, in pixels
_TITLE = 30


def draw_scenes(scenes: list[Scene]) -> Tensor:
    """A picture with a row for each position: the board, then its maps on one common scale.

    A map's darkest point is the likeliest one of its row; its title says how likely a pass is.

    Returns:
        (3, height, width) uint8 on the CPU, red, green, blue.
    """
    rows = []
    for scene in scenes:
        num_points = scene.stones.numel()
        maps = {title: chances.float().cpu() for title, chances in scene.maps.items()}
        highest = max((float(m[:num_points].max()) for m in maps.values()), default=1.0)
        panels = [panel(scene, f"after {scene.ply} plies", _CELL, _TITLE, None, 1.0)]
        for title, chances in maps.items():
            panels.append(panel(scene, title, _CELL, _TITLE, chances, max(highest, 1e-9)))
        rows.append(np.concatenate([np.asarray(drawn(drawing)) for drawing in panels], axis=1))
    return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1).contiguous()


def in_pixels(drawing: Drawing) -> Tensor:
    """The drawing as (3, height, width) uint8 on the CPU, red, green, blue."""
    return torch.from_numpy(np.array(drawn(drawing))).permute(2, 0, 1).contiguous()
