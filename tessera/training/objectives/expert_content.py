"""Whether what a checkpoint holds of self-play is what its run would have kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tessera.play.expert_games import ExpertGames
from tessera.training.checkpoint_parts import (
    TOO_MANY,
    ContentError,
    check_like,
    check_weights,
    shown,
)
from tessera.training.objectives.version_pool import check_pool

_WEIGHTS = ("player", "learner")
_MAY = ("pool", "watch")  # the latter of earlier versions, which nothing reads any more
_COUNTS = ("plies", "written")


def check_expert(state: Any, weights: Mapping[str, Tensor], games: ExpertGames) -> None:
    """Raise ContentError unless a run can go on from a value.

    Args:
        state: anything.
        weights: of a model like those that play and learn.
        games: like those that were played; they need no memory.
    """
    kept = {*_WEIGHTS, "games"}
    if not isinstance(state, dict) or {*state} - {*_MAY} != kept:
        raise ContentError(f"objective must hold player, learner and games, got {shown(state)}")
    for name in _WEIGHTS:
        check_weights(f"objective {name}", state[name], weights)
    if "pool" in state:
        check_pool(state["pool"], weights)
    _check_games(state["games"], games)


def _check_games(state: Any, games: ExpertGames) -> None:
    if not isinstance(state, dict):
        raise ContentError(f"objective games must be kept by name, got {shown(state)}")
    expected = games.tensors()
    for name in (*_COUNTS, *expected):
        if name not in state:
            raise ContentError(f"objective games lack {name}")
    for name, value in state.items():
        if name in expected:
            check_like(f"objective games {name}", value, expected[name])
        elif name not in _COUNTS or type(value) is not int or not 0 <= value < TOO_MANY:
            raise ContentError(f"objective games {name} cannot be used, got {shown(value)}")
    written, in_ring = state["written"], int(state["ring_written"])
    if written != in_ring:
        raise ContentError(f"objective games written must be {in_ring}, got {written}")
