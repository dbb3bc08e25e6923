"""What a run of self-play shows: figures and matches in the log, and alerts when it collapses."""

from __future__ import annotations

import math
import re
import signal
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
from tessera.play.match import MatchResult
from tessera.play.match_table import Fixture, PlayedGame
from tessera.play.search_player import SearchPlayer
from tessera.training.objectives import selfplay_watch
from tessera.training.objectives.selfplay_watch import SELFPLAY_THRESHOLDS, SelfPlayWatch
from tessera.training.objectives.version_pool import VersionPool
from tessera.training.outcome_metrics import OUTCOME_METRICS
from tessera.transfers import owned
from tests.play.test_expert_games import MODEL, new_games
from tests.runs import fit, tessera
from tests.training.test_expert_iteration import SMALL
from tests.training.test_resume import STOPPER, stop_at

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
    playouts += ("--model.expert_iteration.match_simulations", 0)
    assert fit(*options, *playouts) == 0
    events = logged()
    tags = set(events.Tags()["scalars"])
    of_games = {"entropy", "gain", "pass_rate", "game_length", "black_wins", "score", "at_limit"}
    of_games |= {"repeated", "value_brier", "value_base", "value_ece", "value_spread"}
    of_matches = {"win_rate_rules", "win_rate_playouts_2", "win_rate_last", "win_rate_pool"}
    of_matches |= {"elo", "kl_to_last"}
    assert {f"selfplay/{name}" for name in of_games | of_matches | {"moves_per_s"}} <= tags
    assert all(event.value == 0 for event in events.Scalars("selfplay/black_wins"))
    assert all(0 <= event.value <= 1 for event in events.Scalars("selfplay/win_rate_pool"))
    assert events.Scalars("selfplay/kl_to_last")[0].value > 0
    # The last version's matches are there too, though no step comes after them.
    assert [event.step for event in events.Scalars("selfplay/elo")] == [6, 12]
    assert "selfplay/game" in events.Tags()["images"]
    err = capsys.readouterr().err
    assert "selfplay_value_spread" in err
    assert re.search(r"step 12/12 .* positions/s", err) and "tokens/s" not in err
    told = r"matches of version 12: win_rate_rules \d\.\d+  win_rate_playouts_2 \S+  "
    told += r"win_rate_last \S+  "
    assert re.search(told + r"win_rate_pool \d\.\d+  elo [-+]\d+\n", err)
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
        options += ("--model.expert_iteration.match_simulations", 0)
        assert fit(*options) == 0
        file = f"checkpoints/{name}/version_0/last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


class Told:
    """Stands for a module, and keeps what it is told."""

    def __init__(self) -> None:
        self.notes: dict[str, float] = {}
        self.trainer = SimpleNamespace(callbacks=[], global_step=3, progress_bar_callback=None)
        self.trainer.log_every_n_steps = 2
        self.logger = None

    def note(self, name: str, value: torch.Tensor) -> None:
        self.notes[name.removeprefix("selfplay/")] = float(value)

    def write(self, values: dict[str, torch.Tensor], step: int) -> None:
        assert step == self.trainer.global_step
        for name, value in values.items():
            self.note(name, value)


def new_watch(module: Told, pool: VersionPool | None = None, pairs: int = 3) -> SelfPlayWatch:
    return SelfPlayWatch(module, pool or VersionPool(8), pairs, 2, 0, 0.25, torch.float32)  # type: ignore[arg-type]


def test_a_version_meets_the_rules_and_past_versions_and_is_rated_by_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    games, module, pool = new_games(), Told(), VersionPool(8)
    models = []
    for seed in range(4):
        torch.manual_seed(seed)
        models.append(GameModel(MODEL))
    met: list[tuple[torch.Tensor | None, int]] = []
    seeds = list[int]()

    def match(own: SearchPlayer, other: Any, pairs: int, *, seed: int, **_: Any) -> MatchResult:
        """The later version wins three of four, and the first one half against the rules."""
        weights = None
        seeds.append(seed)
        assert own.search.evaluator.score_weight == 0.25
        if isinstance(other, SearchPlayer):
            assert isinstance(other.search.evaluator, ModelEvaluator)
            weights = first_weight(other.search.evaluator.model).clone()
        met.append((weights, pairs))
        # The newest one, whom fewer openings are played with, is met first.
        against = (1.0, 0.75) if pairs == 1 else (1.0, 0.5)
        return won((0.5, 0.5) if weights is None else against, 100)

    monkeypatch.setattr(selfplay_watch, "play_match", match)
    monkeypatch.setattr(SelfPlayWatch, "_distance", lambda *_: 0.0)
    watch = new_watch(module, pool)
    told = []
    for number, model in enumerate(models, 1):
        watch.compare(games, model, 10 * number)
        pool.add(10 * number, model)
        told.append(dict(module.notes))
    # Of all openings the past versions have as many together as the rules.
    assert [pairs for _, pairs in met] == [3, 3, 3, 3, 1, 2, 3, 1, 2]
    # No two versions play the same openings.
    assert seeds == [10, 20, 20, 30, 30, 30, 40, 40, 40]
    # The newest one first, then one of the others.
    others = [weights for weights, _ in met if weights is not None]
    newest = [first_weight(models[nth]) for nth in (0, 1, 2)]
    assert all(torch.equal(others[at], own) for at, own in zip((0, 1, 3), newest, strict=True))
    assert torch.equal(others[2], newest[0])
    assert "win_rate_pool" not in told[0] and "kl_to_last" not in told[0]
    assert told[0]["win_rate_rules"] == 0.5 and told[3]["win_rate_pool"] == 0.8125
    assert told[0]["elo"] == pytest.approx(0) and "win_rate_last" not in told[0]
    assert told[3]["win_rate_last"] == 0.875
    # By the matches with each other every version is better, by those with the rules none is.
    assert 20 < told[1]["elo"] < told[2]["elo"] < 191
    # With one opening the newest version is all that is met.
    met.clear()
    new_watch(module, pool, 1).compare(games, models[0], 50)
    assert [pairs for _, pairs in met] == [1, 1]


def won(points: tuple[float, float], pairs: int) -> MatchResult:
    """So many openings, in which the first side had these points with black and with white."""
    played = []
    for number in range(pairs):
        for is_black, own in zip((True, False), points, strict=True):
            fixture = Fixture(number, is_black, ())
            played.append(PlayedGame(fixture, (), 0.0, own, f"{number}{is_black}"))
    return MatchResult(("own", "other"), tuple(played))


def test_moves_a_second_are_of_this_process_s_own_time() -> None:
    games, module = new_games(), Told()
    resumed = new_watch(module)
    games.plies = 10**9  # of which none was played here
    resumed.resume(games)
    games.plies += 1
    time.sleep(0.01)
    resumed.tell(games)
    assert 0 < module.notes["moves_per_s"] < 6 / 0.01


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


@pytest.mark.parametrize("ended", ["stopped before a validation", "at its last step"])
def test_a_run_that_goes_on_behind_a_validation_plays_no_match_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    (folder / "small.yaml").write_text(SMALL)
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)
    options = ("--model.expert_iteration.match_pairs", 1, "--checkpoint_every_n_steps", 3)
    options += ("--model.expert_iteration.match_simulations", 0)
    shorter = stop_at(5, signal.SIGTERM) if ended.startswith("stop") else ["--trainer.max_steps", 6]
    assert fit(*options, *shorter) == (143 if ended.startswith("stop") else 0)
    assert fit(*options, "--ckpt_path", "last") == 0
    for tag in ("selfplay/win_rate_rules", "selfplay/elo", "val/win_brier"):
        assert [event.step for event in logged().Scalars(tag)] == [6, 12], tag
    assert [event.step for event in logged().Scalars("selfplay/win_rate_last")] == [12]
