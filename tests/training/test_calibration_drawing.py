"""The picture of a calibration says what was found, where it was found."""

from __future__ import annotations

import itertools

import pytest

from tessera.play.picture import in_pixels
from tessera.play.shapes import Disc, Line, Words
from tessera.training.calibration import MOVE_BOUNDS, TOP_BOUNDS, Bin, Calibration
from tessera.training.calibration_drawing import calibration_drawing


def calibration(factor: float) -> Calibration:
    """Of one who says ``1 / factor`` of what is true."""

    def bins(bounds: tuple[float, ...]) -> tuple[Bin, ...]:
        ends = zip(bounds, (*bounds[1:], 1.0), strict=True)
        middles = [(low, high, (low + high) / 2) for low, high in ends]
        return tuple(
            Bin(low, high, 10**6, mean * 10**6, round(mean * 10**6 * factor), 1.0)
            for low, high, mean in middles
        )

    return Calibration(bins(MOVE_BOUNDS), bins(TOP_BOUNDS))


@pytest.mark.parametrize("factor", [1.0, 0.8])
def test_discs_lie_where_they_were_found_beside_the_line_of_the_true(factor: float) -> None:
    found = calibration(factor)
    drawing = calibration_drawing(found)
    slanting = [x for x in drawing.shapes if isinstance(x, Line) and x.x0 != x.x1 and x.y0 != x.y1]
    discs = [x for x in drawing.shapes if isinstance(x, Disc)]
    assert len(slanting) == 2 and len(discs) == 30
    for line, own in zip(slanting, (discs[:15], discs[15:]), strict=True):
        for disc in own:
            part = (disc.x - line.x0) / (line.x1 - line.x0)
            below = disc.y - (line.y0 + part * (line.y1 - line.y0))
            assert below == pytest.approx(0, abs=0.3) if factor == 1 else below > 0.3
    # Of the likeliest move the axes are even: a move said to be sure and played so often.
    last, line = discs[-1], slanting[1]
    height = (line.y0 - last.y) / (line.y0 - line.y1)
    assert height == pytest.approx(factor * 29 / 30, abs=1e-3)
    texts = [x.text for x in drawing.shapes if isinstance(x, Words)]
    assert texts.count("1.0M") == 30
    assert any(f"top_ece {100 * found.metrics()['top_ece']:.2f} %" in text for text in texts)


def test_the_bar_is_the_interval() -> None:
    few = Bin(0.4, 6 / 15, 10, 5.0, 5, 2.5)
    drawing = calibration_drawing(Calibration((few,), (few,)))
    (line,) = (
        x for x in drawing.shapes[-40:] if isinstance(x, Line) and x.width == 2 and x.x0 < 70
    )
    bars = [x for x in drawing.shapes if isinstance(x, Line) and x.x0 == x.x1 and x.width == 2]
    low, high = ((line.y0 - y) / (line.y0 - line.y1) for y in (bars[-1].y0, bars[-1].y1))
    assert (low, high) == pytest.approx(few.interval)


@pytest.mark.parametrize("count", [7, 949, 950, 9_499, 9_500, 94_000, 950_000, 94_000_000])
def test_counts_have_room_below_each_other(count: int) -> None:
    every, top = (
        tuple(Bin(x.low, x.high, count, x.mean * count, 0, 1.0) for x in bins)
        for bins in (calibration(1).moves, calibration(1).tops)
    )
    drawing = calibration_drawing(Calibration(every, top))
    rows = [
        x for x in drawing.shapes if isinstance(x, Words) and x.text[0].isdigit() and x.size < 13
    ]
    counts = [x for x in rows if "%" not in x.text]
    assert len(counts) == 30 and all(len(x.text) <= 4 for x in counts)
    for y in {x.y for x in counts}:
        row = sorted(x.x for x in counts if x.y == y)
        # A letter of this font is at most 0.62 of its height wide.
        assert all(b - a > 0.62 * 12 * len(counts[0].text) for a, b in itertools.pairwise(row))
    assert in_pixels(drawing).shape == (3, 840, 600)
