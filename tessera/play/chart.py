"""A chart: rows of figures as marks and lines, each with its name at the right edge.

Which row a mark belongs to is said by its form and its colour, both of them, and by a thin line
from the row's last mark to its name. The colours are those of Okabe and Ito without yellow, which
every kind of eye tells apart (https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tessera.play.axes import Axis, short
from tessera.play.shapes import (
    INK,
    PAPER,
    Box,
    Colour,
    Disc,
    Drawing,
    Line,
    Point,
    Polygon,
    Polyline,
    Shape,
    Words,
)

_WIDTH, _HEIGHT = 600, 400  # of a chart with its words, in pixels
_LEFT, _TOP, _BOTTOM = 62, 70, 52  # around the plot
_TITLE, _WORDS, _NUMBERS = 16, 13, 12  # heights of the fonts
_LETTER = 0.56  # width of a letter over the height of its font
_NAME = 15  # height of a row's name
_MOST_LETTERS = 26  # of a row's name
_RADIUS = 4.5  # of a mark
_MOST_MARKS = 8  # of a row that are drawn on its line
_GRID: Colour = (226, 222, 214)
_LEADER: Colour = (204, 200, 194)
_FRONT: Colour = (120, 116, 110)
_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
)
_FORMS = ("disc", "square", "triangle", "diamond", "wedge")


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure.

    Attributes:
        x: where it is along the lower side.
        y: how high.
        spread: the least and the largest y of a bar through it; None without.
        is_ringed: whether a ring singles it out.
    """

    x: float
    y: float
    spread: tuple[float, float] | None = None
    is_ringed: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one row.

    Attributes:
        name: of the row.
        marks: from left to right.
        style: a number: the same in two charts is the same form and colour.
        line: whether they are joined; of many marks only the last one is drawn then.
    """

    name: str
    marks: tuple[Mark, ...]
    style: int
    line: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn.

    Attributes:
        title: a sentence.
        note: below the title, smaller; may be empty.
        x_words: what the lower side says.
        y_words: what the left side says.
        x: the lower side.
        y: the left side.
        series: every row; at least one mark in all.
        front: of places (x, y), joined by steps behind the rows; may be empty.
    """

    title: str
    note: str
    x_words: str
    y_words: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    front: Sequence[tuple[float, float]] = ()


def front_of(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front: those that no other place is left of and below, or one and level.

    Returns:
        from left to right, each lower than the one before.
    """
    found: list[tuple[float, float]] = []
    for x, y in sorted(places):
        if not found or y < found[-1][1]:
            found.append((x, y))
    return found


def chart_drawing(chart: Chart) -> Drawing:
    """The chart as shapes, 600 pixels wide, higher if many names need the room."""
    return _Plot(chart).drawing()


class _Plot:
    """Places of one chart in pixels."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.series = [series for series in chart.series if series.marks]
        longest = max((len(_name(series.name)) for series in self.series), default=0)
        right = _WIDTH - 8 - (longest * _LETTER * _NUMBERS + 40)
        self.left, self.right, self.top = _LEFT, right, _TOP
        self.height = max(_HEIGHT, _TOP + _BOTTOM + _NAME * len(self.series))
        self.bottom = self.height - _BOTTOM

    def drawing(self) -> Drawing:
        """Everything, from the paper up."""
        shapes = [
            Box(0, 0, _WIDTH, self.height, PAPER),
            *self._frame(),
            *self._front(),
            *self._lines(),
            *self._names(),
            *self._marks(),
        ]
        return Drawing(_WIDTH, self.height, self.chart.title, shapes)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across, up = self.chart.x.part(x), self.chart.y.part(y)
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )

    def _frame(self) -> Iterator[Shape]:
        chart = self.chart
        yield Words(8, 20, chart.title, _TITLE, INK, "start")
        if chart.note:
            yield Words(8, 40, chart.note, _NUMBERS, _FRONT, "start")
        yield Words(8, self.top - 13, chart.y_words, _WORDS, INK, "start")
        yield Words((self.left + self.right) / 2, self.height - 14, chart.x_words, _WORDS)
        for number, text in chart.y.ticks():
            _, y = self._place(chart.x.low, number)
            yield Line(self.left, y, self.right, y, 1, _GRID)
            yield Words(self.left - 6, y, text, _NUMBERS, INK, "end")
        last = -math.inf
        for number, text in chart.x.ticks():
            x, _ = self._place(number, chart.y.low)
            yield Line(x, self.top, x, self.bottom, 1, _GRID)
            half = len(text) * _LETTER * _NUMBERS / 2
            if x - half > last + 4:  # neighbours' numbers would touch each other
                yield Words(x, self.bottom + 14, text, _NUMBERS)
                last = x + half
        yield Line(self.left, self.bottom, self.right, self.bottom, 1)
        yield Line(self.left, self.top, self.left, self.bottom, 1)

    def _front(self) -> Iterator[Shape]:
        places = [self._place(*place) for place in self.chart.front]
        if not places:
            return
        steps = [(places[0][0], self.top), places[0]]
        for x, y in places[1:]:
            steps += [(x, steps[-1][1]), (x, y)]
        steps.append((self.right, steps[-1][1]))
        yield Polyline(tuple(steps), 1.5, _FRONT)

    def _lines(self) -> Iterator[Shape]:
        for series in self.series:
            if series.line and len(series.marks) > 1:
                places = tuple(self._place(mark.x, mark.y) for mark in series.marks)
                yield Polyline(places, 2, _COLOURS[series.style % len(_COLOURS)])

    def _marks(self) -> Iterator[Shape]:
        for series in self.series:
            ink = _COLOURS[series.style % len(_COLOURS)]
            is_curve = series.line and len(series.marks) > _MOST_MARKS
            for mark in series.marks[-1:] if is_curve else series.marks:
                x, y = self._place(mark.x, mark.y)
                shapes: list[Line | Polyline | Polygon | Box | Disc | Words] = []
                if mark.spread is not None:
                    ends = [self._place(mark.x, end)[1] for end in mark.spread]
                    shapes.append(Line(x, ends[0], x, ends[1], 1.5, ink))
                if mark.is_ringed:
                    shapes.append(Disc(x, y, 2 * _RADIUS, None, INK, 1.5))
                shapes.append(_form(series.style, x, y))
                told = f"{series.name}: {mark.y:.4g} at {short(mark.x)}"
                yield Point(series.name, told, tuple(shapes))

    def _names(self) -> Iterator[Shape]:
        """Names beside the last marks, moved apart where they would lie on each other."""
        ends = sorted(
            (
                (self._place(series.marks[-1].x, series.marks[-1].y), series)
                for series in self.series
            ),
            key=lambda end: end[0][1],
        )
        heights = _apart([y for (_, y), _ in ends], _NAME, self.top, self.bottom)
        for ((x, y), series), height in zip(ends, heights, strict=True):
            yield Polyline(
                ((x, y), (self.right + 6, height), (self.right + 12, height)), 1, _LEADER
            )
            yield _form(series.style, self.right + 18, height)
            name = _name(series.name)
            yield Words(self.right + 28, height, name, _NUMBERS, INK, "start")


def _apart(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Ascending places, each near the wanted one, none nearer to another than the distance."""
    found: list[float] = []
    for place in wanted:
        found.append(max(place, found[-1] + distance if found else low))
    limit = max(high, low + distance * (len(found) - 1))
    for nth in reversed(range(len(found))):
        found[nth] = min(found[nth], limit)
        limit = found[nth] - distance
    return found


def _name(name: str) -> str:
    if len(name) <= _MOST_LETTERS:
        return name
    return f"{name[: _MOST_LETTERS - 10]}..{name[-8:]}"


def _form(style: int, x: float, y: float) -> Disc | Box | Polygon:
    ink, form, r = _COLOURS[style % len(_COLOURS)], _FORMS[style % len(_FORMS)], _RADIUS
    if form == "disc":
        return Disc(x, y, r, ink)
    if form == "square":
        return Box(x - 0.85 * r, y - 0.85 * r, 1.7 * r, 1.7 * r, ink)
    if form == "diamond":
        return Polygon(
            ((x, y - 1.25 * r), (x + 1.25 * r, y), (x, y + 1.25 * r), (x - 1.25 * r, y)), ink
        )
    up = r if form == "triangle" else -r
    return Polygon(
        ((x - 1.1 * r, y + 0.8 * up), (x + 1.1 * r, y + 0.8 * up), (x, y - 1.1 * up)), ink
    )
