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

from tessera.accelerator import memory_problem
from tessera.go import bitboard, branching, scoring
from tessera.go.backend import check_device, resolve_backend
from tessera.go.contract import chosen_games, whole_numbers
from tessera.go.legality import check_moves
from tessera.go.position import Position, Removed, all_in_atari, no_suicide, place
from tessera.go.rules import Rules, check_skip_settled, resolve_rules
from tessera.go.settled import Settled, settled_rows
from tessera.go.superko import Superko
from tessera.setting_errors import whole_number
from tessera.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tessera.go.kernels.plies import Plies

BLACK, WHITE, EMPTY = 0, 1, 2


class GPUGoEngine:
    """A batch of games of Go under one set of rules.

    Args:
        batch_size: B, number of games, at least 1.
        device: where the games live, for example "cuda", "cuda:1" or "cpu".
        board_size: n, 2 to 19.
        rules: a preset's name (full, phase2, tromp-taylor) or a Rules record.
        backend: "torch" runs on every device; "triton" on CUDA devices, where its plies may be
            captured in a CUDA graph; "auto" takes the fastest one there is.
        skip_settled: whether players leave settled points alone, see ``playable_rows``; needs rules
            that capture chains.

    Raises:
        ValueError: for an argument outside what is said here.
        MemoryError: if the device has less memory than so many games take.

    Attributes are the engine's own tensors, to be read and not to be written:
        turn: (B,) int64, who moves next: 0 black, 1 white.
        move_number: (B,) int64, plies played.
        history: (B, max_moves) int16 tokens, PAD where nothing has been played.
        captured: (B, 2) int64, stones taken off the board by black's and by white's moves, by
            suicide those of the mover credited to the other.
        last_captures: (B,) int64, how many stones the newest ``play_batch`` took off each board.
        taken_sides: (B,) uint8, beside its stone the game's newest move took those to the right
            (1), to the left (2), above (4) and below (8); ``features.taken_rows`` are the stones.
        position: the stones of the player to move and of the other, and which are in atari.
        passes: (B,) int64, passes since the last stone.
        ko_point: (B,) int64, the token that simple ko forbids; -1 for none.
        superko: the earlier positions; None under simple ko.
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
        skip_settled: bool = False,
    ) -> None:
        batch_size = whole_number("batch_size", batch_size, 1)
        self.vocabulary = Vocabulary(board_size)
        self.rules = resolve_rules(rules)
        self.skip_settled = check_skip_settled(skip_settled, self.rules)
        self.device = check_device(device)
        self.backend = resolve_backend(backend, self.device)
        self.board_size = self.vocabulary.board_size
        self.max_moves = self.rules.move_limit(self.board_size)
        num_bytes = batch_size * self.rules.bytes_per_game(self.board_size)
        if problem := memory_problem(num_bytes, self.device):
            raise MemoryError(f"out of memory: batch_size (={batch_size}) games need {problem}.")

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        n, pad = self.board_size, self.vocabulary.pad_token
        # Of the positions as they stand, once asked for.
        self._legal: Tensor | None = None
        self._settled: Settled | None = None
        rows = zeros(n, batch_size, dtype=torch.int32)
        if self.backend == "triton":  # the kernels read a game's rows in one piece
            rows = zeros(batch_size, n, dtype=torch.int32).t()
        self.position = Position(*(torch.zeros_like(rows) for _ in range(3)))
        self.turn, self.move_number = zeros(batch_size), zeros(batch_size)
        self.history = torch.full(
            (batch_size, self.max_moves), pad, dtype=torch.int16, device=self.device
        )
        self.captured = zeros(batch_size, 2)
        self.passes = zeros(batch_size)
        self.ko_point = zeros(batch_size) - 1
        self.last_captures = zeros(batch_size)
        self.taken_sides = zeros(batch_size, dtype=torch.uint8)
        self.superko = (
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
        planes = (*self._colours(), self.position.empty)
        return torch.stack([bitboard.unpack(plane) for plane in planes], 1)

    def get_legal_mask(self) -> Tensor:
        """(B, n² + 1) bool, True where a move is legal; the last column is pass, always legal.

        It speaks of the position, whether or not the game is over: two passes lift a simple ko.
        """
        if self.backend == "triton":
            return self._plies().legal_mask()
        return bitboard.as_moves(self.legal_rows())

    def is_game_over(self) -> Tensor:
        """(B,) bool, True after two consecutive passes or at the move limit.

        A suicide that leaves the position as it was is no pass, see ``Rules``.
        """
        return (self.passes >= 2) | (self.move_number >= self.max_moves)

    def score(self) -> Tensor:
        """(B,) float32, black's area minus white's minus komi, counted as the rules say."""
        if self.backend == "triton":
            return self._plies().score()
        return scoring.area_score(*self._colours(), self.rules)

    def ownership(self) -> Tensor:
        """(B, n, n) int64: +1 black's area, -1 white's, 0 neither's."""
        if self.backend == "triton":
            return self._plies().ownership()
        black, white = scoring.areas(*self._colours(), self.rules)
        return bitboard.unpack(black).long() - bitboard.unpack(white).long()

    def settled_points(self) -> Settled:
        """The pass-alive stones and territory of both colours, as these rules have suicide.

        To be read and not to be written. Does not wait for the device in Triton.

        Raises:
            ValueError: if the rules capture single stones only, where chains cannot die.
        """
        if self.rules.capture == "single":
            raise ValueError("settled points need rules that capture chains, got capture single.")
        # The replay of a graph would not forget what was found before.
        if self._settled is None or self.backend == "triton":
            self._settled = settled_rows(*self._colours(), self.rules.suicide, self.backend)
        return self._settled

    # What changes the games.

    def play_batch(self, moves: Tensor, check: bool = False) -> None:
        """Play one move in every game that is not over; does not wait for the device in Triton.

        Any token may stand anywhere. What cannot be put on the board leaves its game as it is, to
        the bit: a token that is no point and no PASS, such as PAD, or a point that holds a stone.
        Nothing else is looked at without ``check``: a move that ko or suicide forbids is played as
        if it were legal, and stones that it leaves without liberties come off.

        Args:
            moves: (B,) whole numbers, a point's token or PASS; ignored in a finished game.
            check: look every move up in the legal mask first, which waits for the device.

        Raises:
            ValueError: if ``moves`` has another shape or dtype.
            IllegalMoveError: with ``check``, for the first game whose move is illegal; no game is
                changed then.
        """
        moves = whole_numbers("moves", moves, (self.batch_size,))
        moves = moves.to(device=self.device, dtype=torch.int64)
        if check:
            check_moves(self, moves)
        if self.backend == "triton":
            self._plies().play(moves)
        else:
            self._play(moves)

    def go_on(self) -> None:
        """Let games that two passes have ended go on; the next pass ends them again."""
        self.passes.clamp_(max=1)

    def capture_stones(self) -> Tensor:
        """Remove the stones without liberties of the player who is not to move.

        After ``play_batch`` there are none; a position that was set may have some.

        Returns:
            (B,) int64, how many stones were removed.
        """
        position = self.position
        dead = bitboard.without_liberties(position.opponent, position.empty)
        if self.rules.capture == "single":
            dead = dead & ~bitboard.neighbours(position.opponent)
        self._legal = self._settled = None
        position.opponent.bitwise_and_(~dead)
        position.atari.copy_(all_in_atari(position, self.rules.capture))
        counts = bitboard.popcount(dead).sum(0)
        self.captured.scatter_add_(1, self.turn.unsqueeze(1), counts.unsqueeze(1))
        if self.superko is not None:
            games = counts.nonzero().squeeze(1)
            self.superko.replace(Removed(games, dead[:, games]), self.turn, self.move_number)
        return counts

    def reset(self, mask: Tensor | None = None) -> None:
        """Begin a new game where ``mask`` (B,) bool is True; everywhere if it is None.

        In place, and without waiting for the device.

        Raises:
            ValueError: if ``mask`` has another shape or dtype.
        """
        chosen = chosen_games(mask, self.batch_size, self.device)
        none, zeros = torch.zeros_like(self.position.own), torch.zeros_like(self.turn)
        self._begin(Position(none, none, none), zeros, zeros, chosen)

    def set_position(self, boards: Tensor, turn: Tensor, mask: Tensor | None = None) -> None:
        """Begin a new game from a given position where ``mask`` is True; everywhere if it is None.

        Looks at the values, so it waits for the device. Stones without liberties stay, see
        ``capture_stones``; as long as some stand, the legal moves need not be exact.

        Args:
            boards: (B, 2 or 3, n, n) bool or whole numbers, planes black and white (and empty,
                which is not read); what is not 0 is a stone.
            turn: (B,) whole numbers, who moves next: 0 black, 1 white.
            mask: (B,) bool.

        Raises:
            ValueError: if the shapes or dtypes are not these, or in a chosen game a point holds
                two stones or ``turn`` is neither 0 nor 1; no game is changed then.
        """
        size, batch_size = self.board_size, self.batch_size
        shapes = [(batch_size, planes, size, size) for planes in (2, 3)]
        boards = whole_numbers("boards", boards, *shapes, or_bool=True)
        turn = whole_numbers("turn", turn, (batch_size,)).to(self.turn)
        chosen = chosen_games(mask, batch_size, self.device)
        black, white = (bitboard.pack(boards[:, colour].to(self.device)) for colour in (0, 1))
        if (chosen & (black & white).any(0)).any():
            raise ValueError("boards must not have a black and a white stone on one point.")
        if (chosen & (turn != BLACK) & (turn != WHITE)).any():
            raise ValueError("turn must be 0 for black or 1 for white.")
        black_moves = turn == BLACK
        position = Position(
            torch.where(black_moves, black, white), torch.where(black_moves, white, black), black
        )
        position.atari = all_in_atari(position, self.rules.capture)
        hashes = turn if self.superko is None else self.superko.hash_of(black, white)
        self._begin(position, turn, hashes, chosen)

    def _begin(self, new: Position, turn: Tensor, hashes: Tensor, chosen: Tensor) -> None:
        """Begin a new game at these positions where ``chosen`` (B,) is True, in place."""
        self._legal = self._settled = None
        old = self.position
        for name in ("own", "opponent", "atari"):
            rows = getattr(old, name)
            rows.copy_(torch.where(chosen, getattr(new, name), rows))
        self.turn.copy_(torch.where(chosen, turn, self.turn))
        for counter in (self.move_number, self.passes, self.last_captures, self.taken_sides):
            counter.masked_fill_(chosen, 0)
        self.captured.masked_fill_(chosen.unsqueeze(1), 0)
        self.history.masked_fill_(chosen.unsqueeze(1), self.vocabulary.pad_token)
        self.ko_point.masked_fill_(chosen, -1)
        if self.superko is not None:
            self.superko.begin(chosen, hashes, turn)

    # What the players and the recorder of this package read; bitboards (n, B).

    def legal_rows(self) -> Tensor:
        """The legal points as row bitboards (n, B), whether or not the game is over; a copy."""
        if self.backend == "triton":
            return self._plies().legal_rows()
        if self._legal is None:
            self._legal = self._find_legal()
        return self._legal.clone()

    def _find_legal(self) -> Tensor:
        position = self.position
        safe = no_suicide(position, self.rules.capture)
        legal = position.empty if self.rules.suicide else safe
        if self.superko is None:
            return legal & ~bitboard.points(self.ko_point, self.board_size)
        suicides = legal & ~safe if self.rules.suicide else None
        forbidden = self.superko.repeats(position, safe, suicides, self.turn)
        return legal if forbidden is None else legal & ~forbidden

    def playable_rows(self) -> Tensor:
        """The points (n, B) that players may choose: the legal ones, or those not settled."""
        legal = self.legal_rows()
        return legal & ~self.settled_points().both if self.skip_settled else legal

    def last_move_rows(self) -> Tensor:
        """The point of each game's last move (n, B); none after a pass or before the first."""
        at = (self.move_number - 1).clamp(min=0).unsqueeze(1)
        return bitboard.points(self.history.gather(1, at).squeeze(1).long(), self.board_size)

    def num_bytes(self) -> int:
        """Bytes that the games hold on the device, everything they remember included."""
        return branching.num_bytes(self)

    def keep(self, games: Tensor) -> None:
        """Go on with these games only; looks at the numbers, so it waits for the device.

        Args:
            games: (K,) whole numbers, 0 to B - 1, in the new order; one may stand several times.

        Raises:
            ValueError: if ``games`` are no such numbers; no game is changed then.
        """
        branching.keep(self, games)

    def branch(self, sources: Tensor, targets: Tensor) -> None:
        """Let games become copies of others, in place: what they remember goes along.

        Does not wait for the device, and in Triton may be captured in a CUDA graph.

        Args:
            sources: (K,) whole numbers, the games that are copied; one may stand several times.
            targets: (K,) whole numbers, the games that become copies; none stands twice.

        Raises:
            ValueError: if they are not as many whole numbers or, on a CPU, not all are games.
        """
        branching.copy_games(self, *branching.checked_pairs(self, sources, targets))

    # Inside.

    def forget_found(self) -> None:
        """Forget what was found out about the positions as they stood."""
        self._legal = self._settled = None

    def _plies(self) -> Plies:
        """The games as the kernels see them."""
        from tessera.go.kernels.plies import Plies

        return Plies(self)

    def _colours(self) -> tuple[Tensor, Tensor]:
        own, opponent = self.position.own, self.position.opponent
        black_moves = self.turn == BLACK
        return torch.where(black_moves, own, opponent), torch.where(black_moves, opponent, own)

    def _play(self, moves: Tensor) -> None:
        self._legal = self._settled = None
        row, bit = bitboard.row_and_bit(moves, self.board_size)
        # The kernel does the same: an occupied point, and what is no point, are no stone.
        bit = bit & self.position.empty.gather(0, row.unsqueeze(0)).squeeze(0)
        is_move = (bit != 0) | (moves == self.vocabulary.pass_token)
        active = is_move & ~self.is_game_over()
        placed = active & (bit != 0)
        bit = bit * placed
        outcome = place(self.position, row, bit, self.rules.capture)
        taken, suicides = outcome.taken, outcome.suicides

        num_taken, num_suicides = taken.counts(self.batch_size), suicides.counts(self.batch_size)
        self.last_captures = num_taken + num_suicides
        self.taken_sides = torch.where(active, outcome.taken_sides, self.taken_sides)
        self.captured.scatter_add_(
            1, torch.stack([self.turn, 1 - self.turn], 1), torch.stack([num_taken, num_suicides], 1)
        )
        at = self.move_number.clamp(max=self.max_moves - 1).unsqueeze(1)
        before = self.history.gather(1, at).squeeze(1)
        self.history.scatter_(1, at, torch.where(active, moves.short(), before).unsqueeze(1))
        self.move_number += active
        self.passes = torch.where(active, (self.passes + 1) * ~placed, self.passes)
        if self.superko is not None:
            self.superko.record(
                moves, (row, bit), placed, active, self.turn, self.move_number, taken, suicides
            )
        else:
            ko_point = taken.first_points(outcome.is_ko & (num_taken == 1))
            self.ko_point = torch.where(active, ko_point, self.ko_point)
        # The other player is the mover now.
        own, opponent = self.position.own, self.position.opponent
        changed = (own ^ opponent) * active
        self.position.own, self.position.opponent = own ^ changed, opponent ^ changed
        self.turn = self.turn ^ active
