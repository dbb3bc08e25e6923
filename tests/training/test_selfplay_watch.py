"""What a run of self-play shows: figures and matches in the log, and alerts when it collapses."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.model import GameModel
from tessera.monitor import AlertRule
from tessera.play.evaluator import ModelEvaluator
from tessera.play.search_player import SearchPlayer
from tessera.training.objectives import selfplay_watch
from tessera.training.objectives.selfplay_watch import SELFPLAY_THRESHOLDS, SelfPlayWatch
from tessera.training.outcome_metrics import OUTCOME_METRICS
from tessera.transfers import owned
from tests.play.test_expert_games import MODEL, new_games
from tests.runs import fit, tessera
from tests.training.test_expert_iteration import SMALL

HEALTHY = {
    "selfplay_entropy": 1.5,
    "selfplay_pass_rate": 0.05,
    "selfplay_game_length_ratio": 1.1,
    "selfplay_at_limit": 0.1,
    "selfplay_repeated": 0.0,
    "selfplay_value_spread": 0.3,
}
COLLAPSED = {
    "selfplay_entropy": (0.001, "below"),
    "selfplay_pass_rate": (0.6, "above"),
    "selfplay_game_length_ratio": (0.05, "below"),
    "selfplay_at_limit": (0.95, "above"),
    "selfplay_repeated": (0.4, "above"),
    "selfplay_value_spread": (0.001, "below"),
}


def test_healthy_games_raise_no_alert_and_every_collapse_its_own() -> None:
    assert {threshold.metric for threshold in SELFPLAY_THRESHOLDS} == set(COLLAPSED)
    assert not AlertRule(SELFPLAY_THRESHOLDS).decide(1, HEALTHY)
    for metric, (value, side) in COLLAPSED.items():
        (alert,) = AlertRule(SELFPLAY_THRESHOLDS).decide(1, HEALTHY | {metric: value})
        assert alert.metric == metric and f" is {side} " in alert.message


def logged() -> EventAccumulator:
    events = EventAccumulator("lightning_logs/small/version_0")
    return events.Reload()


def test_games_matches_and_collapse_are_in_the_log(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    # Passes lose nothing where komi is larger than the board: white's games end at once.
    (folder / "small.yaml").write_text(SMALL.replace("komi: 0.5", "komi: 20"))
    options = ("--model.expert_iteration.match_pairs", 2, "--model.expert_iteration.ema_decay", 0.0)
    playouts = ("--model.expert_iteration.match_playouts", 2)
    assert fit(*options, *playouts, "--trainer.max_steps", 14) == 0
    events = logged()
    tags = set(events.Tags()["scalars"])
    of_games = {"entropy", "gain", "pass_rate", "game_length", "black_wins", "score", "at_limit"}
    of_games |= {"repeated", "value_brier", "value_base", "value_ece", "value_spread"}
    of_matches = {"win_rate_rules", "win_rate_playouts_2", "win_rate_last", "elo", "kl_to_last"}
    assert {f"selfplay/{name}" for name in of_games | of_matches | {"moves_per_s"}} <= tags
    assert all(event.value == 0 for event in events.Scalars("selfplay/black_wins"))
    assert all(0 <= event.value <= 1 for event in events.Scalars("selfplay/win_rate_last"))
    assert events.Scalars("selfplay/kl_to_last")[0].value > 0
    assert "selfplay/game" in events.Tags()["images"]
    err = capsys.readouterr().err
    assert "selfplay_value_spread" in err
    assert re.search(r"validation at step 12: win_brier \S+  win_brier_base \S+  score_rmse", err)
    # Nothing of the next move was measured, so the table has no row of it.
    capsys.readouterr()
    assert tessera("validate", "--ckpt_path", "last", "--run_name", "small") == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert set(OUTCOME_METRICS) < names and not names & {"loss", "excess_nats", "legal_mass"}


def test_watching_changes_nothing_that_is_learned(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL)
    weights = []
    for name, pairs in (("with", 1), ("without", 0)):
        options = ("--run_name", name, "--model.expert_iteration.match_pairs", pairs)
        assert fit(*options) == 0
        file = f"checkpoints/{name}/version_0/last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


class Told:
    """Stands for a module, and keeps what it is told."""

    def __init__(self) -> None:
        self.notes: dict[str, float] = {}
        self.trainer = SimpleNamespace(callbacks=[], global_step=3)
        self.logger = None

    def note(self, name: str, value: torch.Tensor) -> None:
        self.notes[name.removeprefix("selfplay/")] = float(value)


def new_watch(module: Told) -> SelfPlayWatch:
    return SelfPlayWatch(module, 1, 2, 0, 0.0, torch.float32)  # type: ignore[arg-type]


def test_a_rating_rises_with_wins_and_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    games, module = new_games(), Told()
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(GameModel(MODEL))
    met: list[torch.Tensor] = []

    def match(own: SearchPlayer, other: Any, *_: Any, **__: Any) -> SimpleNamespace:
        if isinstance(other, SearchPlayer):
            assert isinstance(other.search.evaluator, ModelEvaluator)
            met.append(first_weight(other.search.evaluator.model).clone())
        return SimpleNamespace(win_rate=10 / 11)

    monkeypatch.setattr(selfplay_watch, "play_match", match)
    watch = new_watch(module)
    monkeypatch.setattr(SelfPlayWatch, "_distance", lambda *_: 0.0)
    for model in models:
        watch.compare(games, model)
    # Ten of eleven points are 400 Elo, each time over the version before.
    assert module.notes["elo"] == pytest.approx(800)
    assert all(torch.equal(*pair) for pair in zip(met, map(first_weight, models), strict=False))
    assert len(met) == 2

    resumed = new_watch(module)
    games.plies = 10**9  # of which none was played here
    resumed.resume(watch.saved(), games, GameModel(MODEL))
    games.plies += 1
    time.sleep(0.01)
    resumed.tell(games)
    assert 0 < module.notes["moves_per_s"] < 6 / 0.01
    resumed.compare(games, models[0])
    assert module.notes["elo"] == pytest.approx(1200)
    assert torch.equal(met[-1], first_weight(models[2]))


def first_weight(model: GameModel) -> torch.Tensor:
    return next(model.parameters())


def test_the_distance_is_that_of_the_new_policy_from_the_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    games, new, old = new_games(), GameModel(MODEL), GameModel(MODEL)
    games.begin()
    games.play()
    games.play()
    certain = {id(new): [0.9, 0.1], id(old): [0.5, 0.5]}
    answers = {key: torch.tensor([value]).log() for key, value in certain.items()}
    watch = new_watch(Told())
    monkeypatch.setattr(watch, "_log_chances", lambda model, *_: answers[id(model)])
    expected = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    with owned("validation"):
        assert watch._distance(games, new, old) == pytest.approx(expected)
