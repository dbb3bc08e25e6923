"""The picture of a map in pixels and as SVG: every point, every sign, and text that stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tessera.play.map import PlayedOut, PositionMap
from tessera.play.map_drawing import map_drawing
from tessera.play.picture import drawn
from tessera.play.shapes import Box, Disc, Drawing, Line, Point, Words
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


def played_out(size: int = 9) -> PlayedOut:
    """Black's are A1 and the likely C3 for sure, white's B1 in three of four; C1 is neither's."""
    vocabulary = Vocabulary(size)
    ownership = torch.zeros(size, size, dtype=torch.float64)
    for vertex, owner in (("A1", 1.0), ("C3", 1.0), ("B1", -0.5), ("A2", -1.0), ("C1", 0.01)):
        ownership.view(-1)[vocabulary.token(vertex)] = owner
    return PlayedOut(1000, 0.25, (0.22, 0.28), -3.25, 0.75, ownership)


def test_ownership_has_a_board_of_its_own_with_squares() -> None:
    position = replace(some_map(), played_out=played_out())
    drawing, alone = map_drawing(position), map_drawing(some_map())
    assert drawing.height > alone.height + 600 and drawing.width == 600
    points = [shape for shape in drawing.shapes if isinstance(shape, Point)]
    first, second = ({p.vertex: p for p in points[:81]}, {p.vertex: p for p in points[81:]})
    assert len(points) == 162 and first == points_of(alone)
    kinds = {name: [type(shape) for shape in point.shapes] for name, point in second.items()}
    assert kinds["A1"] == kinds["B1"] == [Disc, Box, Box], "a stone, a rim and a square"
    assert kinds["C3"] == kinds["A2"] == [Box, Box] and kinds["C1"] == kinds["B2"] == []
    sides = {name: point.shapes[-1].width for name, point in second.items() if point.shapes}
    assert sides["A1"] == sides["C3"] == sides["A2"] > 1.5 * sides["B1"]
    fills = {name: sum(point.shapes[-1].fill) for name, point in second.items() if point.shapes}
    assert fills["A1"] == fills["C3"] < 120 and fills["B1"] == fills["A2"] > 700
    assert second["B1"].told == "B1, black, black's 25.0 %"
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Words)]
    assert "Whose each point is at the end of 1,000 playouts" in texts
    said = " ".join(texts)
    assert "black wins 25.0 % (22.0 to 28.0)" in said and "W+3.2 (± 0.8)" in said


def test_the_models_ownership_stands_between_the_map_and_the_playouts() -> None:
    ownership = torch.zeros(9, 9)
    ownership[8, 0], ownership[6, 2] = -0.9, 0.5  # A1 and C3
    position = replace(some_map(), ownership=ownership)
    drawing = map_drawing(position)
    points = [shape for shape in drawing.shapes if isinstance(shape, Point)]
    own = {point.vertex: point for point in points[81:]}
    assert len(points) == 162 and own["C3"].told == "C3, black's 75.0 %"
    assert sum(own["C3"].shapes[-1].fill) < 120 and sum(own["A1"].shapes[-1].fill) > 700
    both = map_drawing(replace(position, played_out=played_out()))
    titles = [shape.text for shape in both.shapes if isinstance(shape, Words)]
    at = [
        titles.index(f"Whose each point {more}")
        for more in ("will be, says the model", "is at the end of 1,000 playouts")
    ]
    assert at == sorted(at) and titles.count("the larger, the surer") == 1
    points = [shape for shape in both.shapes if isinstance(shape, Point)]
    told = [point.told for point in points[81:162]]
    assert told == [point.told for point in own.values()] and len(points) == 243


def test_the_squares_are_seen_on_wood_and_on_stones_of_both_colours() -> None:
    ownership = torch.ones(9, 9, dtype=torch.float64)
    whites = replace(played_out(), ownership=-ownership)
    blacks = replace(played_out(), ownership=ownership)
    low = round(map_drawing(some_map()).height)
    seen = {}
    for name, played in (("black", blacks), ("white", whites)):
        image = pixels(replace(some_map(), played_out=played))
        start = len(image) - (len(pixels(replace(some_map(), played_out=played_out()))) - low)
        second = image[start:]
        for vertex in ("A1", "B1", "E5"):
            seen[name, vertex] = cell(second, vertex)[30, 8:53].sum(1)
    for vertex in ("A1", "B1", "E5"):
        assert seen["black", vertex].min() < 120 and seen["white", vertex].max() > 700
        for name in ("black", "white"):
            assert np.ptp(seen[name, vertex]) > 200, "a rim, or another ground"


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
    position = replace(position, played_out=played_out(size) if size > 2 else None)
    drawing = map_drawing(position)
    for shape in drawing.shapes:
        if isinstance(shape, Words):
            half = 0.3 * shape.size * len(shape.text)  # of the widest of fonts about as much
            left = {"start": shape.x, "middle": shape.x - half, "end": shape.x - 2 * half}
            assert left[shape.anchor] >= -1 and left[shape.anchor] + 2 * half <= 601, shape
            assert shape.size / 2 <= shape.y <= drawing.height - shape.size / 2, shape
