"""A model once more, to be used beside the one that is trained."""

from __future__ import annotations

import torch

from tessera.model.model import GameModel


def twin_of(model: GameModel) -> GameModel:
    """A model with the same weights and none of the hooks, which hold what cannot be copied."""
    with torch.random.fork_rng(devices=[]):
        twin = GameModel(model.settings)
    twin.load_state_dict(model.state_dict())
    return twin
