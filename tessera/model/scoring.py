"""The losses of positions whose last vectors are known.

Shape suffixes: T positions, N rows of the board, H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from torch import Tensor

from tessera.model.heads import Head, losses_of, without
from tessera.model.outcome import OutcomeHead


def position_losses(
    head: Head,
    outcome: OutcomeHead | None,
    hidden_TH: Tensor,
    maps: tuple[Tensor, ...],
    targets_T: Tensor,
    pad_token: int,
    scores_T: Tensor | None = None,
    excluded_TN: Tensor | None = None,
) -> list[Tensor]:
    """The losses (T,) of the moves and, if there are scores, of the win probability and the score.

    Only those of the moves are 0 at PAD.

    Args:
        head, outcome: of a model.
        hidden_TH: what its blocks make of the positions.
        maps: the map of the features, if there is one.
        targets_T: what came after each position.
        pad_token: the target that is left out.
        scores_T: by how many points the player to move wins.
        excluded_TN: row bitboards of the points whose logits are minus infinity.
    """
    own = maps if head.reads_map else ()
    if excluded_TN is None:
        losses = [head.losses(hidden_TH, targets_T, pad_token, *own)]
    else:
        logits_TV = without(head(hidden_TH, *own), excluded_TN)
        losses = [losses_of(logits_TV, targets_T, pad_token)]
    if scores_T is not None:
        assert outcome is not None
        losses += outcome.losses(hidden_TH, scores_T, *maps)
    return losses
