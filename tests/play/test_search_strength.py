"""A search plays better than the model that it asks: what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tessera.companion import load
from tessera.go import Rules
from tessera.play.evaluator import Evaluator, ModelEvaluator, PlayoutEvaluator
from tessera.play.match import play_match
from tessera.play.search_player import SearchPlayer
from tests.runs import fit

RULES = Rules(komi=0.5, max_moves=60)
STEPS = 200


def wins(evaluator: Evaluator, simulations: int, pairs: int) -> tuple[int, int]:
    """Games that a search won against the evaluator's own policy, and those that it lost."""
    searching, alone = (
        SearchPlayer(evaluator, count, passes="sensible") for count in (simulations, 0)
    )
    result = play_match(searching, alone, pairs, board_size=5, rules=RULES, seed=1)
    print(f"{simulations} simulations: {result.wins} won, {result.losses} lost")
    return result.wins, result.losses


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_simulations_of_a_small_model_beat_none(folder: Path) -> None:
    of_data = {"board_size": 5, "player": "rules", "max_moves": 50, "context": "null"}
    of_data |= {"windows_per_game": "null", "batch_size": 32, "games_per_chunk": 1024}
    of_model = {"features": "board", "mixer": "identity", "head": "points", "d_model": 32}
    of_model |= {"outcome": "win_and_score", "win_and_score.win_weight": 1.5, "lr": 4e-3}
    of_model |= {"board.channels": 16, "board.depth": 3, "warmup_steps": 20}
    options: list[object] = ["--data.komi", 0.5, "--model.decay_steps", STEPS]
    for section, settings in (("data", of_data), ("model", of_model)):
        for name, value in settings.items():
            options += [f"--{section}.{name}", value]
    steps = ["--trainer.max_steps", STEPS, "--trainer.val_check_interval", STEPS]
    assert fit(*steps, *options) == 0
    path = folder / "checkpoints/small/version_0/last.ckpt"
    evaluator = ModelEvaluator(load(path, torch.device("cpu")).model)
    torch.set_num_threads(2)
    for simulations in (4, 16):
        won, lost = wins(evaluator, simulations, 40)
        # Three standard errors above even.
        assert won - lost > 3 * (won + lost) ** 0.5 or simulations < 16
        assert won > lost


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_over_playouts_beats_who_knows_nothing() -> None:
    won, lost = wins(PlayoutEvaluator(4), 6, 2)
    assert won == 4 and not lost
