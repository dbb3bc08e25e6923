"""Elo ratings of several players from all games between them, with their errors.

Shapes: M players, K = M - 1 + 1 unknowns (the ratings but the first, and black's advantage).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tessera.play.intervals import Z_95

_SCALE = math.log(10) / 400  # Elo in nats of the odds
_MOST_ELO = 4000.0  # beyond it there is no end
_STEPS = 200
_PRECISION = 1e-10


@dataclass(frozen=True, slots=True)
class Game:
    """Who played whom, by their numbers, and black's points: 1, 0.5 or 0."""

    black: int
    white: int
    points: float


@dataclass(frozen=True, slots=True)
class Ratings:
    """What games say of the players' strength.

    Attributes:
        elo: of each player; their mean is 0.
        covariance: (M, M) of them, in Elo squared.
        black_elo: what having black is worth, at this komi.
        black_error: half the width of its 95 % interval.
        is_bounded: False if the likelihood had no maximum, because somebody won or lost all games:
            then one drawn game stands beside those of each two who played, half of it with either
            colour, and differences are at least these.
    """

    elo: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    black_elo: float
    black_error: float
    is_bounded: bool

    def error(self, player: int) -> float:
        """Half the width of the 95 % interval of a player's rating."""
        return Z_95 * math.sqrt(max(0.0, self.covariance[player][player]))

    def difference(self, one: int, other: int) -> tuple[float, float]:
        """How much stronger one is than the other, and half the width of the 95 % interval."""
        rows = self.covariance
        variance = rows[one][one] + rows[other][other] - 2 * rows[one][other]
        return self.elo[one] - self.elo[other], Z_95 * math.sqrt(max(0.0, variance))


def rate(num_players: int, games: Iterable[Game]) -> Ratings:
    """The ratings under which the games are likeliest.

    Black wins with probability 1 / (1 + 10^-(d / 400)), d being its rating minus white's plus
    black's advantage, the same for all; a draw is half a win and half a loss. Games are taken as
    if they did not depend on each other.

    Args:
        num_players: M, at least 2; each must have played, and all be linked by games.
        games: between players 0 to M - 1.

    Source: Bradley and Terry 1952; Davidson and Beaver 1977 for the first player's term.
    """
    counted: dict[tuple[int, int], tuple[float, float]] = {}
    for game in games:
        number, points = counted.get((game.black, game.white), (0.0, 0.0))
        counted[game.black, game.white] = number + 1, points + game.points
    return rate_counts(num_players, counted)


def rate_counts(num_players: int, counts: Mapping[tuple[int, int], tuple[float, float]]) -> Ratings:
    """The same of games that were counted.

    Args:
        num_players: as for ``rate``.
        counts: how many games, and black's points in them, by black and white.
    """
    counted = dict(counts)
    found = _likeliest(num_players, counted)
    is_bounded = found is not None
    if found is None:
        met = {frozenset(key) for key in counted}
        for one, other in map(sorted, met):
            for key in ((one, other), (other, one)):
                number, points = counted.get(key, (0.0, 0.0))
                counted[key] = number + 0.5, points + 0.25
        found = _likeliest(num_players, counted)
        assert found is not None
    unknowns, covariance = found
    # To the mean of all players, the first of whom was held at 0.
    to_mean = np.zeros((num_players + 1, num_players))
    to_mean[1:num_players, : num_players - 1] = np.eye(num_players - 1)
    to_mean[:num_players] -= to_mean[:num_players].mean(0)
    to_mean[num_players, num_players - 1] = 1
    values = to_mean @ unknowns
    spread = to_mean @ covariance @ to_mean.T
    rows = tuple(tuple(map(float, row[:num_players])) for row in spread[:num_players])
    black_error = Z_95 * math.sqrt(max(0.0, spread[num_players, num_players]))
    elo = tuple(map(float, values[:num_players]))
    return Ratings(elo, rows, float(values[num_players]), black_error, is_bounded)


def _likeliest(
    num_players: int, counted: dict[tuple[int, int], tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The unknowns (K,) in Elo and their covariance (K, K); None if there is no maximum.

    Args:
        counted: games, and black's points in them, by black and white.
    """
    rows = np.zeros((len(counted), num_players))
    for row, (black, white) in zip(rows, counted, strict=True):
        row[-1] = 1
        for player, sign in ((black, 1), (white, -1)):
            if player:
                row[player - 1] += sign
    numbers, points = np.array(list(counted.values()), dtype=float).reshape(-1, 2).T
    unknowns = np.zeros(num_players)
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-_SCALE * (rows @ unknowns)))
        slope = _SCALE * rows.T @ (points - numbers * chances)
        information = _SCALE**2 * rows.T @ (rows * (numbers * chances * (1 - chances))[:, None])
        try:
            step = np.linalg.solve(information, slope)
        except np.linalg.LinAlgError:
            return None
        # A whole step from afar may lead away.
        step *= min(1.0, 200 / max(1e-300, float(np.abs(step).max())))
        unknowns = unknowns + step
        if not np.isfinite(unknowns).all() or np.abs(unknowns).max() > _MOST_ELO:
            return None
        if np.abs(step).max() < _PRECISION * _MOST_ELO:
            return unknowns, np.linalg.inv(information)
    return None
