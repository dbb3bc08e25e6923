"""The games of self-play as an objective's settings want them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tessera.data import StreamSettings
from tessera.play.evaluator import Evaluator
from tessera.play.expert_games import ExpertGames, GamesSettings
from tessera.play.search import GumbelSearch
from tessera.training.objectives.expert_settings import ExpertIterationSettings


def games_of(
    own: ExpertIterationSettings,
    players: Sequence[Evaluator],
    games: StreamSettings,
    *,
    device: torch.device,
    backend: str,
    rank: int = 0,
) -> ExpertGames:
    """The games of a player, and if there is a second one, some against that.

    Args:
        own: how they are played.
        players: one or two.
        games: their board, rules and seed.
        device, backend, rank: see ``ExpertGames``.
    """
    full, fast = (
        GumbelSearch(
            players[0],
            simulations,
            min(own.considered, max(2, simulations // 2)),
            own.value_scale,
            passes="sensible",
        )
        for simulations in (own.simulations, own.fast_simulations)
    )
    settings = GamesSettings(
        slots=own.slots,
        full_share=own.full_share,
        opening_plies=own.opening_plies,
        temperature_plies=own.temperature_plies,
        playouts=own.playouts,
        rows=own.rows,
        seed=games.seed,
        against=own.num_against,
    )
    return ExpertGames(
        full,
        fast,
        settings,
        board_size=games.board_size,
        rules=games.rules,
        device=device,
        backend=backend,
        rank=rank,
        opponent=players[1] if len(players) > 1 else None,
    )
