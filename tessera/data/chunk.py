"""Finished games as padded sequences, from which batches are cut.

Shapes: G games, B sequences, L positions, W positions of the longest sequence, n rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.data.batch import GameBatch
from tessera.go import GameRecord
from tessera.go.randomness import WINDOW, below, random_words
from tessera.transfers import to_host
from tessera.vocabulary import Vocabulary


class Chunk:
    """The games of one record, ready to be cut into sequences.

    Args:
        record: finished games.
        context: L, or None for whole games.
        windows_per_game: sequences of each game.
    """

    def __init__(self, record: GameRecord, context: int | None, windows_per_game: int) -> None:
        vocabulary = Vocabulary(record.board_size)
        games, plies = record.moves.shape
        # Room for both EOS, and for a window that is longer than the longest game.
        width = max(plies + 2, (context or 0) + 1)
        self.seed, self.numbers, self.context = record.seed, record.numbers, context
        self.windows_per_game = windows_per_game
        self.lengths = record.lengths.long()
        # Whole games are cut to the longest of a batch, for which the lengths have to be known.
        self.whole_lengths = to_host(record.lengths, "games").tolist() if context is None else []
        self.sequences = record.moves.new_full((games, width), vocabulary.pad_token).long()
        self.sequences[:, 0].fill_(vocabulary.eos_token)
        self.sequences[:, 1 : plies + 1] = record.moves
        self.sequences.scatter_(1, self.lengths.unsqueeze(1) + 1, vocabulary.eos_token)

        def padded(table: Tensor) -> Tensor:
            """By target: the last ply's entry is followed by zeros for EOS and PAD."""
            return torch.nn.functional.pad(table, (0, width - 1 - table.shape[1]))

        self.log_probs, self.entropies = padded(record.log_probs), padded(record.entropies)
        captures = padded(record.captures.int())
        self.captures = captures.cumsum(1, dtype=torch.int32) - captures
        self.legal = None
        if record.legal is not None:
            # The rows are padded as the last axis of (G, n, T).
            self.legal = padded(record.legal.transpose(1, 2)).transpose(1, 2)

    def batch(self, index: int, rows: range) -> GameBatch:
        """The batch that holds these of the chunk's ``games * windows_per_game`` sequences."""
        device = self.sequences.device
        row = torch.arange(rows.start, rows.stop, device=device)
        # Games first, so that one batch holds as many different games as it can.
        num_games = self.sequences.shape[0]
        game, sweep = row % num_games, row // num_games
        if self.context is None:
            starts = torch.zeros_like(game)
            length = 1 + max(self.whole_lengths[row % num_games] for row in rows)
        else:
            starts, length = self._starts(game, sweep), self.context
        at = starts.unsqueeze(1) + torch.arange(length, device=device)
        pick = (game.unsqueeze(1), at)
        return GameBatch(
            index=index,
            inputs=self.sequences[pick],
            targets=self.sequences[game.unsqueeze(1), at + 1],
            log_probs=self.log_probs[pick],
            entropies=self.entropies[pick],
            plies=at.int(),
            captures=self.captures[pick],
            legal=None if self.legal is None else self.legal[pick],
        )

    def _starts(self, game: Tensor, sweep: Tensor) -> Tensor:
        """Where each window begins, (B,) int64: anywhere, stratified over a game's windows.

        Starts are drawn half a window beyond both ends and clamped. So windows that begin with the
        game are frequent, and the plies near a game's ends count as often as those in the middle.
        """
        assert self.context is not None
        beyond = self.context // 2
        last = (self.lengths[game] + 1 - self.context).clamp(min=0)
        # Neighbouring games are cut from different parts, so that every batch holds all parts.
        stratum = (sweep + game) % self.windows_per_game
        span = last + 1 + 2 * beyond
        drawn = below(random_words(self.seed, self.numbers[game], stratum, WINDOW), span)
        start = (stratum * span + drawn) // self.windows_per_game - beyond
        return torch.minimum(start.clamp(min=0), last)
