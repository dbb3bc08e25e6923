"""What a run of self-play shows: figures of its games, matches against others, and alerts."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tessera.go import Player, get_player
from tessera.go.randomness import SAMPLE, random_words
from tessera.model import GameModel
from tessera.monitor import TesseraMonitor, Threshold
from tessera.play.contestants import Contestant
from tessera.play.evaluator import ModelEvaluator
from tessera.play.expert_games import ExpertGames
from tessera.play.expert_picture import longest_game
from tessera.play.match import play_match
from tessera.play.playout_sides import FlatSide
from tessera.play.search_player import SearchPlayer
from tessera.transfers import owned, to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule

_FEW_GAMES = 100  # of which nothing is concluded
_POSITIONS = 1024  # on which two policies are compared
_MOST_POINTS = 0.999  # of a match: a rating is no infinity

SELFPLAY_THRESHOLDS = (
    Threshold(
        "selfplay_entropy",
        0.02,
        "high",
        "the policy has collapsed to single moves; raise opening_plies or temperature_plies",
        is_floor=True,
    ),
    Threshold(
        "selfplay_pass_rate", 0.4, "high", "games are passed away; see whether values know who wins"
    ),
    Threshold(
        "selfplay_game_length_ratio",
        0.25,
        "high",
        "games end before the board is divided (length over points)",
        is_floor=True,
    ),
    Threshold(
        "selfplay_at_limit", 0.7, "medium", "most games end at the limit; raise data.max_moves"
    ),
    Threshold(
        "selfplay_repeated",
        0.1,
        "high",
        "the same games are played again and again; raise opening_plies",
    ),
    Threshold(
        "selfplay_value_spread",
        0.02,
        "high",
        "the value head answers one number; see model.win_and_score and model.lr",
        is_floor=True,
    ),
)


class SelfPlayWatch:
    """Reads the tally of the games, plays matches, and keeps the versions that it compares with.

    Nothing of it changes what is played or learned. Of several processes the first one watches.

    Args:
        module: in training.
        match_pairs: openings of a match, each with both colours; 0 for no matches.
        match_simulations: of both sides' searches.
        match_playouts: for each move, of the opponent that only asks playouts; 0 for none.
        score_share: of the score in the search's values.
        dtype: of the model's matrix products.
    """

    def __init__(
        self,
        module: TesseraModule,
        match_pairs: int,
        match_simulations: int,
        match_playouts: int,
        score_share: float,
        dtype: torch.dtype,
    ) -> None:
        self._module, self._pairs, self._simulations = module, match_pairs, match_simulations
        self._playouts, self._score_share, self._dtype = match_playouts, score_share, dtype
        self._before: GameModel | None = None  # the player at the last validation
        self._elo = 0.0
        self._read_at, self._plies = time.monotonic(), 0

    def saved(self) -> dict[str, Any]:
        """The rating and the weights that the next match is against; nothing before the first."""
        if self._before is None:
            return {}
        return {"elo": self._elo, "weights": dict(self._before.state_dict())}

    def resume(self, state: Mapping[str, Any], games: ExpertGames, player: GameModel) -> None:
        """Go on from what ``saved`` returned, if anything, with games that were played before.

        Args:
            state: of ``saved``.
            games: as they stand.
            player: a model like those that are compared.
        """
        self._read_at, self._plies = time.monotonic(), games.plies
        if state:
            before = copy.deepcopy(player)
            before.load_state_dict(state["weights"])
            self._elo, self._before = float(state["elo"]), before

    def tell(self, games: ExpertGames) -> None:
        """Note the figures since the last time for the log, and judge them."""
        found = games.tally.read("selfplay")
        now = time.monotonic()
        moves = (games.plies - self._plies) * games.settings.slots
        found["moves_per_s"] = moves / max(now - self._read_at, 1e-9)
        self._read_at, self._plies = now, games.plies
        for name, value in found.items():
            self._module.note(f"selfplay/{name}", torch.tensor(value))
        points = games.engine.board_size**2
        judged = {f"selfplay_{name}": value for name, value in found.items()}
        if "game_length" in found:
            judged["selfplay_game_length_ratio"] = found["game_length"] / points
        self._judge(judged)

    def _judge(self, values: Mapping[str, float]) -> None:
        trainer = self._module.trainer
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, TesseraMonitor):
                callback.judge(trainer.global_step, values, SELFPLAY_THRESHOLDS)

    def compare(self, games: ExpertGames, player: GameModel) -> None:
        """Play the matches and note how they ended; then remember this version."""
        values: dict[str, float] = {}
        with owned("validation"), torch.no_grad():
            if self._before is not None:
                values["kl_to_last"] = self._distance(games, player, self._before)
            if self._pairs:
                values |= self._matches(games, player)
            if self._before is None:
                self._before = copy.deepcopy(player)
            self._before.load_state_dict(player.state_dict())
        for name, value in values.items():
            self._module.note(f"selfplay/{name}", torch.tensor(value))
        self._show(games, player)

    def _show(self, games: ExpertGames, player: GameModel) -> None:
        """Add a picture of a game in progress to the log, if that takes pictures."""
        writer: Any = getattr(self._module.logger, "experiment", None)
        if hasattr(writer, "add_image"):
            image = longest_game(games.engine, player)
            if image is not None:
                writer.add_image("selfplay/game", image, self._module.trainer.global_step)

    def _matches(self, games: ExpertGames, player: GameModel) -> dict[str, float]:
        """Win rates, 0 to 1, and the rating in Elo over the first version that was measured."""
        engine, own = games.engine, self._side(player)
        others: dict[str, Player | Contestant] = {"rules": get_player("rules")}
        if self._playouts:
            others[f"playouts_{self._playouts}"] = FlatSide(self._playouts)
        if self._before is not None:
            others["last"] = self._side(self._before)
        values = {}
        for name, other in others.items():
            result = play_match(
                own,
                other,
                self._pairs,
                board_size=engine.board_size,
                rules=engine.rules,
                seed=self._module.trainer.global_step,
                device=engine.device,
            )
            assert result.win_rate is not None
            values[f"win_rate_{name}"] = result.win_rate
        if "last" in others:
            points = min(max(values["win_rate_last"], 1 - _MOST_POINTS), _MOST_POINTS)
            self._elo += 400 * math.log10(points / (1 - points))
            values["elo"] = self._elo
        return values

    def _side(self, model: GameModel) -> SearchPlayer:
        evaluator = ModelEvaluator(model, self._dtype, self._score_share)
        return SearchPlayer(evaluator, self._simulations, passes="sensible")

    def _distance(self, games: ExpertGames, new: GameModel, old: GameModel) -> float:
        """The mean KL divergence of the new policy from the old one, nats, on newest positions."""
        numbers = torch.arange(_POSITIONS, device=games.engine.device)
        words = random_words(1, numbers, games.plies, SAMPLE)
        positions = games.ring.sample(words, games.written, min(games.written, games.ring.num_rows))
        logs = [self._log_chances(model, positions.tokens, positions.rows) for model in (new, old)]
        distances = (logs[0].exp() * (logs[0] - logs[1])).sum(1)
        return float(to_host(distances.mean(), "validation"))

    def _log_chances(self, model: GameModel, tokens: Tensor, rows: Tensor) -> Tensor:
        is_rounded = self._dtype == torch.bfloat16
        with torch.autocast(tokens.device.type, torch.bfloat16, is_rounded):
            return (
                model(tokens.unsqueeze(1), None, (rows.unsqueeze(1),))[:, 0].float().log_softmax(1)
            )
