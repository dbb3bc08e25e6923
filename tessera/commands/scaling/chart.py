"""The picture of the fits: excess above the known floor, and loss, over tokens; both logarithmic.

Every model has a mark and a colour of its own; which fit a line is, its strokes say. A ring with a
cross is what the law above the known floor says of the largest rung, fitted without it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tessera.commands.scaling.fits import Fits
from tessera.commands.scaling.laws import FREE, KNOWN, Law
from tessera.play.axes import Axis, short
from tessera.play.shapes import INK, PAPER, Box, Colour, Disc, Drawing, Line, Shape, Words

_WIDTH, _PLOT = 600, 330  # of the picture; height of a plot without what is around it
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 20, 34, 50
_TITLE, _WORDS, _NUMBERS = 16, 13, 12  # heights of the fonts
_ENTRY = 20  # height of a line of the legend
_GRID: Colour = (222, 218, 210)
_FLOOR: Colour = (110, 104, 98)
# Okabe and Ito's, darker: told apart by every kind of eye.
_COLOURS: tuple[Colour, ...] = (
    (0, 92, 178),
    (196, 84, 0),
    (0, 128, 96),
    (160, 70, 130),
    (30, 28, 26),
    (120, 96, 0),
)
_Strokes: TypeAlias = tuple[float, float]
_Curve: TypeAlias = Callable[[float], float]  # of tokens
_BEYOND = 1.6  # lines go on behind the largest rung
_STEPS = 60
# Pixels drawn and left out, and what they mean.
_STROKES: dict[str, _Strokes] = {KNOWN: (1.0, 0.0), FREE: (9.0, 5.0), "": (2.5, 4.0)}
_DESIGN = (16.0, 4.0)


@dataclass(frozen=True)
class _Series:
    """One model: its points, and its curves by the strokes that they are drawn with."""

    name: str
    colour: Colour
    mark: int
    points: list[tuple[float, float]]
    curves: list[tuple[_Strokes, _Curve]]
    predicted: list[tuple[float, float]]


@dataclass(frozen=True)
class _Side:
    """A logarithmic axis in pixels, from its least number to its largest."""

    axis: Axis
    first: float
    last: float

    def at(self, number: float) -> float:
        """Where a number is."""
        return self.first + self.axis.part(number) * (self.last - self.first)

    def has(self, number: float) -> bool:
        """Whether it has a place."""
        return self.axis.low <= number <= self.axis.high


def scaling_chart(all_fits: Sequence[Fits]) -> Drawing:
    """Both plots above each other, and a legend."""
    excess, loss = list(_series(all_fits, True)), list(_series(all_fits, False))
    games = all_fits[0].row.games.replace("×", "x")  # the font of a PNG has no such letters
    floors = list(dict.fromkeys(fits.row.truth for fits in all_fits))
    plots = [
        *_plot(excess, [], 0, f"Excess above the known floor, nats ({games})"),
        *_plot(loss, floors, _PLOT + _TOP + _BOTTOM, f"Loss, nats ({games})"),
    ]
    top = 2 * (_PLOT + _TOP + _BOTTOM) + 6
    legend = list(_legend(excess, all_fits, top))
    height = top + 10 + _ENTRY * (len(excess) + 2 + len(_kinds(all_fits)))
    told = f"How the loss of {', '.join(each.name for each in excess)} falls with tokens: {games}"
    paper = Box(0, 0, _WIDTH, height, PAPER)
    return Drawing(_WIDTH, height, told, [paper, *plots, *legend])


def _series(all_fits: Sequence[Fits], is_excess: bool) -> Iterator[_Series]:
    nth = itertools.count()
    for fits in all_fits:
        sizes = fits.row.sizes
        lower = fits.row.truth if is_excess else 0.0
        for group in fits.groups:
            for size in group.sizes:
                number = next(nth)
                runs = [run for run in group.runs if run.parameters == size]
                line = fits.trends[size]["excess" if is_excess else "loss"].line
                curves: list[tuple[_Strokes, _Curve]] = [(_DESIGN, line.at)]
                for law in group.laws:
                    strokes = _STROKES.get(law.floor, _STROKES[""])
                    curves.append((strokes, _above(lower, law, size)))
                predicted = [
                    (float(held.tokens), held.predicted + fits.row.truth - lower)
                    for law in group.laws
                    if law.floor == KNOWN
                    for held in law.held_out
                    if held.parameters == size
                ]
                yield _Series(
                    fits.row.name if len(sizes) == 1 else f"{fits.row.name}, N = {short(size)}",
                    _COLOURS[number % len(_COLOURS)],
                    number,
                    [(x.tokens, x.excess_nats if is_excess else x.loss) for x in runs],
                    curves,
                    predicted,
                )


def _above(lower: float, law: Law, size: int) -> _Curve:
    return lambda tokens: law.loss_at(size, tokens) - lower


def _plot(
    series: Sequence[_Series], floors: Sequence[float], top: float, title: str
) -> Iterator[Shape]:
    points = [point for each in series for point in each.points]
    tokens, values = [x for x, _ in points], [y for _, y in points]
    left, right, high, low = _LEFT, _WIDTH - _RIGHT, top + _TOP, top + _TOP + _PLOT
    across = _Side(Axis.around([min(tokens), max(tokens) * _BEYOND], True), left, right)
    said = [value for each in series for _, value in each.predicted if value > 0]
    up = _Side(Axis.around([*values, *floors, *said], True), low, high)
    yield Words(left, top + 18, title, _TITLE, INK, "start")
    for tick, text in across.axis.ticks():
        yield Line(across.at(tick), high, across.at(tick), low, 1, _GRID)
        yield Words(across.at(tick), low + 14, text, _NUMBERS)
    for tick, text in up.axis.ticks():
        yield Line(left, up.at(tick), right, up.at(tick), 1, _GRID)
        yield Words(left - 6, up.at(tick), text, _NUMBERS, INK, "end")
    yield Words((left + right) / 2, low + 34, "tokens trained on", _WORDS)
    for floor in floors:
        yield Line(left, up.at(floor), right, up.at(floor), 2, _FLOOR)
        words = f"known floor {floor:.4f}"
        yield Words(left + 6, up.at(floor) - 10, words, _NUMBERS, _FLOOR, "start")
    yield Line(left, low, right, low, 1)
    yield Line(left, high, left, low, 1)
    for each in series:
        for strokes, curve in each.curves:
            yield from _curve(curve, strokes, across, up, each.colour)
    for each in series:
        for x, y in each.predicted:
            if y > 0 and up.has(y):
                yield from _predicted(across.at(x), up.at(y), each.colour)
        for x, y in each.points:
            yield from _mark(across.at(x), up.at(y), each.mark, each.colour)


def _curve(
    curve: _Curve,
    strokes: _Strokes,
    across: _Side,
    up: _Side,
    colour: Colour,
) -> Iterator[Line]:
    """The curve where it is within the plot, in strokes of these lengths."""
    ends = across.axis
    ratio = ends.high / ends.low
    tokens = [ends.low * ratio ** (step / _STEPS) for step in range(_STEPS + 1)]
    places = [(across.at(n), curve(n)) for n in tokens]
    on, off = strokes
    width = 1.2 if strokes == _DESIGN else 2.0
    walked = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(places):
        if min(y0, y1) <= 0 or not (up.has(y0) and up.has(y1)):
            continue
        a, b = up.at(y0), up.at(y1)
        if not off:
            yield Line(x0, a, x1, b, width, colour)
            continue
        length, done = math.hypot(x1 - x0, b - a), 0.0
        while done < length:
            phase = walked % (on + off)
            step = min(length - done, (on if phase < on else on + off) - phase + 1e-9)
            if phase < on:
                p, q = done / length, (done + step) / length
                yield Line(
                    x0 + p * (x1 - x0),
                    a + p * (b - a),
                    x0 + q * (x1 - x0),
                    a + q * (b - a),
                    width,
                    colour,
                )
            done, walked = done + step, walked + step


def _mark(x: float, y: float, nth: int, colour: Colour) -> Iterator[Shape]:
    """A disc, a square, a ring, or a cross."""
    kind = nth % 4
    if kind == 0:
        yield Disc(x, y, 5, colour, PAPER, 1)
    elif kind == 1:
        yield Box(x - 5, y - 5, 10, 10, PAPER)
        yield Box(x - 4, y - 4, 8, 8, colour)
    elif kind == 2:
        yield Disc(x, y, 5, PAPER, colour, 2)
    else:
        yield Line(x - 4, y - 4, x + 4, y + 4, 2.5, colour)
        yield Line(x - 4, y + 4, x + 4, y - 4, 2.5, colour)


def _predicted(x: float, y: float, colour: Colour) -> Iterator[Shape]:
    yield Disc(x, y, 9, None, colour, 1.5)
    yield Line(x - 9, y, x + 9, y, 1, colour)
    yield Line(x, y - 9, x, y + 9, 1, colour)


def _kinds(all_fits: Sequence[Fits]) -> list[tuple[_Strokes, str]]:
    """The strokes of each kind of line, and what it is."""
    kinds = []
    for law in all_fits[0].groups[0].laws:
        of_size = " + A/N^alpha" if law.alpha else ""
        words = {KNOWN: "the known floor", FREE: "a floor that was fitted too"}
        floor = words.get(law.floor, f"a floor of {law.floor}")
        kinds.append((_STROKES.get(law.floor, _STROKES[""]), f"{floor}{of_size} + B/D^beta"))
    return [*kinds, (_DESIGN, "ln L = alpha ln n + ln A, without a floor")]


def _legend(series: Sequence[_Series], all_fits: Sequence[Fits], top: float) -> Iterator[Shape]:
    y = top + 8.0
    for each in series:
        yield from _mark(_LEFT + 14, y, each.mark, each.colour)
        yield Words(_LEFT + 40, y, each.name, _WORDS, INK, "start")
        y += _ENTRY
    for (on, off), words in _kinds(all_fits):
        x = float(_LEFT)
        while x < _LEFT + 30:
            end = _LEFT + 30 if not off else min(x + on, _LEFT + 30)
            yield Line(x, y, end, y, 1.2 if (on, off) == _DESIGN else 2.0)
            x = end + (off or 1)
        yield Words(_LEFT + 40, y, words, _WORDS, INK, "start")
        y += _ENTRY
    yield from _predicted(_LEFT + 14, y, INK)
    words = "the largest rung as the others predict it, with the known floor"
    yield Words(_LEFT + 40, y, words, _WORDS, INK, "start")
