"""Playouts: games played to the end from given positions, and what is counted of them.

Shapes: B positions, K games of each, n rows (board size), P = n² points, G games played at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.go.branching import copies
from tessera.go.contract import whole_numbers
from tessera.go.engine import GPUGoEngine
from tessera.go.play import one_thread
from tessera.go.players import ExactPlayer, get_player
from tessera.go.randomness import MOVE, PLAYOUT, random_words
from tessera.setting_errors import whole_number

_GAMES_AT_ONCE = 4096  # enough to make torch's cost per call small; more falls out of the cache
_BYTES_AT_ONCE = 2**28
_KEEP_ABOVE = 0.8  # finished games are dropped once fewer than this share still go on
_MOST_NUMBER = 2**61  # so that no step from one to another overflows 64 bits


class NotWanted(Exception):
    """Nobody waits for the playouts any more."""


@dataclass(frozen=True, slots=True)
class Playouts:
    """What was counted over K games from each of B positions.

    All counts are whole numbers, so no order of adding shows in them: they are the same on every
    device. The means are made from them; each is NaN where there is nothing to make it from.

    Attributes:
        num_games: K, games of each position.
        komi: points for white, of the rules that were played by.
        plies: (B,) int64, plies of all games of a position together.
        wins: (B,) int64, games that black won.
        draws: (B,) int64, games without a winner.
        areas: (B,) int64, black's area minus white's in points, summed over the games.
        area_squares: (B,) int64, the squares of these differences, summed.
        owners: (B, n, n) int64, games at whose end a point was black's minus those where white's.
        first_moves: (B, P + 1) int64, games that began with this move, the last column is pass; K
            together, and 0 where the position was over.
        first_areas: (B, P + 1) int64, black's area minus white's, summed over these games.
    """

    num_games: int
    komi: float
    plies: Tensor
    wins: Tensor
    draws: Tensor
    areas: Tensor
    area_squares: Tensor
    owners: Tensor
    first_moves: Tensor
    first_areas: Tensor

    @property
    def win_rates(self) -> Tensor:
        """(B,) float64, black's share of the games, 0 to 1; a draw is half a win."""
        return (2 * self.wins + self.draws).double() / (2 * self.num_games)

    @property
    def win_rate_errors(self) -> Tensor:
        """(B,) float64, the standard error of ``win_rates``; NaN for one game alone.

        It is 0 where all games ended alike, however few they were.
        """
        return self._error(self.win_rates, (4 * self.wins + self.draws).double() / 4)

    @property
    def scores(self) -> Tensor:
        """(B,) float64, the mean result in points: black's area minus white's minus komi."""
        return self.areas.double() / self.num_games - self.komi

    @property
    def score_errors(self) -> Tensor:
        """(B,) float64, the standard error of ``scores`` in points; NaN for one game alone."""
        return self._error(self.areas.double() / self.num_games, self.area_squares.double())

    @property
    def ownership(self) -> Tensor:
        """(B, n, n) float64, whose a point was at the end: 1 always black's, -1 white's."""
        return self.owners.double() / self.num_games

    @property
    def move_scores(self) -> Tensor:
        """(B, P + 1) float64, the mean result in points of the games that began with this move."""
        return self.first_areas.double() / self.first_moves - self.komi

    def _error(self, means: Tensor, squares: Tensor) -> Tensor:
        """The standard error of means (B,) of the games, from the sums of their squares."""
        variances = (squares / self.num_games - means * means).clamp(min=0)
        return (variances / torch.full_like(means, self.num_games - 1)).sqrt()


def play_out(
    engine: GPUGoEngine,
    num_games: int,
    *,
    player: str = "rules",
    seed: int = 0,
    numbers: Tensor | None = None,
    first: int = 0,
    is_wanted: Callable[[], bool] | None = None,
) -> Playouts:
    """Play K games to their ends from each of an engine's positions, by the engine's rules.

    They go on from what the engine holds: the player to move, the passes, simple ko's point or
    the positions that superko forbids, and the plies played so far, of which ``max_moves`` are
    left. A position that is over gives its score K times. Does not wait for the device in Triton.

    Game k of position b is a pure function of (seed, numbers[b], k, player) and the position: the
    same in every batch, on every device, and however many games are played.

    Args:
        engine: the positions, of which nothing is changed.
        num_games: K, at least 1.
        player: a built-in player's name, who plays both colours.
        seed: any whole number.
        numbers: (B,) whole numbers, the positions' own; None for their places in the engine.
        first: k of the first game, 0 to 2^61: where earlier playouts of the position ended.
        is_wanted: asked before every ply of the torch code whether to go on; None for always.

    Raises:
        NotWanted: if ``is_wanted`` said no.
        ValueError: for an unknown player, or an argument that is not what is said here.
    """
    chosen = get_player(player)
    num_games = whole_number("num_games", num_games, 1, _MOST_NUMBER)
    first = whole_number("first", first, 0, _MOST_NUMBER)
    seed = whole_number("seed", seed)
    if numbers is None:
        numbers = torch.arange(engine.batch_size, device=engine.device)
    numbers = whole_numbers("numbers", numbers, (engine.batch_size,))
    numbers = numbers.to(engine.device, torch.int64).contiguous()
    played = _nothing_yet(engine, num_games)
    if engine.backend == "triton":
        from tessera.go.kernels.plies import Plies

        Plies(engine).play_out(player, numbers, seed, first, played)
        return played
    all_games = engine.batch_size * num_games
    fitting = _BYTES_AT_ONCE // engine.rules.bytes_per_game(engine.board_size)
    step = max(1, min(_GAMES_AT_ONCE, fitting))
    with one_thread(), torch.no_grad():
        for start in range(0, all_games, step):
            games = torch.arange(start, min(start + step, all_games), device=engine.device)
            positions, ks = games // num_games, games % num_games + first
            hashed = random_words(seed, numbers[positions], ks, PLAYOUT)
            _play_to_the_end(engine, chosen, seed, positions, hashed, played, is_wanted)
    return played


def _nothing_yet(engine: GPUGoEngine, num_games: int) -> Playouts:
    """Zeros for so many games of each position."""
    size, batch = engine.board_size, engine.batch_size

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(batch, *shape, dtype=torch.int64, device=engine.device)

    moves = size**2 + 1
    return Playouts(
        num_games,
        engine.rules.komi,
        plies=zeros(),
        wins=zeros(),
        draws=zeros(),
        areas=zeros(),
        area_squares=zeros(),
        owners=zeros(size, size),
        first_moves=zeros(moves),
        first_areas=zeros(moves),
    )


def _play_to_the_end(
    engine: GPUGoEngine,
    player: ExactPlayer,
    seed: int,
    positions: Tensor,
    hashed: Tensor,
    played: Playouts,
    is_wanted: Callable[[], bool] | None,
) -> None:
    """Play one game from each of these positions (G,), drawn as game ``hashed`` (G,)."""
    games = copies(engine, positions)
    while games.batch_size:
        if is_wanted is not None and not is_wanted():
            raise NotWanted
        over = games.is_game_over()
        going = (~over).nonzero().squeeze(1)
        if going.numel() > _KEEP_ABOVE * games.batch_size:
            words = random_words(seed, hashed, games.move_number, MOVE)
            games.play_batch(player.choose(games, words).moves)
        else:
            done = over.nonzero().squeeze(1)
            at = positions[done]
            _count(copies(games, done), at, engine.move_number[at], played)
            games.keep(going)
            positions, hashed = positions[going], hashed[going]


def _count(ends: GPUGoEngine, positions: Tensor, begun_at: Tensor, played: Playouts) -> None:
    """Add finished games to what was counted of their positions.

    Args:
        ends: the games.
        positions: (G,) int64, which positions they went on from.
        begun_at: (G,) int64, how many plies had been played there.
        played: is added to.
    """
    plies, owners = ends.move_number - begun_at, ends.ownership()
    areas = owners.sum((1, 2))
    results = areas.float() - played.komi  # in the arithmetic of ``score``
    for table, counted in (
        (played.plies, plies),
        (played.wins, results > 0),
        (played.draws, results == 0),
        (played.areas, areas),
        (played.area_squares, areas * areas),
        (played.owners, owners),
    ):
        table.index_add_(0, positions, counted.to(table.dtype))
    moved = plies.nonzero().squeeze(1)
    at = (positions[moved], ends.history[moved, begun_at[moved]].long())
    played.first_moves.index_put_(at, torch.ones_like(moved), accumulate=True)
    played.first_areas.index_put_(at, areas[moved], accumulate=True)
