"""Superko: which legal moves would repeat an earlier position, found without trying every move.

A position that returns must have held the stone that is played now, so that stone's point has lost
a stone of the mover's colour since. Two consequences carry the search:

- only points where the mover has lost a stone before can repeat a position;
- nothing can repeat while the mover's last such loss is older than the mover's last stone on a
  point where none had been lost: that stone still stands, and no earlier position has it.

What is left is looked up in a Bloom filter of the game's positions, then in the positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import bitboard
from tessera.go.bitboard import flood, neighbours, select_games
from tessera.go.position import Position, Removed
from tessera.go.zobrist import tokens_of, zobrist_keys, zobrist_sum

# A Bloom filter of 4,096 bits sends one clear move in ten to the slow look-up in a game of 450
# positions. Bit b of word w, in this order: the low bits of a hash choose the word.
_FILTER_WORDS = 128
_UNUSED = 0x5E1F_C0DE_0F7E_55E2  # stands where a game has no position yet

_SETS, _FLAGS = ("_own_lost", "_opponent_lost"), ("_own_exposed", "_opponent_exposed")
_WORDS = ("_hash", "_positions", "_filter")


class Superko:
    """The positions of B games so far, and what may return to one of them.

    Args:
        max_moves: plies of the longest game.
        situational: whether positions differ by the player to move, too.
        rows: (n, B) int32, a set of the games' points; its device and layout are taken over.
    """

    def __init__(self, max_moves: int, situational: bool, rows: Tensor) -> None:
        board_size, batch_size = rows.shape
        device = rows.device
        self._keys = zobrist_keys(board_size**2, device)
        self._situational = situational
        self._board_size = board_size
        # Points where the mover, and where the opponent, has lost a stone.
        self._own_lost, self._opponent_lost = (torch.zeros_like(rows) for _ in range(2))
        # True from a loss of stones until the next stone on a point that has lost none.
        self._own_exposed, self._opponent_exposed = (
            torch.zeros(batch_size, dtype=torch.bool, device=device) for _ in range(2)
        )
        self._hash = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._positions = torch.full((batch_size, max_moves + 1), _UNUSED, device=device)
        self._filter = torch.zeros(batch_size, _FILTER_WORDS, dtype=torch.int32, device=device)
        self._remember(torch.zeros_like(self._hash), torch.zeros_like(self._hash))

    def hash_of(self, black: Tensor, white: Tensor) -> Tensor:
        """The Zobrist hashes (B,) int64 of these stones, each colour (n, B)."""
        first = torch.zeros_like(self._hash)
        return zobrist_sum(black, self._keys, first) + zobrist_sum(white, self._keys, first + 1)

    def begin(self, chosen: Tensor, hashes: Tensor, turn: Tensor) -> None:
        """Forget the games in which ``chosen`` (B,) is True and begin them at given positions.

        In place, and without waiting for the device.

        Args:
            chosen: (B,) bool.
            hashes: (B,) int64, the positions' hashes.
            turn: (B,) int64, who moves next.
        """
        self._hash.copy_(torch.where(chosen, hashes, self._hash))
        for lost in (self._own_lost, self._opponent_lost):
            lost.masked_fill_(chosen, 0)
        for exposed in (self._own_exposed, self._opponent_exposed):
            exposed.masked_fill_(chosen, False)
        self._positions.masked_fill_(chosen.unsqueeze(1), _UNUSED)
        self._filter.masked_fill_(chosen.unsqueeze(1), 0)
        words = torch.where(chosen, self._word(self._hash, turn), self._positions[:, 0])
        self._positions[:, 0] = words
        self._add_to_filter(words.unsqueeze(1))

    def keep(self, games: Tensor) -> None:
        """Go on with these games only."""
        for name in _SETS:
            setattr(self, name, select_games(getattr(self, name), games))
        for name in (*_FLAGS, *_WORDS):
            setattr(self, name, getattr(self, name)[games])

    def record(
        self,
        moves: Tensor,
        stone: tuple[Tensor, Tensor],
        placed: Tensor,
        active: Tensor,
        turn: Tensor,
        move_number: Tensor,
        taken: Removed,
        suicides: Removed,
    ) -> None:
        """Add the position after a ply and exchange the two players, in the active games.

        Args:
            moves: (B,) int64 tokens, read where ``placed``.
            stone: their rows and bits, as from ``row_and_bit``.
            placed: (B,) bool, True where a stone was played.
            active: (B,) bool, True where the game was not over.
            turn: (B,) int64, who moved.
            move_number: (B,) int64, plies played, this one included.
            taken: the opponent's stones that were removed.
            suicides: the mover's stones that were removed.
        """
        points, (row, bit) = torch.where(placed, moves, 0), stone
        fresh = (self._own_lost.gather(0, row.unsqueeze(0)).squeeze(0) & bit) == 0
        self._own_exposed &= ~(placed & fresh)
        self._hash += self._keys[turn, points] * placed
        _lose(self._opponent_lost, self._opponent_exposed, taken)
        _lose(self._own_lost, self._own_exposed, suicides)
        self._subtract(taken, 1 - turn)
        self._subtract(suicides, turn)
        self._remember(move_number, turn ^ active)
        own, opponent = self._own_lost, self._opponent_lost
        changed = (own ^ opponent) * active
        self._own_lost, self._opponent_lost = own ^ changed, opponent ^ changed
        exposed, other = self._own_exposed, self._opponent_exposed
        self._own_exposed = torch.where(active, other, exposed)
        self._opponent_exposed = torch.where(active, exposed, other)

    def replace(self, removed: Removed, turn: Tensor, move_number: Tensor) -> None:
        """Take the opponent's stones ``removed`` out of the newest position itself."""
        _lose(self._opponent_lost, self._opponent_exposed, removed)
        self._subtract(removed, 1 - turn)
        self._remember(move_number, turn)

    def kernel_arguments(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the kernels.

        Points lost (n, B) and exposed (B,) uint8, each of the mover and of the opponent; hashes
        (B,); positions (B, max_moves + 1); filters (B, 128); keys (2, n² + 1).
        """
        return (*self.per_game_tensors(), self._keys)

    def per_game_tensors(self) -> tuple[Tensor, ...]:
        """All that is kept of the games, without the keys."""
        flags = (getattr(self, name).view(torch.uint8) for name in _FLAGS)
        sets, words = ((getattr(self, name) for name in names) for names in (_SETS, _WORDS))
        return (*sets, *flags, *words)

    def repeats(
        self, position: Position, safe: Tensor, suicides: Tensor | None, turn: Tensor
    ) -> Tensor | None:
        """The moves after which an earlier position would stand on the board again.

        Args:
            position: the games' stones.
            safe: (n, B), the moves to look at that are no suicide.
            suicides: (n, B), the suicides to look at; None for none.
            turn: (B,) int64, who is to move.

        Returns:
            (n, B), or None if there is no such move in any game.
        """
        found = []
        suspects = safe & self._own_lost
        games = (suspects.any(0) & self._own_exposed).nonzero().squeeze(1)
        if games.numel():
            chosen, suspects = position.select(games), suspects[:, games]
            captures = suspects & neighbours(chosen.opponent & chosen.atari)
            found.append(self._quiet_repeats(games, suspects & ~captures, turn))
            prey = chosen.opponent & chosen.atari
            found.append(self._removing_repeats(games, captures, prey, turn, is_suicide=False))
        if suicides is not None:
            games = suicides.any(0).nonzero().squeeze(1)
            points, own = suicides[:, games], position.own[:, games]
            found.append(self._removing_repeats(games, points, own, turn, is_suicide=True))
        if not any(games.numel() for games, _ in found):
            return None
        games, tokens = (torch.cat(part) for part in zip(*found, strict=True))
        row, bit = bitboard.row_and_bit(tokens, self._board_size)
        # Every move was looked at once, so that adding the bits sets them.
        return torch.zeros_like(safe).index_put_((row, games), bit, accumulate=True)

    def _quiet_repeats(self, games: Tensor, points: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Moves without a capture: the hash changes by the one stone's key."""
        column, tokens = tokens_of(points)
        at = games[column]
        return self._known(at, tokens, self._hash[at] + self._keys[turn[at], tokens], turn)

    def _removing_repeats(
        self, games: Tensor, points: Tensor, prey: Tensor, turn: Tensor, is_suicide: bool
    ) -> tuple[Tensor, Tensor]:
        """Moves that take the chains of ``prey`` beside the stone; a suicide takes it as well."""
        column, tokens = tokens_of(points)
        at = games[column]
        removed = flood(neighbours(bitboard.points(tokens, self._board_size)), prey[:, column])
        words = self._hash[at]
        if not is_suicide:
            words = words + self._keys[turn[at], tokens]
        words = words - zobrist_sum(removed, self._keys, turn[at] if is_suicide else 1 - turn[at])
        return self._known(at, tokens, words, turn)

    def _known(
        self, games: Tensor, points: Tensor, hashes: Tensor, turn: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of candidate moves those whose resulting hash has been a position of their game."""
        words = self._word(hashes, 1 - turn[games])
        slot, bit = _slot_and_bit(words)
        maybe = (self._filter[games, slot] & bit).nonzero().squeeze(1)
        games, points, words = games[maybe], points[maybe], words[maybe]
        known = (self._positions[games] == words.unsqueeze(1)).any(1).nonzero().squeeze(1)
        return games[known], points[known]

    def _word(self, hashes: Tensor, to_move: Tensor) -> Tensor:
        return hashes + self._keys[0, -1] * to_move if self._situational else hashes

    def _remember(self, move_number: Tensor, to_move: Tensor) -> None:
        words = self._word(self._hash, to_move).unsqueeze(1)
        self._positions.scatter_(1, move_number.unsqueeze(1), words)
        self._add_to_filter(words)

    def _add_to_filter(self, words: Tensor) -> None:
        """Add one word to each game's filter; (B, 1)."""
        slot, bit = _slot_and_bit(words)
        self._filter.scatter_(1, slot, self._filter.gather(1, slot) | bit)

    def _subtract(self, removed: Removed, colour: Tensor) -> None:
        if removed.games.numel():
            lost = zobrist_sum(removed.stones, self._keys, colour[removed.games])
            self._hash.index_add_(0, removed.games, lost, alpha=-1)


def _slot_and_bit(words: Tensor) -> tuple[Tensor, Tensor]:
    """Which word of the filter a hash belongs to, int64, and its bit there, int32."""
    bit = torch.ones_like(words) << (words >> 7 & 31)
    return words & _FILTER_WORDS - 1, bit.to(torch.int32)


def _lose(lost: Tensor, exposed: Tensor, removed: Removed) -> None:
    if removed.games.numel():
        lost.index_copy_(1, removed.games, lost[:, removed.games] | removed.stones)
        exposed.index_fill_(0, removed.games, True)
