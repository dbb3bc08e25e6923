"""Models of about the same number of parameters, found by their width."""

from __future__ import annotations

from dataclasses import replace

import torch

from tessera.commands.compare.count import parameters_of
from tessera.model import GameModel, ModelSettings
from tessera.setting_errors import Problem, SettingError

_FINE = 64  # below it every width is looked at, above it those that a GPU multiplies well
_STEP = 8
_MOST_TIMES = 8  # as wide as the row that others are matched to
_TOLERANCE = 0.25


def non_embedding(settings: ModelSettings) -> int:
    """Parameters without those of the embedding.

    Raises:
        SettingError: if there is no such model.
    """
    with torch.device("meta"):
        found = parameters_of(GameModel(settings))
    return sum(found.values()) - found.get("embedding", 0)


def matched(settings: ModelSettings, baseline: ModelSettings) -> ModelSettings:
    """The same model, as wide as it takes to have as near as possible a baseline's parameters.

    Those of the embeddings do not count.

    Args:
        settings: of which ``d_model`` is changed; widths that a part refuses are left out.
        baseline: whose number of parameters is wanted.

    Raises:
        SettingError: if no width comes near it.
    """
    wanted, widest = non_embedding(baseline), _MOST_TIMES * baseline.d_model
    widths = [*range(1, min(_FINE, widest + 1)), *range(_FINE, widest + 1, _STEP)]
    known: dict[int, int | None] = {}

    def count(nth: int) -> int | None:
        if nth not in known:
            try:
                known[nth] = non_embedding(replace(settings, d_model=widths[nth]))
            except SettingError:
                known[nth] = None
        return known[nth]

    # The first width that has at least as many, and the one before it.
    low, high = 0, len(widths) - 1
    while low < high:
        middle = (low + high) // 2
        nth = next((at for at in range(middle, high) if count(at) is not None), None)
        if nth is None:
            high = middle
        elif (count(nth) or 0) < wanted:
            low = nth + 1
        else:
            high = middle
    before = next((at for at in range(low - 1, -1, -1) if count(at) is not None), None)
    found = [at for at in (before, low) if at is not None and count(at) is not None]
    best = min(found, key=lambda at: abs((count(at) or 0) - wanted), default=None)
    nearest = None if best is None else count(best)
    if best is None or nearest is None or abs(nearest / wanted - 1) > _TOLERANCE:
        got = "none is allowed" if nearest is None else f"{nearest:,} are the nearest"
        raise SettingError(
            Problem(
                "d_model",
                got,
                f"make about {wanted:,} parameters without the embedding, as many as the baseline "
                f"has, within {widest:,}; compare with a feed_forward layer in all rows, or match "
                "tokens",
            )
        )
    return replace(settings, d_model=widths[best])
