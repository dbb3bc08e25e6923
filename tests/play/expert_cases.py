"""Games of self-play to be compared: run as a program, in kernels and in plain torch."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from tessera.go import Rules
from tessera.model import GameModel, ModelSettings
from tessera.play.evaluator import ModelEvaluator
from tessera.play.expert_games import ExpertGames, GamesSettings
from tessera.play.search import GumbelSearch
from tests.interpreting import quicken

RULES = Rules(komi=0.5, max_moves=14)


def played(backend: str, device: str, plies: int, size: int = 3, **settings: Any) -> ExpertGames:
    """Games that began with playouts and went on with searches."""
    torch.manual_seed(0)
    model = GameModel(
        ModelSettings(
            **{"vocab_size": size**2 + 3, "d_model": 8, "features": "board", "mixer": "identity"},
            **{"head": "points", "outcome": "win_and_score"},
            board={"channels": 4, "depth": 2, "pooled": 1, "colour": True},
        )
    )
    evaluator = ModelEvaluator(model.to(device).eval())
    full, fast = (GumbelSearch(evaluator, n, 3, passes="sensible") for n in (3, 0))
    own = {"slots": 3, "full_share": 0.5, "opening_plies": 2, "temperature_plies": 2}
    own |= {"playouts": 4, "rows": 16, "seed": 1}
    torch.manual_seed(1)
    opponent = ModelEvaluator(GameModel(model.settings).to(device).eval())
    asked = GamesSettings(**(own | settings))
    games = ExpertGames(
        full,
        fast,
        asked,
        board_size=size,
        rules=RULES,
        device=torch.device(device),
        backend=backend,
        opponent=opponent if asked.against else None,
    )
    if games.rival is not None:
        games.rival.is_there.fill_(True)
    games.begin()
    for _ in range(3):
        games.play_out()
    games.end_playouts()
    for _ in range(plies):
        games.play()
    return games


def kept(games: ExpertGames) -> dict[str, Tensor]:
    """All that is kept, without NaN, and without what nobody reads."""
    tensors = {name: tensor.nan_to_num(7).cpu() for name, tensor in games.tensors().items()}
    tensors["tally_hashes"] = tensors["tally_hashes"][:-1]
    return tensors


if __name__ == "__main__":
    torch.set_num_threads(1)
    quicken()
    torch.save(
        {name: kept(played(name, "cpu", 8, against=1)) for name in ("torch", "triton")}, sys.argv[1]
    )
