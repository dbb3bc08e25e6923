"""Finished games cut into padded sequences, all at once, of which batches are pieces.

Shapes: G games, R sequences, L positions, n rows.
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
    """The sequences of one record, so that a batch costs no work on the device.

    Args:
        record: finished games.
        context: L, or None for whole games.
        windows_per_game: sequences of each game, W; there are R = W G of them, games first, so that
            one batch holds as many different games as it can.
    """

    def __init__(self, record: GameRecord, context: int | None, windows_per_game: int) -> None:
        vocabulary = Vocabulary(record.board_size)
        games, plies = record.moves.shape
        # Room for both EOS, and for a window that is longer than the longest game.
        width = max(plies + 2, (context or 0) + 1)
        lengths = record.lengths.long()
        sequences = record.moves.new_full((games, width), vocabulary.pad_token).long()
        sequences[:, 0].fill_(vocabulary.eos_token)
        sequences[:, 1 : plies + 1] = record.moves
        sequences.scatter_(1, lengths.unsqueeze(1) + 1, vocabulary.eos_token)

        def padded(table: Tensor) -> Tensor:
            """By target: (G, T, …), with zeros for EOS and PAD after the last ply's entry."""
            beyond = (0, width - 1 - table.shape[1])
            return torch.nn.functional.pad(table, (*(0, 0) * (table.dim() - 2), *beyond))

        captures = padded(record.captures.int())
        tables = {
            "inputs": sequences[:, :-1],
            "targets": sequences[:, 1:],
            "log_probs": padded(record.log_probs),
            "entropies": padded(record.entropies),
            "plies": torch.arange(width - 1, device=lengths.device).int().expand(games, -1),
            "captures": captures.cumsum(1, dtype=torch.int32) - captures,
        }
        if record.legal is not None:
            tables["legal"] = padded(record.legal)
        self._whole_lengths: list[int] | None = None
        if context is None:
            # Whole games are cut to the longest of a batch, so the lengths have to be known.
            self._whole_lengths = to_host(record.lengths, "games").tolist()
        else:
            row = torch.arange(games * windows_per_game, device=lengths.device)
            game, sweep = row % games, row // games
            starts = _starts(record, context, windows_per_game, game, sweep)
            positions = torch.arange(context, device=game.device)
            pick = game.unsqueeze(1), starts.unsqueeze(1) + positions
            tables = {name: table[pick] for name, table in tables.items()}
        self._tables = tables

    def batch(self, index: int, rows: range) -> GameBatch:
        """The batch that holds these sequences; it shares the chunk's memory.

        Args:
            index: the batch's number in its stream.
            rows: consecutive numbers below R.
        """
        pieces = {name: table[rows.start : rows.stop] for name, table in self._tables.items()}
        if self._whole_lengths is not None:
            length = 1 + max(self._whole_lengths[rows.start : rows.stop])
            pieces = {name: piece[:, :length].contiguous() for name, piece in pieces.items()}
        return GameBatch(
            index=index,
            inputs=pieces["inputs"],
            targets=pieces["targets"],
            log_probs=pieces["log_probs"],
            entropies=pieces["entropies"],
            plies=pieces["plies"],
            captures=pieces["captures"],
            legal=pieces.get("legal"),
        )


def _starts(record: GameRecord, context: int, windows: int, game: Tensor, sweep: Tensor) -> Tensor:
    """Where each window begins, (R,) int64: anywhere, stratified over a game's windows.

    Starts are drawn half a window beyond both ends and clamped. So windows that begin with the
    game are frequent, and the plies near a game's ends count as often as those in the middle.
    """
    beyond = context // 2
    last = (record.lengths.long()[game] + 1 - context).clamp(min=0)
    # Neighbouring games are cut from different parts, so that every batch holds all parts.
    stratum = (sweep + game) % windows
    span = last + 1 + 2 * beyond
    drawn = below(random_words(record.seed, record.numbers[game], stratum, WINDOW), span)
    start = (stratum * span + drawn) // windows - beyond
    return torch.minimum(start.clamp(min=0), last)
