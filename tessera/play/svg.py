"""A drawing as an SVG file: text stays text, and every point says its name and its percentage.

Source: https://www.w3.org/TR/SVG11/ for the elements.
"""

from __future__ import annotations

from functools import singledispatch
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tessera.play.shapes import (
    PAPER,
    Box,
    Colour,
    Disc,
    Drawing,
    Line,
    Point,
    Polygon,
    Polyline,
    Words,
)


def svg(drawing: Drawing) -> bytes:
    """The file, in UTF-8. A group of class ``point`` with a ``title`` stands for each point."""
    width, height = _number(drawing.width), _number(drawing.height)
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": width,
            "height": height,
            "viewBox": f"0 0 {width} {height}",
            "font-family": "sans-serif",
            "role": "img",
        },
    )
    SubElement(root, "title").text = drawing.title
    SubElement(root, "rect", {"width": width, "height": height, "fill": _colour(PAPER)})
    for shape in drawing.shapes:
        root.append(_element(shape))
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


@singledispatch
def _element(shape: object) -> Element:
    raise TypeError(f"a shape must be one of drawing's, got {shape!r}.")


@_element.register
def _(shape: Point) -> Element:
    group = Element("g", {"class": "point", "data-vertex": shape.vertex})
    SubElement(group, "title").text = shape.told
    group.extend(_element(part) for part in shape.shapes)
    return group


@_element.register
def _(shape: Line) -> Element:
    ends = {"x1": shape.x0, "y1": shape.y0, "x2": shape.x1, "y2": shape.y1}
    return _written("line", {**ends, "stroke-width": shape.width}, stroke=shape.ink)


@_element.register
def _(shape: Polyline) -> Element:
    lines = _written("polyline", {"stroke-width": shape.width}, fill=None, stroke=shape.ink)
    lines.set("points", _places(shape.places))
    lines.set("stroke-linejoin", "round")
    return lines


@_element.register
def _(shape: Polygon) -> Element:
    area = _written("polygon", {}, fill=shape.fill)
    area.set("points", _places(shape.corners))
    return area


@_element.register
def _(shape: Box) -> Element:
    sides = {"x": shape.x, "y": shape.y, "width": shape.width, "height": shape.height}
    return _written("rect", sides, fill=shape.fill)


@_element.register
def _(shape: Disc) -> Element:
    # SVG draws a rim on both sides of its line.
    radius = shape.radius - (0 if shape.rim is None else shape.rim_width / 2)
    place = {"cx": shape.x, "cy": shape.y, "r": radius}
    if shape.rim is None:
        return _written("circle", place, fill=shape.fill)
    lines = {**place, "stroke-width": shape.rim_width}
    return _written("circle", lines, fill=shape.fill, stroke=shape.rim)


@_element.register
def _(shape: Words) -> Element:
    place = {"x": shape.x, "y": shape.y, "font-size": shape.size}
    text = _written("text", place, fill=shape.ink)
    text.set("text-anchor", shape.anchor)
    text.set("dominant-baseline", "central")
    text.text = shape.text
    return text


def _places(places: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in places)


def _written(tag: str, numbers: dict[str, float], **colours: Colour | None) -> Element:
    attributes = {name: _number(value) for name, value in numbers.items()}
    return Element(tag, attributes | {name: _colour(value) for name, value in colours.items()})


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _colour(colour: Colour | None) -> str:
    return "none" if colour is None else "#{:02x}{:02x}{:02x}".format(*colour)
