"""Finished games cut into padded sequences, all at once, of which batches are pieces.

Shapes: G games, R sequences, L positions, n rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tessera.data.batch import BATCH_TABLES, GameBatch
from tessera.go import GameRecord
from tessera.go.randomness import WINDOW, below, random_words
from tessera.transfers import HostCopy, begin_to_host
from tessera.vocabulary import Vocabulary


class Chunk:
    """The sequences of one record, so that a batch costs no work on the device.

    Args:
        record: finished games.
        context: L, or None for whole games.
        windows_per_game: sequences of each game, W; there are R = W G of them, games first, so that
            one batch holds as many different games as it can.
        length_step: batches of whole games are of such lengths, or of the most there is room for,
            so that few lengths occur; PAD fills them up.
    """

    def __init__(
        self,
        record: GameRecord,
        context: int | None,
        windows_per_game: int,
        length_step: int = 1,
    ) -> None:
        vocabulary = Vocabulary(record.board_size)
        games, plies = record.moves.shape
        # Room for both EOS, and for a window that is longer than the longest game.
        width = max(plies + 2, (context or 0) + 1)
        lengths = record.lengths.long()
        sequences = record.moves.new_full((games, width), vocabulary.pad_token)
        sequences[:, 0].fill_(vocabulary.eos_token)
        sequences[:, 1 : plies + 1] = record.moves
        sequences.scatter_(1, lengths.unsqueeze(1) + 1, vocabulary.eos_token)

        # By target: what belongs to a ply, and zeros for EOS and PAD after the last one.
        tables: dict[str, Any] = {
            name: BATCH_TABLES[name].fitted(tensor, width - 1, record.board_size)
            for name, _, tensor in record.tables()
            if name in BATCH_TABLES
        }
        captures = tables["captures"].int()
        tables |= {
            "inputs": sequences[:, :-1],
            "targets": sequences[:, 1:],
            "plies": torch.arange(width - 1, device=lengths.device).int().expand(games, -1),
            "captures": captures.cumsum(1, dtype=torch.int32) - captures,
        }
        cut = GameBatch(index=0, **tables)
        self._length_step = length_step
        self._whole_lengths: HostCopy | None = None
        if context is None:
            # Whole games are cut to the longest of a batch, so the lengths have to be known.
            self._whole_lengths = begin_to_host(record.lengths, "games")
        else:
            cut = cut.windows(_starts(record, context, windows_per_game), context)
        # Tokens are words of 16 bits until then: a GPU moves a quarter of the memory.
        self._sequences = cut._replace(inputs=cut.inputs.long(), targets=cut.targets.long())

    def batch(self, index: int, rows: range) -> GameBatch:
        """The batch that holds these sequences; it shares the chunk's memory.

        Args:
            index: the batch's number in its stream.
            rows: consecutive numbers below R.
        """
        some = slice(rows.start, rows.stop)
        batch = self._sequences.rows(some)._replace(index=index)
        if self._whole_lengths is None:
            return batch
        longest = 1 + int(self._whole_lengths.wait()[some].max())
        return batch.positions(-(-longest // self._length_step) * self._length_step)


def _starts(record: GameRecord, context: int, windows: int) -> Tensor:
    """Where each window begins, (G, W) int64: anywhere, stratified over a game's windows.

    Starts are drawn half a window beyond both ends and clamped. So windows that begin with the
    game are frequent, and the plies near a game's ends count as often as those in the middle.
    """
    beyond = context // 2
    row = torch.arange(len(record.lengths) * windows, device=record.lengths.device)
    game, sweep = row // windows, row % windows
    last = (record.lengths.long()[game] + 1 - context).clamp(min=0)
    # Neighbouring games are cut from different parts, so that every batch holds all parts.
    stratum = (sweep + game) % windows
    span = last + 1 + 2 * beyond
    drawn = below(random_words(record.seed, record.numbers[game], stratum, WINDOW), span)
    start = (stratum * span + drawn) // windows - beyond
    return torch.minimum(start.clamp(min=0), last).view(-1, windows)
