"""Small models for the games that people follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tessera.go import RULES, Rules
from tessera.model import GameModel, ModelSettings
from tessera.play.session import Session
from tessera.vocabulary import num_tokens

KINDS: dict[str, dict[str, Any]] = {
    "moves": {},
    "blocks": {"n_layers": 3, "mixer": ["mamba", "attention", "mamba2"], "feed_forward": "dense"},
    "board": {
        "features": "board",
        "head": "points",
        "outcome": "win_and_score",
        "board": {"channels": 4, "depth": 1},
    },
    "landmarks": {
        "features": "landmarks",
        "head": "points",
        "outcome": "win_and_score",
        "points": {"decoded": 2},
    },
}


def new_model(kind: str = "moves", board_size: int = 5) -> GameModel:
    """A model that knows nothing yet, but says something different of every position."""
    torch.manual_seed(1)
    settings = ModelSettings(vocab_size=num_tokens(board_size), d_model=16, **KINDS[kind])
    model = GameModel(settings).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("head", "outcome")):
                weight.mul_(20)
    return model


@pytest.fixture
def new_session() -> Callable[..., Session]:
    """Makes a session with a small model."""

    def make(
        kind: str = "moves",
        board_size: int = 5,
        rules: str | Rules = "full",
        context: int | None = None,
        **changes: Any,
    ) -> Session:
        chosen = replace(RULES[rules] if isinstance(rules, str) else rules, **changes)
        return Session(new_model(kind, board_size), board_size, chosen, context, "cpu")

    return make
