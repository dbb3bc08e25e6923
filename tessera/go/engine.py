"""GPUGoEngine: thousands of games of Go at once, on row bitboards.

What is asked most, a ply, its legal moves and its score, runs in plain torch or, beside it and bit
for bit the same, in Triton kernels; everything else is torch.

Shapes: B games, n rows (board size), P = n² points. Bitboards are (n, B), see ``bitboard``.
Inside, the two colours are the player to move (own) and the other (opponent), so a move ends with
an exchange of the two and needs no choice by colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tessera.go import bitboard, scoring
from tessera.go.backend import check_device, resolve_backend
from tessera.go.position import Position, Removed, all_in_atari, no_suicide, place
from tessera.go.rules import Rules, resolve_rules
from tessera.go.superko import Superko
from tessera.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tessera.go.kernels.plies import Plies

BLACK, WHITE, EMPTY = 0, 1, 2

_PER_GAME = ["turn", "move_number", "history", "captured", "_passes", "_ko_point", "_last_captures"]


class IllegalMoveError(ValueError):
    """A move that the rules forbid; the message names the game and the vertex."""


class GPUGoEngine:
    """A batch of games of Go under one set of rules.

    Args:
        batch_size: B, number of games, at least 1.
        device: where the games live, for example "cuda", "cuda:1" or "cpu".
        board_size: n, 2 to 19.
        rules: a preset's name (full, phase2, tromp-taylor) or a Rules record.
        backend: "torch" runs on every device; "triton" on CUDA devices, where its plies may be
            captured in a CUDA graph; "auto" takes the fastest one there is.

    Raises:
        ValueError: for an argument outside what is said here.

    Attributes:
        turn: (B,) int64, who moves next: 0 black, 1 white.
        move_number: (B,) int64, plies played.
        history: (B, max_moves) int16 tokens, PAD where nothing has been played.
        captured: (B, 2) int64, stones taken off the board by black's and by white's moves, by
            suicide those of the mover credited to the other.
        vocabulary: the board's tokens.
        max_moves: plies after which a game is over.
    """

    def __init__(
        self,
        batch_size: int,
        device: str | torch.device = "cuda",
        board_size: int = 19,
        rules: str | Rules = "full",
        backend: str = "auto",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.vocabulary = Vocabulary(board_size)
        self.rules = resolve_rules(rules)
        self.device = check_device(device)
        self.backend = resolve_backend(backend, self.device)
        self.board_size = board_size
        self.max_moves = self.rules.move_limit(board_size)
        self._new_state(batch_size)

    def _new_state(self, batch_size: int) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        n, pad = self.board_size, self.vocabulary.pad_token
        self._legal: Tensor | None = None  # of the positions as they stand, once asked for
        rows = zeros(n, batch_size, dtype=torch.int32)
        if self.backend == "triton":  # the kernels read a game's rows in one piece
            rows = zeros(batch_size, n, dtype=torch.int32).t()
        self._position = Position(*(torch.zeros_like(rows) for _ in range(3)))
        self.turn, self.move_number = zeros(batch_size), zeros(batch_size)
        self.history = torch.full(
            (batch_size, self.max_moves), pad, dtype=torch.int16, device=self.device
        )
        self.captured = zeros(batch_size, 2)
        self._passes = zeros(batch_size)
        self._ko_point = zeros(batch_size) - 1
        self._last_captures = zeros(batch_size)
        self._superko = (
            Superko(self.max_moves, self.rules.ko == "situational", rows)
            if self.rules.ko != "simple"
            else None
        )

    @property
    def batch_size(self) -> int:
        """Number of games, B."""
        return self.turn.shape[0]

    # What can be read off the games.

    @property
    def boards(self) -> Tensor:
        """(B, 3, n, n) bool planes: 0 black, 1 white, 2 empty; a copy made on request."""
        planes = (*self._colours(), self._position.empty)
        return torch.stack([bitboard.unpack(plane) for plane in planes], 1)

    def get_legal_mask(self) -> Tensor:
        """(B, n² + 1) bool, True where a move is legal; the last column is pass, always legal.

        It speaks of the position, whether or not the game is over: two passes lift a simple ko.
        """
        if self.backend == "triton":
            return self._plies().legal_mask()
        points = bitboard.unpack(self.legal_rows()).flatten(1)
        return torch.nn.functional.pad(points, (0, 1), value=True)

    def is_game_over(self) -> Tensor:
        """(B,) bool, True after two consecutive passes or at the move limit."""
        return (self._passes >= 2) | (self.move_number >= self.max_moves)

    def score(self) -> Tensor:
        """(B,) float32, black's area minus white's minus komi, of the stones as they stand."""
        if self.backend == "triton":
            return self._plies().score(self.rules.komi)
        return scoring.area_score(*self._colours(), self.rules.komi)

    def ownership(self) -> Tensor:
        """(B, n, n) int64: +1 black's area, -1 white's, 0 neither's."""
        if self.backend == "triton":
            return self._plies().ownership()
        black, white = scoring.areas(*self._colours())
        return bitboard.unpack(black).long() - bitboard.unpack(white).long()

    # What changes the games.

    def play_batch(self, moves: Tensor, check: bool = False) -> None:
        """Play one move in every game that is not over.

        Args:
            moves: (B,) int, a point's token or PASS; ignored in a finished game.
            check: look every move up in the legal mask first. Without it the moves must be legal.

        Raises:
            ValueError: if ``moves`` has another shape than (B,).
            IllegalMoveError: with ``check``, for the first game whose move is illegal; no game is
                changed then.
        """
        if moves.shape != self.turn.shape:
            raise ValueError(
                f"moves must have shape ({self.batch_size},), got {tuple(moves.shape)}."
            )
        moves = moves.to(device=self.device, dtype=torch.int64)
        if check:
            self._check(moves)
        if self.backend == "triton":
            self._plies().play(moves)
        else:
            self._play(moves)

    def capture_stones(self) -> Tensor:
        """Remove the stones without liberties of the player who is not to move.

        After ``play_batch`` there are none; a position that was set may have some.

        Returns:
            (B,) int64, how many stones were removed.
        """
        position = self._position
        dead = bitboard.without_liberties(position.opponent, position.empty)
        if self.rules.capture == "single":
            dead = dead & ~bitboard.neighbours(position.opponent)
        self._legal = None
        position.opponent.bitwise_and_(~dead)
        position.atari.copy_(all_in_atari(position, self.rules.capture))
        counts = bitboard.popcount(dead).sum(0)
        self.captured.scatter_add_(1, self.turn.unsqueeze(1), counts.unsqueeze(1))
        if self._superko is not None:
            games = counts.nonzero().squeeze(1)
            self._superko.replace(Removed(games, dead[:, games]), self.turn, self.move_number)
        return counts

    def reset(self, mask: Tensor | None = None) -> None:
        """Begin a new game where ``mask`` (B,) bool is True; everywhere if it is None.

        In place, and without waiting for the device.
        """
        none = torch.zeros_like(self._position.own)
        zeros = torch.zeros_like(self.turn)
        self._begin(Position(none, none, none), zeros, zeros, mask)

    def set_position(self, boards: Tensor, turn: Tensor, mask: Tensor | None = None) -> None:
        """Begin a new game from a given position where ``mask`` is True; everywhere if it is None.

        Args:
            boards: (B, 2 or 3, n, n), planes black and white (and empty, which is not read).
            turn: (B,) int, who moves next: 0 black, 1 white.
            mask: (B,) bool.

        Raises:
            ValueError: if the shapes are not these, or a point holds two stones.
        """
        size = self.board_size
        shapes = [(self.batch_size, planes, size, size) for planes in (2, 3)]
        if tuple(boards.shape) not in shapes or turn.shape != self.turn.shape:
            raise ValueError(
                f"boards must have shape {shapes[0]} or {shapes[1]} and turn "
                f"({self.batch_size},), got {tuple(boards.shape)} and {tuple(turn.shape)}."
            )
        black, white = (bitboard.pack(boards[:, colour].to(self.device)) for colour in (0, 1))
        if (black & white).any():
            raise ValueError("boards must not have a black and a white stone on one point.")
        turn = turn.to(self.turn)
        black_moves = turn == BLACK
        position = Position(
            torch.where(black_moves, black, white), torch.where(black_moves, white, black), black
        )
        position.atari = all_in_atari(position, self.rules.capture)
        hashes = turn if self._superko is None else self._superko.hash_of(black, white)
        self._begin(position, turn, hashes, mask)

    def _begin(self, new: Position, turn: Tensor, hashes: Tensor, mask: Tensor | None) -> None:
        """Begin a new game at these positions where ``mask`` is True, in place."""
        self._legal = None
        chosen = torch.ones_like(turn).bool() if mask is None else mask.to(self.device)
        old = self._position
        for name in ("own", "opponent", "atari"):
            rows = getattr(old, name)
            rows.copy_(torch.where(chosen, getattr(new, name), rows))
        self.turn.copy_(torch.where(chosen, turn, self.turn))
        for counter in (self.move_number, self._passes, self._last_captures):
            counter.masked_fill_(chosen, 0)
        self.captured.masked_fill_(chosen.unsqueeze(1), 0)
        self.history.masked_fill_(chosen.unsqueeze(1), self.vocabulary.pad_token)
        self._ko_point.masked_fill_(chosen, -1)
        if self._superko is not None:
            self._superko.begin(chosen, hashes, turn)

    # What the players and the recorder of this package read; bitboards (n, B).

    def legal_rows(self) -> Tensor:
        """The legal points as row bitboards (n, B), whether or not the game is over."""
        if self.backend == "triton":
            return self._plies().legal_rows()
        if self._legal is None:
            self._legal = self._find_legal()
        return self._legal

    def _find_legal(self) -> Tensor:
        position = self._position
        safe = no_suicide(position, self.rules.capture)
        legal = position.empty if self.rules.suicide else safe
        if self._superko is None:
            return legal & ~bitboard.single(*self._row_and_bit(self._ko_point), self.board_size)
        suicides = legal & ~safe if self.rules.suicide else None
        forbidden = self._superko.repeats(position, safe, suicides, self.turn)
        return legal if forbidden is None else legal & ~forbidden

    @property
    def position(self) -> Position:
        """The stones of the player to move and of the other, and which of them are in atari."""
        return self._position

    def last_move_rows(self) -> Tensor:
        """The point of each game's last move (n, B); none after a pass or before the first."""
        at = (self.move_number - 1).clamp(min=0).unsqueeze(1)
        return bitboard.single(
            *self._row_and_bit(self.history.gather(1, at).squeeze(1).long()), self.board_size
        )

    @property
    def last_captures(self) -> Tensor:
        """(B,) int64, how many stones each game's last ply took off the board."""
        return self._last_captures

    def num_bytes(self) -> int:
        """Bytes that the games hold on the device, everything they remember included."""
        position = self._position
        tensors = [position.own, position.opponent, position.atari]
        tensors += [getattr(self, name) for name in _PER_GAME]
        if self._superko is not None:
            tensors += self._superko.per_game_tensors()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def keep(self, games: Tensor) -> None:
        """Go on with these games only; ``games`` (K,) int64 are their numbers in the batch."""
        self._legal = None
        sets = (self._position.own, self._position.opponent, self._position.atari)
        self._position = Position(*(bitboard.select_games(rows, games) for rows in sets))
        for name in _PER_GAME:
            setattr(self, name, getattr(self, name)[games])
        if self._superko is not None:
            self._superko.keep(games)

    # Inside.

    def _plies(self) -> Plies:
        """The games as the kernels see them."""
        from tessera.go.kernels.plies import Plies

        return Plies(
            self._position,
            self.turn,
            self.move_number,
            self._passes,
            self._last_captures,
            self.captured,
            self.history,
            self._ko_point,
            None if self._superko is None else self._superko.kernel_arguments(),
            self.rules,
        )

    def _colours(self) -> tuple[Tensor, Tensor]:
        own, opponent = self._position.own, self._position.opponent
        black_moves = self.turn == BLACK
        return torch.where(black_moves, own, opponent), torch.where(black_moves, opponent, own)

    def _row_and_bit(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Row (B,) int64 and bit (B,) int32 of points; bit 0 where the token is no point."""
        is_point = (tokens >= 0) & (tokens < self.vocabulary.num_points)
        points = torch.where(is_point, tokens, 0)
        bit = is_point.to(torch.int32) << (points % self.board_size).to(torch.int32)
        return points // self.board_size, bit

    def _check(self, moves: Tensor) -> None:
        known = (moves >= 0) & (moves <= self.vocabulary.pass_token)
        legal = self.get_legal_mask().gather(1, (moves * known).unsqueeze(1)).squeeze(1)
        wrong = ~(self.is_game_over() | known & legal)
        if bool(wrong.any()):
            game = int(wrong.nonzero()[0])
            move = int(moves[game])
            vertex = self.vocabulary.vertex(move) if known[game] else f"token {move}"
            colour = "black" if self.turn[game] == BLACK else "white"
            raise IllegalMoveError(f"game {game}: {vertex} is illegal for {colour}.")

    def _play(self, moves: Tensor) -> None:
        self._legal = None
        active = ~self.is_game_over()
        placed = active & (moves < self.vocabulary.num_points)
        row, bit = self._row_and_bit(torch.where(placed, moves, -1))
        outcome = place(self._position, row, bit, self.rules.capture)
        taken, suicides = outcome.taken, outcome.suicides

        num_taken = self._count(taken)
        num_suicides = self._count(suicides)
        self._last_captures = num_taken + num_suicides
        self.captured.scatter_add_(
            1, torch.stack([self.turn, 1 - self.turn], 1), torch.stack([num_taken, num_suicides], 1)
        )
        at = self.move_number.clamp(max=self.max_moves - 1).unsqueeze(1)
        before = self.history.gather(1, at).squeeze(1)
        self.history.scatter_(1, at, torch.where(active, moves.short(), before).unsqueeze(1))
        self.move_number += active
        self._passes = torch.where(active, (self._passes + 1) * ~placed, self._passes)
        if self._superko is not None:
            self._superko.record(
                moves, placed, active, self.turn, self.move_number, taken, suicides
            )
        else:
            ko_point = self._find_ko(taken, outcome.is_ko & (num_taken == 1))
            self._ko_point = torch.where(active, ko_point, self._ko_point)
        self._exchange(active)

    def _count(self, removed: Removed) -> Tensor:
        counts = torch.zeros_like(self.turn)
        if removed.games.numel():
            counts[removed.games] = bitboard.popcount(removed.stones).sum(0)
        return counts

    def _find_ko(self, taken: Removed, is_ko: Tensor) -> Tensor:
        """The point that the other player may not retake at once, -1 for none; (B,) int64."""
        ko_point = torch.full_like(self.turn, -1)
        games = taken.games
        if games.numel():
            row, column = bitboard.nth_point(taken.stones, torch.zeros_like(games))
            ko_point[games] = torch.where(is_ko[games], row * self.board_size + column, -1)
        return ko_point

    def _exchange(self, active: Tensor) -> None:
        """Let the other player be the mover in every active game."""
        own, opponent = self._position.own, self._position.opponent
        changed = (own ^ opponent) * active
        self._position.own, self._position.opponent = own ^ changed, opponent ^ changed
        self.turn = self.turn ^ active
