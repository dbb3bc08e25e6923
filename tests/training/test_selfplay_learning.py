"""The whole line: a tiny run of self-play beats the player that it started from, and the rules'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tessera.go import Player, Rules, get_player
from tessera.play.evaluator import ModelEvaluator
from tessera.play.match import MatchResult, play_match
from tessera.play.search_player import SearchPlayer
from tessera.training.module import TesseraModule
from tests.runs import tessera

RULES = Rules(komi=0.5, max_moves=50)
PAIRS = 60


def player_of(name: str, simulations: int) -> SearchPlayer:
    held = torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)
    module = TesseraModule(**held["hyper_parameters"])
    module.load_state_dict(held["state_dict"])
    return SearchPlayer(ModelEvaluator(module.model.eval()), simulations, passes="sensible")


def met(first: Player, second: Player) -> MatchResult:
    return play_match(first, second, PAIRS, board_size=5, rules=RULES, lengths=(2, 4))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_tiny_run_beats_the_player_that_it_started_from(folder: Path, repository: Path) -> None:
    config = repository / "configs" / "selfplay_5x5.yaml"
    options = ("--model.expert_iteration.match_pairs", 0, "--trainer.accelerator", "cpu")
    for name, steps in (("start", 1), ("end", 120)):
        schedule = ("--trainer.max_steps", steps, "--model.decay_steps", 120)
        command = ("fit", "--config", config, "--run_name", name, "--cpu_threads", 1)
        assert tessera(*command, *schedule, *options) == 0
    for simulations in (0, 8):
        end, start = player_of("end", simulations), player_of("start", simulations)
        for other in (start, get_player("rules")):
            interval = met(end, other).win_interval
            assert interval is not None and interval[0] > 0.5, (simulations, other.name)
