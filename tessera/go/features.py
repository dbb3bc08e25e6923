"""What a model is told of the positions beside the moves: sets of points seen from the mover.

Shapes: G games, T plies, B games that are being played, R sets, n rows; sets are row bitboards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.go.bitboard import count_points, flood, neighbours
from tessera.go.contract import whole_numbers
from tessera.go.engine import GPUGoEngine
from tessera.go.position import no_suicide
from tessera.go.rules import Rules
from tessera.go.shapes import moved
from tessera.setting_errors import one_of
from tessera.vocabulary import Vocabulary

BOARD_SETS = ("own", "opponent", "atari", "taken", "forbidden")
POSITION_SETS = (*BOARD_SETS, "white")
LANDMARK_SETS = ("taken", "forbidden", "large_atari")
LARGE = 5  # stones in atari at once that are worth remembering


def board_rows(engine: GPUGoEngine) -> Tensor:
    """The sets BOARD_SETS of the games as they stand, (B, 5, n) int32.

    own, opponent: the stones of the player to move and of the other.
    atari: those of both whose chain has one liberty.
    taken: where the newest move took stones of the player to move off the board.
    forbidden: the empty points where a stone is illegal only for what has been: ko, superko, or the
        end of the game.
    """
    if engine.backend == "triton":
        return _by_kernel(engine, len(BOARD_SETS), as_landmarks=False)
    position = engine.position
    sets = (position.own, position.opponent, position.atari)
    return _by_game(*sets, taken_rows(engine), forbidden_rows(engine))


def position_rows(engine: GPUGoEngine) -> Tensor:
    """The sets POSITION_SETS of the games as they stand, (B, 6, n) int32.

    The first five: as for ``board_rows``. white: all points where white is to move, none where
    black is.
    """
    return with_colour(board_rows(engine), engine.turn)


def with_colour(rows: Tensor, turn: Tensor) -> Tensor:
    """The sets POSITION_SETS (…, 6, n) of the sets BOARD_SETS (…, 5, n) and who moves (…)."""
    size = rows.shape[-1]
    white = turn.to(rows.dtype) * ((1 << size) - 1)
    return torch.cat([rows, white[..., None, None].expand(*white.shape, 1, size)], -2)


def landmark_rows(engine: GPUGoEngine) -> Tensor:
    """The sets LANDMARK_SETS of the games as they stand, (B, 3, n) int32.

    taken, forbidden: as for ``board_rows``.
    large_atari: the stones of the player to move in the chains in atari beside the last move, if
        those have at least LARGE stones together.
    """
    if engine.backend == "triton":
        return _by_kernel(engine, len(LANDMARK_SETS), as_landmarks=True)
    return _by_game(taken_rows(engine), forbidden_rows(engine), large_atari_rows(engine))


def taken_rows(engine: GPUGoEngine) -> Tensor:
    """Where the newest move took stones of the player to move, (n, B).

    Around a chain that was taken stand stones of who took it, so that it left a part of the empty
    points of its own: one point of it tells the whole chain.
    """
    games = engine.taken_sides.nonzero().squeeze(1)
    taken = torch.zeros_like(engine.position.own)
    last, sides = engine.last_move_rows()[:, games], engine.taken_sides[games].int()
    seeds = moved(last, 0, 1) * (sides & 1) | moved(last, 0, -1) * (sides >> 1 & 1)
    seeds |= moved(last, -1, 0) * (sides >> 2 & 1) | moved(last, 1, 0) * (sides >> 3 & 1)
    taken[:, games] = flood(seeds, engine.position.empty[:, games])
    return taken


def forbidden_rows(engine: GPUGoEngine) -> Tensor:
    """The empty points where only ko, superko or the end of the game forbids a stone, (n, B)."""
    position, rules = engine.position, engine.rules
    otherwise = position.empty if rules.suicide else no_suicide(position, rules.capture)
    return otherwise & ~(engine.legal_rows() * ~engine.is_game_over())


def large_atari_rows(engine: GPUGoEngine) -> Tensor:
    """The chains of the player to move in atari beside the last move, if they are large, (n, B)."""
    position = engine.position
    chains = flood(neighbours(engine.last_move_rows()), position.own & position.atari)
    return chains * (count_points(chains) >= LARGE)


def _by_kernel(engine: GPUGoEngine, num_sets: int, as_landmarks: bool) -> Tensor:
    """The same sets in Triton, which does not wait for the device."""
    from tessera.go.kernels.plies import Plies

    return Plies(engine).features(num_sets, as_landmarks)


def _by_game(*sets: Tensor) -> Tensor:
    """Sets (n, B) each as one tensor (B, R, n)."""
    return torch.stack([rows.t() for rows in sets], 1)


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Sets of points of a position.

    Attributes:
        sets: their names.
        read: the sets of an engine's games as they stand, (B, R, n) int32.
    """

    sets: tuple[str, ...]
    read: Callable[[GPUGoEngine], Tensor]

    @property
    def num_sets(self) -> int:
        """How many sets, R."""
        return len(self.sets)


FEATURES: Mapping[str, FeatureTable] = {
    "board": FeatureTable(BOARD_SETS, board_rows),
    "position": FeatureTable(POSITION_SETS, position_rows),
    "landmarks": FeatureTable(LANDMARK_SETS, landmark_rows),
}


def replayed(
    name: str,
    moves: Tensor,
    board_size: int,
    rules: str | Rules,
    device: str | torch.device,
    start: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """A table of FEATURES for games given by their moves, which are played in an engine.

    Args:
        name: of the table.
        moves: (G, T) tokens, PAD beyond a game's end. Nobody looks whether they are legal, see
            ``GPUGoEngine.play_batch``.
        board_size: n, 2 to 19.
        rules: a preset's name or a Rules record.
        device: where to play and where the table lives.
        start: boards (G, 2, n, n) and whose turn it is (G,), see ``GPUGoEngine.set_position``; None
            for the empty board.

    Returns:
        (G, T + 1, R, n) int32: entry 0 is the new game, entry t the position after t plies; 0
        beyond a game's end.

    Raises:
        ValueError: if there is no such table, or ``moves`` are no such tensor.
    """
    one_of(*FEATURES)("features", name)
    moves = whole_numbers("moves", moves, (None, None))
    engine = GPUGoEngine(len(moves), device, board_size, rules)
    if start is not None:
        engine.set_position(*start)
    moves = moves.to(engine.device)
    read, pad = FEATURES[name].read, Vocabulary(board_size).pad_token
    entries = [read(engine)]
    for played in moves.unbind(1):
        engine.play_batch(played)
        entries.append(read(engine) * (played != pad).view(-1, 1, 1))
    return torch.stack(entries, 1)
