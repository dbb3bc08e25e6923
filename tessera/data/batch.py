"""What a model trains on: token sequences, and what is known exactly about every target.

Shapes: B sequences, L positions, n rows, V = n² + 3 tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tessera.vocabulary import Vocabulary


class GameBatch(NamedTuple):
    """Sequences EOS, moves, EOS, PAD, or windows of them, and their targets one position on.

    Attributes:
        index: the batch's number in its stream.
        inputs: (B, L) int64 tokens.
        targets: (B, L) int64 tokens; PAD where there is nothing to predict.
        log_probs: (B, L) float32, the exact log-probability in nats that the player gave the
            target; 0 for EOS and PAD.
        entropies: (B, L) float32, the exact entropy in nats of the player's choice; 0 for EOS and
            PAD.
        plies: (B, L) int32, the target's ply, from 0.
        captures: (B, L) int32, stones that the game's plies before the target took off the board.
        legal: (B, L, n) int32 row bitboards of the legal points before the target; None where
            they were not asked for.
    """

    index: int  # type: ignore[assignment]  # tuple.index is of no use here
    inputs: Tensor
    targets: Tensor
    log_probs: Tensor
    entropies: Tensor
    plies: Tensor
    captures: Tensor
    legal: Tensor | None

    def legal_tokens(self) -> Tensor:
        """(B, L, V) bool, True where a token may follow: legal points and PASS, or EOS at the end.

        Raises:
            ValueError: if the batch holds no legal points.
        """
        if self.legal is None:
            raise ValueError("legal must have been asked for with with_legal=True, got None.")
        vocabulary = Vocabulary(self.legal.shape[-1])
        columns = torch.arange(vocabulary.board_size, device=self.legal.device, dtype=torch.int32)
        points = (self.legal.unsqueeze(-1) >> columns & 1).bool().flatten(2)
        is_end = (self.targets == vocabulary.eos_token).unsqueeze(-1)
        nothing = torch.zeros_like(is_end)
        # Beyond a game's last ply no point is legal.
        return torch.cat([points, ~is_end, nothing, is_end], -1)
