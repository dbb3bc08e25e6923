"""Pictures of positions made of pixels, drawn with Pillow.

They are drawn three times too large and scaled down, which smooths stones and letters.
"""

from __future__ import annotations

import io
from functools import singledispatch

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tessera.play.drawing import (
    PAPER,
    Box,
    Disc,
    Drawing,
    Line,
    Point,
    Scene,
    Words,
    panel,
)

__all__ = ["Scene", "draw_scenes", "drawn", "in_pixels", "png"]

_OVERSIZE = 3
_CELL = 26  # one point of a scene, in pixels
_TITLE = 30
_ANCHORS = {"start": "lm", "middle": "mm", "end": "rm"}


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


def png(drawing: Drawing) -> bytes:
    """The drawing as a PNG file."""
    file = io.BytesIO()
    drawn(drawing).save(file, "PNG", optimize=True)
    return file.getvalue()


def drawn(drawing: Drawing) -> Image.Image:
    """The drawing in pixels, red, green, blue."""
    size = (round(drawing.width), round(drawing.height))
    image = Image.new("RGB", (size[0] * _OVERSIZE, size[1] * _OVERSIZE), PAPER)
    pen = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        _draw(shape, pen)
    return image.resize(size, Image.Resampling.BOX)


@singledispatch
def _draw(shape: object, pen: ImageDraw.ImageDraw) -> None:
    raise TypeError(f"a shape must be one of drawing's, got {shape!r}.")


@_draw.register
def _(shape: Point, pen: ImageDraw.ImageDraw) -> None:
    for part in shape.shapes:
        _draw(part, pen)


@_draw.register
def _(shape: Line, pen: ImageDraw.ImageDraw) -> None:
    ends = (shape.x0, shape.y0, shape.x1, shape.y1)
    pen.line([_OVERSIZE * at for at in ends], shape.ink, round(_OVERSIZE * shape.width))


@_draw.register
def _(shape: Box, pen: ImageDraw.ImageDraw) -> None:
    corners = (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
    x0, y0, x1, y1 = (round(_OVERSIZE * at) for at in corners)
    pen.rectangle((x0, y0, x1 - 1, y1 - 1), shape.fill)


@_draw.register
def _(shape: Disc, pen: ImageDraw.ImageDraw) -> None:
    x, y, r = (_OVERSIZE * length for length in (shape.x, shape.y, shape.radius))
    width = round(_OVERSIZE * shape.rim_width)
    pen.ellipse((x - r, y - r, x + r, y + r), shape.fill, shape.rim, width)


@_draw.register
def _(shape: Words, pen: ImageDraw.ImageDraw) -> None:
    # Pillow's own font, which is there on every machine.
    font = ImageFont.load_default(size=_OVERSIZE * shape.size)
    at = (_OVERSIZE * shape.x, _OVERSIZE * shape.y)
    pen.text(at, shape.text, shape.ink, font, _ANCHORS[shape.anchor])
