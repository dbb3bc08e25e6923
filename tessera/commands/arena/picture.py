"""The picture of a match of several: their ratings with intervals, in the command's order."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.play.axes import Axis
from tessera.play.chart import Chart, Mark, Series, chart_drawing
from tessera.play.ratings import Ratings
from tessera.play.shapes import Drawing


def ratings_drawing(labels: Sequence[str], found: Ratings, conditions: str) -> Drawing:
    """Everybody's Elo.

    Args:
        labels: of the players.
        found: their ratings.
        conditions: a line that is written below the title.
    """
    series: list[Series] = []
    ends: list[float] = []
    for nth, label in enumerate(labels):
        elo, error = found.elo[nth], found.error(nth)
        spread = (elo - error, elo + error)
        series.append(Series(label, (Mark(nth + 1, elo, spread),), nth))
        ends += spread
    places = tuple((nth + 1.0, str(nth + 1)) for nth in range(len(labels)))
    chart = Chart(
        title="Ratings by all games of the match",
        note=conditions,
        x_words="place in the command",
        y_words="Elo, 95 % intervals; the mean is 0",
        x=Axis.around([place for place, _ in places], at=places),
        y=Axis.around(ends),
        series=series,
    )
    return chart_drawing(chart)
