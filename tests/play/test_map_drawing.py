"""The picture of a map in pixels and as SVG: every point, every sign, and text that stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tessera.play.drawing import Disc, Drawing, Line, Point, Words
from tessera.play.map import PositionMap
from tessera.play.map_drawing import map_drawing
from tessera.play.picture import drawn
from tessera.play.svg import svg
from tessera.vocabulary import Vocabulary

SVG = "{http://www.w3.org/2000/svg}"


def some_map(size: int = 9, likely: str = "C3", share: float = 0.9) -> PositionMap:
    """A black stone at B1, a white one at A1, B2 illegal, A2 settled for black, one likely move."""
    vocabulary = Vocabulary(size)
    stones = torch.zeros(size, size, dtype=torch.int64)
    stones[size - 1, 1], stones[size - 1, 0] = 1, -1
    legal = torch.ones(size**2 + 1, dtype=torch.bool)
    for vertex in ("A1", "B1", "B2"):
        legal[vocabulary.token(vertex)] = False
    chances = legal.float() * (1 - share) / (len(legal) - 3)
    chances[vocabulary.token(likely)] += share
    settled = torch.zeros_like(stones)
    settled[size - 2, 0] = 1
    moves = [vocabulary.token("B1"), vocabulary.token("A1")]
    return PositionMap(stones, 0, moves, chances, legal, 0.75, settled, 0.25, -3.5)


def points_of(drawing: Drawing) -> dict[str, Point]:
    return {shape.vertex: shape for shape in drawing.shapes if isinstance(shape, Point)}


def cell(image: np.ndarray, vertex: str, size: int = 9) -> np.ndarray:
    """The pixels around a point in a picture of 600 pixels."""
    row, column = divmod(Vocabulary(size).token(vertex), size)
    side = 600 / (size + 1)
    y, x = (round(44 + (row + 0.5) * side), round((column + 0.5) * side))
    return image[y : y + round(side), x : x + round(side)]


def pixels(position: PositionMap) -> np.ndarray:
    return np.asarray(drawn(map_drawing(position))).astype(int)


def test_every_sign_is_told_apart_by_its_shape() -> None:
    points = points_of(map_drawing(some_map(share=0.5)))
    kinds = {name: [type(shape) for shape in point.shapes] for name, point in points.items()}
    assert kinds["C3"] == [Disc, Words], "likely: a disc and its percentage"
    assert kinds["E5"] == [Disc], "unlikely: a small disc"
    assert kinds["B2"] == [Line, Line], "illegal: a cross"
    assert kinds["B1"] == [Disc] and kinds["A1"] == [Disc, Disc], "stones, the last with a ring"
    (likely, label), (unlikely,) = points["C3"].shapes, points["E5"].shapes
    assert isinstance(likely, Disc) and isinstance(unlikely, Disc) and isinstance(label, Words)
    assert likely.radius > 2 * unlikely.radius
    assert likely.fill is not None and unlikely.fill is not None
    assert sum(likely.fill) + 200 < sum(unlikely.fill), "darker as well, for whoever sees no hue"
    assert label.text == "51"


def test_each_sign_is_seen_in_the_pixels() -> None:
    image = pixels(some_map())
    middles = {name: cell(image, name)[30, 30].tolist() for name in ("B1", "C3", "B2", "A1")}
    assert sum(middles["A1"]) > 700, "a white stone, within its ring"
    assert sum(middles["B1"]) < 120 and sum(middles["B2"]) < 120, "a black stone, and a cross"
    wood, settled = (cell(image, name)[6, 6] for name in ("H5", "A2"))
    assert np.ptp(wood) > 60 and np.ptp(settled) < 20, "a settled point is grey"


def test_pictures_differ_where_the_maps_do() -> None:
    one, other = pixels(some_map(likely="C3")), pixels(some_map(likely="G7"))
    assert one.shape == other.shape and one.shape[1] == 600
    for vertex in ("C3", "G7"):
        assert np.abs(cell(one, vertex) - cell(other, vertex)).max() > 100
    same = np.ones(one.shape[:2], dtype=bool)
    for vertex in ("C3", "G7"):
        row, column = divmod(Vocabulary(9).token(vertex), 9)
        same[44 + row * 60 + 30 : 44 + row * 60 + 90, column * 60 + 30 : column * 60 + 90] = False
    assert np.array_equal(one[same], other[same])


@pytest.mark.parametrize("size", [2, 9, 13, 19])
def test_an_svg_has_every_point_and_its_text(size: int) -> None:
    position = some_map(size, "A2" if size == 2 else "C3")
    root = ElementTree.fromstring(svg(map_drawing(position)))
    assert (root.tag, root.get("width")) == (f"{SVG}svg", "600")
    points = [group for group in root.iter(f"{SVG}g") if group.get("class") == "point"]
    vertices = [group.get("data-vertex") for group in points]
    assert vertices == [Vocabulary(size).vertex(point) for point in range(size**2)]
    told = {group.get("data-vertex"): group.findtext(f"{SVG}title") for group in points}
    assert told["A1"] == "A1, white, last move"
    assert told["B2"] == "B2, illegal, 0.00 %"
    assert "settled for black" in str(told["A2"])
    texts = [text.text for text in root.iter(f"{SVG}text")]
    letters = [vertex[0] for vertex in vertices[:size] if vertex]
    assert texts.count("9" if size > 8 else "2") == 1
    assert all(letter in texts for letter in letters)
    for said in ("Black to play after 2 moves", "illegal", "settled", "last move"):
        assert said in texts
    assert "Black wins 25.0 %, score W+3.5" in texts
    numbers = re.findall(r' (?:[xyr]|[cxy]+[12xy]?|width|height)="([^"]*)"', svg_text(position))
    assert numbers and all(re.fullmatch(r"-?\d+(\.\d+)?", number) for number in numbers)


def svg_text(position: PositionMap) -> str:
    return svg(map_drawing(position)).decode()


def test_an_svg_says_a_name_with_signs_of_its_own() -> None:
    drawing = Drawing(10, 10, "a < b & c", [Words(5, 5, "<&>", 3)])
    root = ElementTree.fromstring(svg(drawing))
    assert root.findtext(f"{SVG}title") == "a < b & c"
    assert root.findtext(f"{SVG}text") == "<&>"


def test_nobody_speaks_of_what_nobody_knows() -> None:
    texts = svg_text(replace(some_map(), settled=None, win=None, score=None))
    assert "settled" not in texts and "wins" not in texts
    assert "Given to what is no legal move: 25.0 %" in texts


@pytest.mark.parametrize("size", [2, 9, 19])
def test_nothing_is_drawn_beyond_the_edge(size: int) -> None:
    position = some_map(size, "A2" if size == 2 else "T19" if size == 19 else "C3")
    drawing = map_drawing(position)
    for shape in drawing.shapes:
        if isinstance(shape, Words):
            half = 0.3 * shape.size * len(shape.text)  # of the widest of fonts about as much
            left = {"start": shape.x, "middle": shape.x - half, "end": shape.x - 2 * half}
            assert left[shape.anchor] >= -1 and left[shape.anchor] + 2 * half <= 601, shape
            assert shape.size / 2 <= shape.y <= drawing.height - shape.size / 2, shape
