"""A drawing in pixels and as a PNG file, drawn with Pillow.

It is drawn three times too large and scaled down, which smooths stones and letters.
"""

from __future__ import annotations

import io
from functools import singledispatch

from PIL import Image, ImageDraw, ImageFont

from tessera.play.shapes import PAPER, Box, Disc, Drawing, Line, Point, Polygon, Polyline, Words

_OVERSIZE = 3
_ANCHORS = {"start": "lm", "middle": "mm", "end": "rm"}


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
def _(shape: Polyline, pen: ImageDraw.ImageDraw) -> None:
    places = [(_OVERSIZE * x, _OVERSIZE * y) for x, y in shape.places]
    pen.line(places, shape.ink, round(_OVERSIZE * shape.width), joint="curve")


@_draw.register
def _(shape: Polygon, pen: ImageDraw.ImageDraw) -> None:
    pen.polygon([(_OVERSIZE * x, _OVERSIZE * y) for x, y in shape.corners], shape.fill)


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
