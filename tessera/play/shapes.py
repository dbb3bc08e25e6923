"""Simple shapes that Pillow or an SVG file draws.

Lengths are pixels of the finished picture; x runs to the right, y downwards. Without torch, so that
a picture of figures can be drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Colour: TypeAlias = tuple[int, int, int]

PAPER: Colour = (250, 248, 244)
INK: Colour = (30, 28, 26)


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    ink: Colour = INK


@dataclass(frozen=True, slots=True)
class Polyline:
    """Straight lines from each place (x, y) to the next."""

    places: tuple[tuple[float, float], ...]
    width: float
    ink: Colour = INK


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled area with these corners (x, y)."""

    corners: tuple[tuple[float, float], ...]
    fill: Colour


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: Colour


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc, or without ``fill`` only its rim, which lies inside of the radius."""

    x: float
    y: float
    radius: float
    fill: Colour | None
    rim: Colour | None = None
    rim_width: float = 0.0


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text, its middle at y; ``size`` is the height of the font."""

    x: float
    y: float
    text: str
    size: float
    ink: Colour = INK
    anchor: Literal["start", "middle", "end"] = "middle"


@dataclass(frozen=True, slots=True)
class Point:
    """All that is drawn on one point of a board, or of one figure of a chart.

    Attributes:
        vertex: its name, or that of the row which the figure is of.
        told: what is known of it, in words.
        shapes: from the lowest to the topmost.
    """

    vertex: str
    told: str
    shapes: tuple[Line | Polyline | Polygon | Box | Disc | Words, ...]


Shape: TypeAlias = Line | Polyline | Polygon | Box | Disc | Words | Point


@dataclass(frozen=True, slots=True)
class Drawing:
    """A whole picture.

    Attributes:
        width: in pixels.
        height: in pixels.
        title: what it shows, in a sentence.
        shapes: from the lowest to the topmost.
    """

    width: float
    height: float
    title: str
    shapes: list[Shape]
