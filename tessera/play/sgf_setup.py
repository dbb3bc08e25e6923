"""Positions that an SGF game sets up: handicap, problems, boards that were edited."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from sgfmill import boards, sgf_properties
from torch import Tensor

from tessera.play.handicap import fixed_points, most_stones
from tessera.vocabulary import Vocabulary

STONES = ("AB", "AW", "AE")
NO_BOARD = (
    "the model reads moves and does not see a board (model.features board does), "
    "so it can only follow a game from its beginning"
)

_LEAST_HANDICAP = 2
_TURNS = {"b": 0, "black": 0, "w": 1, "white": 1}


@dataclass(frozen=True, slots=True)
class SetUp:
    """A position that stands in place of what was played before.

    Attributes:
        ply: of the game, before which it is set up; 0 at the beginning.
        stones: rows from the top, +1 black, -1 white, 0 empty.
        turn: who moves next: 0 black, 1 white.
        handicap: the points of black's handicap stones as tokens, if it is nothing else: they may
            be taken for moves between which white has passed.
    """

    ply: int
    stones: tuple[tuple[int, ...], ...]
    turn: int
    handicap: tuple[int, ...] = ()

    def boards(self) -> Tensor:
        """(2, n, n) bool, black's and white's stones."""
        stones = torch.tensor(self.stones)
        return torch.stack([stones > 0, stones < 0])

    def handicap_moves(self) -> list[int]:
        """The handicap stones as tokens, with white's passes between."""
        pass_token = len(self.stones) ** 2
        return [move for point in self.handicap for move in (point, pass_token)][:-1]


class SetUpReader:
    """Reads the set-up nodes of one game, the nodes in their order.

    Args:
        board_size: n.
    """

    def __init__(self, board_size: int) -> None:
        self._size, self._vocabulary = board_size, Vocabulary(board_size)
        self._presenter = sgf_properties.Presenter(board_size, "UTF-8")
        self._board = boards.Board(board_size)
        self._played = 0  # moves of the game that stand on the board

    def read(
        self, node: Mapping[str, list[bytes]], moves: Sequence[int], turn: int, after: str | None
    ) -> SetUp | None:
        """What a node sets up; None if it changes nothing.

        Args:
            node: its properties.
            moves: of the game so far, as tokens.
            turn: whose turn it is so far.
            after: who moves next in the file, ``B`` or ``W``; None if nobody does.

        Raises:
            ValueError: saying what cannot be set up.
        """
        values = {name: [v.strip() for v in node.get(name, []) if v.strip()] for name in STONES}
        given = _turn_of(node)
        if not any(values.values()) and given in (None, turn):
            return None
        self._catch_up(moves, turn)
        before = self._stones()
        black, white, empty = (self._points(name, values[name]) for name in STONES)
        if black & white or empty & (black | white):
            raise ValueError("sets one point up twice")
        if not self._board.apply_setup(black, white, empty):
            raise ValueError("sets up a chain without liberties")
        stones = self._stones()
        if given is None:
            given = turn if after is None else "BW".index(after)
            if after is None and not moves and _handicap_of(node) >= _LEAST_HANDICAP:
                given = 1
        if stones == before and given == turn:
            return None
        found = SetUp(len(moves), stones, given)
        return replace(found, handicap=self._handicap(found, _handicap_of(node)))

    def _points(self, name: str, values: list[bytes]) -> set[tuple[int, int]]:
        if not values:
            return set()
        try:
            points: set[tuple[int, int]] = self._presenter.interpret(name, values)
        except ValueError:
            size = f"{self._size}×{self._size}"
            raise ValueError(f"has a point that is none of a {size} board") from None
        return points

    def _catch_up(self, moves: Sequence[int], turn: int) -> None:
        """Play what was played since the last node; ``turn`` is who would move next."""
        left = moves[self._played :]
        for at, token in enumerate(left):
            colour = "bw"[(turn + len(left) - at) % 2]
            if token != self._vocabulary.pass_token:
                row, column = divmod(token, self._size)
                try:
                    self._board.play(self._size - 1 - row, column, colour)
                except ValueError:
                    vertex = self._vocabulary.vertex(token)
                    raise ValueError(f"follows {vertex}, which was occupied") from None
        self._played = len(moves)

    def _stones(self) -> tuple[tuple[int, ...], ...]:
        signs, rows = {"b": 1, "w": -1, None: 0}, range(self._size)
        return tuple(
            tuple(signs[self._board.get(row, column)] for column in rows) for row in reversed(rows)
        )

    def _handicap(self, found: SetUp, declared: int) -> tuple[int, ...]:
        """The points of a handicap, if the position is nothing else."""
        stones = [stone for row in found.stones for stone in row]
        points = [point for point, stone in enumerate(stones) if stone > 0]
        is_one = declared >= _LEAST_HANDICAP and len(points) == declared and -1 not in stones
        if not is_one or found.ply or found.turn != 1:
            return ()
        if len(points) <= most_stones(self._size):
            fixed = fixed_points(len(points), self._vocabulary)
            if set(fixed) == set(points):
                return tuple(fixed)  # in the protocol's order
        return tuple(points)


def _turn_of(node: Mapping[str, list[bytes]]) -> int | None:
    """Who moves next by PL, None if the node does not say it."""
    values = [value.strip() for value in node.get("PL", []) if value.strip()]
    if not values:
        return None
    turn = _TURNS.get(values[0].decode("ascii", "replace").lower())
    if turn is None or len(values) > 1:
        raise ValueError("names a player who is neither B nor W")
    return turn


def _handicap_of(node: Mapping[str, list[bytes]]) -> int:
    """The number of handicap stones that a root declares, 0 if none."""
    match = re.fullmatch(rb"\s*([0-9]{1,3})\s*", node.get("HA", [b""])[0])
    return int(match[1]) if match else 0
