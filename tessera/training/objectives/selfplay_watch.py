"""What a run of self-play shows: figures of its games, matches against others, and alerts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tessera.go import Player, get_player
from tessera.go.randomness import SAMPLE, random_words
from tessera.model import GameModel
from tessera.model.twin import twin_of
from tessera.monitor import TesseraMonitor, Threshold
from tessera.play.contestants import Contestant
from tessera.play.evaluator import ModelEvaluator
from tessera.play.expert_games import ExpertGames
from tessera.play.expert_picture import longest_game
from tessera.play.match import MatchResult, play_match
from tessera.play.match_table import PlayedGame
from tessera.play.playout_sides import FlatSide
from tessera.play.search_player import SearchPlayer
from tessera.training.objectives.version_pool import RULES, VersionPool
from tessera.transfers import owned, to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule

_POSITIONS = 1024  # on which two policies are compared

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
    """Reads the tally of the games, and plays matches with others and with past versions.

    Nothing of it changes what is played or learned. Of several processes the first one watches.

    Args:
        module: in training.
        pool: of the past versions; it is told of the matches.
        match_pairs: openings of a match, each with both colours; 0 for no matches.
        match_simulations: of both sides' searches.
        match_playouts: for each move, of the opponent that only asks playouts; 0 for none.
        score_share: of the score in the search's values.
        dtype: of the model's matrix products.
    """

    def __init__(
        self,
        module: TesseraModule,
        pool: VersionPool,
        match_pairs: int,
        match_simulations: int,
        match_playouts: int,
        score_share: float,
        dtype: torch.dtype,
    ) -> None:
        self._module, self._pool = module, pool
        self._pairs, self._simulations = match_pairs, match_simulations
        self._playouts, self._score_share, self._dtype = match_playouts, score_share, dtype
        self._other: list[GameModel] = []  # has the weights of whom the player is compared with
        self._read_at, self._plies = time.monotonic(), 0

    def resume(self, games: ExpertGames) -> None:
        """Go on with games that were played before.

        A checkpoint of a step whose figures are logged is written just before they are read.
        """
        self._read_at, self._plies = time.monotonic(), games.plies
        trainer = self._module.trainer
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            games.tally.forget()

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

    def compare(self, games: ExpertGames, player: GameModel, number: int) -> None:
        """Play the matches and note how they ended.

        Args:
            games: which are played for learning.
            player: as it is now.
            number: what this version is called, see ``VersionPool``.
        """
        values: dict[str, float] = {}
        with owned("validation"), torch.no_grad():
            if before := self._pool.opponents(number)[:1]:
                other = self._version(before[0], player)
                values["kl_to_last"] = self._distance(games, player, other)
            if self._pairs:
                values |= self._matches(games, player, number)
        # At once, because no step comes after the last validation.
        told = {f"selfplay/{name}": torch.tensor(value) for name, value in values.items()}
        self._module.write(told, self._module.trainer.global_step)
        tell = getattr(self._module.trainer.progress_bar_callback, "tell", None)
        if tell is not None:
            rates = [(name, f"{values[name]:.3f}") for name in values if name.startswith("win_")]
            elo = [("elo", f"{values['elo']:+.0f}")] if rates else []
            tell(f"matches of version {number}", dict([*rates, *elo]))
        self._show(games, player)

    def _version(self, number: int, player: GameModel) -> GameModel:
        """A past version; the same model each time, with other weights."""
        if not self._other:
            self._other = [twin_of(player).to(player.device).eval().requires_grad_(False)]
        (other,) = self._other
        self._pool.load(number, other)
        return other

    def _show(self, games: ExpertGames, player: GameModel) -> None:
        """Add a picture of a game in progress to the log, if that takes pictures."""
        writer: Any = getattr(self._module.logger, "experiment", None)
        if hasattr(writer, "add_image"):
            image = longest_game(games.engine, player)
            if image is not None:
                writer.add_image("selfplay/game", image, self._module.trainer.global_step)

    def _matches(self, games: ExpertGames, player: GameModel, number: int) -> dict[str, float]:
        """Win rates, 0 to 1, and the rating in Elo over the rule-based player."""
        own, values = self._side(player), {}
        result = self._met(games, own, get_player("rules"), self._pairs, number)
        self._pool.record(number, RULES, result.games)
        values["win_rate_rules"] = _rate(result.games)
        if self._playouts:
            result = self._met(games, own, FlatSide(self._playouts), self._pairs, number)
            values[f"win_rate_playouts_{self._playouts}"] = _rate(result.games)
        # Together the past versions take as many openings as another opponent.
        others, met = self._pool.opponents(number)[: self._pairs], list[PlayedGame]()
        for nth, other in enumerate(others):
            pairs = (self._pairs + nth) // len(others)
            side = self._side(self._version(other, player))
            result = self._met(games, own, side, pairs, number)
            self._pool.record(number, other, result.games)
            met += result.games
        if met:
            values["win_rate_pool"] = _rate(met)
        values["elo"] = self._pool.rating(number)
        return values

    @staticmethod
    def _met(
        games: ExpertGames, own: SearchPlayer, other: Player | Contestant, pairs: int, seed: int
    ) -> MatchResult:
        engine = games.engine
        return play_match(
            own,
            other,
            pairs,
            board_size=engine.board_size,
            rules=engine.rules,
            seed=seed,
            device=engine.device,
        )

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


def _rate(games: Sequence[PlayedGame]) -> float:
    """The first side's share of the points."""
    return sum(game.points for game in games) / len(games)
