"""A chart has every figure where its numbers say, and every row's name beside it."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from tessera.play.axes import Axis, short
from tessera.play.chart import Chart, Mark, Series, chart_drawing, front_of
from tessera.play.pixels import drawn
from tessera.play.shapes import Box, Disc, Drawing, Line, Point, Polygon, Polyline, Words
from tessera.play.svg import svg


def chart(series: list[Series], is_log: bool = True, front: bool = True) -> Drawing:
    marks = [mark for each in series for mark in each.marks]
    heights = [y for mark in marks for y in (mark.y, *(mark.spread or ()))]
    axes = [Axis.around(numbers, is_log) for numbers in ([mark.x for mark in marks], heights)]
    places = front_of([(mark.x, mark.y) for mark in marks]) if front else []
    return chart_drawing(Chart("Of rows.", "a note", "FLOPs", "nats", *axes, series, places))


def places(drawing: Drawing) -> list[tuple[float, float]]:
    """Of marks that are discs, which rows of the first style are."""
    points = [shape for shape in drawing.shapes if isinstance(shape, Point)]
    return [(x.x, x.y) for point in points for x in point.shapes if isinstance(x, Disc)]


def test_equal_factors_are_equal_lengths_on_logarithmic_axes() -> None:
    marks = tuple(Mark(10.0**n, 2.0**-n) for n in range(4))
    found = places(chart([Series("a", marks, 0)]))
    for axis in (0, 1):
        steps = [b[axis] - a[axis] for a, b in itertools.pairwise(found)]
        assert steps == pytest.approx([steps[0]] * 3) and steps[0] > 20


def test_a_mark_lies_at_its_tick() -> None:
    drawing = chart([Series("a", (Mark(0, 3), Mark(10, 5), Mark(4, 4)), 0)], is_log=False)
    words = [x for x in drawing.shapes if isinstance(x, Words)]
    x, y = places(drawing)[2]
    at_the_left, below = (word for word in words if word.text == "4")
    assert (below.x, at_the_left.y) == pytest.approx((x, y))


def test_bars_and_rings_are_around_their_mark_and_many_marks_are_a_line() -> None:
    few = (Mark(1, 1, (0.5, 2), is_ringed=True), Mark(2, 3))
    many = tuple(Mark(1 + n, 1 + n % 2) for n in range(30))
    drawing = chart([Series("few", few, 0, True), Series("many", many, 7, True)], front=False)
    points = [shape for shape in drawing.shapes if isinstance(shape, Point)]
    assert [point.vertex for point in points] == ["few", "few", "many"]
    bar, ring, disc = points[0].shapes
    assert isinstance(bar, Line) and isinstance(ring, Disc) and isinstance(disc, Disc)
    assert (bar.y0 + bar.y1) / 2 == pytest.approx(disc.y) and bar.y0 > bar.y1
    assert (ring.x, ring.y) == (disc.x, disc.y) and ring.radius > disc.radius
    lines = [x for x in drawing.shapes if isinstance(x, Polyline) and x.width == 2]
    assert [len(line.places) for line in lines] == [2, 30]
    assert "<title>few: 1 at 1</title>" in svg(drawing).decode()


@pytest.mark.parametrize("rows", [1, 6, 35])
def test_names_do_not_lie_on_each_other_and_no_two_rows_look_alike(rows: int) -> None:
    series = [Series(f"row_{n}_{'x' * n}", (Mark(1 + n, 1 + n / 1e3),), n) for n in range(rows)]
    drawing = chart(series)
    names = [x for x in drawing.shapes if isinstance(x, Words) and x.text.startswith("row_")]
    assert len(names) == rows and all(len(x.text) <= 26 for x in names)
    heights = sorted(x.y for x in names)
    assert all(b - a >= 14.9 for a, b in itertools.pairwise(heights))
    assert all(0 < height < drawing.height for height in heights)
    assert all(x.x + 0.56 * 12 * len(x.text) <= drawing.width for x in names)
    looks = set()
    for shape in drawing.shapes:
        if isinstance(shape, Point):
            form = shape.shapes[-1]
            assert isinstance(form, Disc | Box | Polygon)
            corners = form.corners if isinstance(form, Polygon) else ()
            is_up = bool(corners) and corners[0][1] > corners[2][1]
            looks.add((type(form), form.fill, len(corners), is_up))
    assert len(looks) == rows
    assert drawn(drawing).size == (600, drawing.height)


def test_the_front_is_what_nothing_else_beats() -> None:
    generator = random.Random(1)
    every = [(generator.random(), generator.random()) for _ in range(200)] + [(0.5, 0.5)] * 2

    def is_beaten(place: tuple[float, float]) -> bool:
        others = (other for other in every if other != place)
        return any(x <= place[0] and y <= place[1] for x, y in others)

    assert front_of(every) == sorted({place for place in every if not is_beaten(place)})
    assert len(front_of(every)) >= 3 and front_of([]) == []


def test_ticks_are_round_numbers_of_which_there_are_some() -> None:
    generator = random.Random(2)
    for is_log in (False, True):
        for _ in range(200):
            low = 10 ** generator.uniform(-6, 18)
            axis = Axis.around([low, low * 10 ** generator.uniform(0, 8)], is_log)
            ticks = axis.ticks()
            assert 2 <= len(ticks) <= 11, axis
            assert all(axis.low <= number <= axis.high for number, _ in ticks)
            assert len({text for _, text in ticks}) == len(ticks), axis
    assert [text for _, text in Axis.around([0.002, 30], True).ticks()] == [
        *("0.01", "0.1", "1", "10"),
    ]
    own = ((0.0, "few"), (1.0, "many"))
    assert Axis.around([0, 1], at=own).ticks() == list(own)
    texts = [short(x) for x in (0.002, 0, 999, 1_000, 20_000, 1.5e6, 3e15, 1e21)]
    assert texts == ["0.002", "0", "999", "1k", "20k", "1.5M", "3P", "1e+21"]


def test_what_a_logarithm_has_no_place_for_is_at_the_edge() -> None:
    axis = Axis.around([-1, 0, 1, 10], True)
    assert axis.part(-1) == axis.part(0) == 0 < axis.part(1) < axis.part(10) < 1
    assert math.isclose(axis.part(1), 1 - axis.part(10))
    with pytest.raises(ValueError, match="needs a number"):
        Axis.around([-1.0], True)
