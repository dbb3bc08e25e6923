"""The objective ``expert_iteration``: play itself with a search, and learn what that found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tessera.accelerator import memory_problem
from tessera.compiling import compile_together
from tessera.data import GameBatch, GameStream, MixedStream, SelfPlayStream, StreamSettings
from tessera.go.randomness import SAMPLE, random_words
from tessera.model import GameModel
from tessera.model.graphs import TrainingGraphs, is_hooked
from tessera.model.twin import twin_of
from tessera.play.evaluator import ModelEvaluator
from tessera.play.expert_games import ExpertGames
from tessera.play.position_ring import PositionRing, Positions
from tessera.setting_errors import SettingError
from tessera.training.objectives.base import Objective
from tessera.training.objectives.expert_content import check_expert
from tessera.training.objectives.expert_losses import (
    LOSSES,
    PolicyLoss,
    imitation_loss,
    losses_of,
)
from tessera.training.objectives.expert_settings import ExpertIterationSettings
from tessera.training.objectives.expert_setup import games_of
from tessera.training.objectives.selfplay_watch import SelfPlayWatch
from tessera.training.objectives.version_pool import VersionPool
from tessera.training.outcome_metrics import OutcomeMetrics
from tessera.training.strategy import allows_graphs
from tessera.transfers import to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule

_ENGINES = 5  # of all slots: the games, and of two searches the root and what is looked at


class ExpertBatch(NamedTuple):
    """What a step is trained on; a promise of it as long as there are no positions.

    Attributes:
        index: the batch's number.
        positions: what was found of them.
    """

    index: int  # type: ignore[assignment]  # tuple.index is of no use here
    positions: Positions | None = None

    @property
    def targets(self) -> Tensor:
        """(S, 1) int64, the moves that were played: as many as are trained on."""
        assert self.positions is not None
        return self.positions.actions.unsqueeze(1)


class ExpertStream:
    """Numbers, for each of which games are played on and positions are drawn when its step comes.

    Args:
        objective: which plays.
        games: what the data module would have played: its settings, and where.
    """

    def __init__(self, objective: ExpertIteration, games: GameStream) -> None:
        self.start_batch = 0
        self._objective, self._games = objective, games

    def __iter__(self) -> Iterator[ExpertBatch]:
        index = self.start_batch
        while True:
            yield ExpertBatch(index)
            index += 1

    def taken(self, batch: ExpertBatch) -> ExpertBatch:
        """The positions to train on; the games are played on before, as far as they should be."""
        return self._objective.positions(batch.index, self._games)


class ExpertIteration(Objective):
    """Policy improvement by search: the model plays itself, and learns what the search preferred.

    The loss is the cross-entropy of the search's policy, the outcome's losses with their weights,
    and the mean cross-entropy of whose the points were.

    Args:
        model: which is to learn it.
        settings: how.
        policy_loss: (S,) of positions, log-probabilities of the moves and log-odds of winning; None
            for the search's policy.
    """

    def __init__(
        self,
        model: GameModel,
        settings: ExpertIterationSettings,
        policy_loss: PolicyLoss | None = None,
    ) -> None:
        super().__init__()
        assert model.features is not None and model.outcome is not None
        self._policy_loss = policy_loss or imitation_loss
        self.name = "expert_iteration" if policy_loss is None else "policy_gradient"
        self.settings = settings
        self.held_out_needs = model.features.needs
        self.counted = "positions"
        self.shown_held_out = ("win_brier", "win_brier_base", "score_rmse", "score_rmse_base")
        self.outcome_metrics = OutcomeMetrics()
        self._features = model.features.table
        # In a list, so that it is no part of the module: no optimizer and no checkpoint has it.
        self._players: list[GameModel] = []
        self._model = [model]
        self._opponents: list[GameModel] = []  # whom some of the games are against
        self.games: ExpertGames | None = None
        self.pool = VersionPool(settings.pool)
        self._num_drawn, self._pool_every = 0, 0
        self._state: Mapping[str, Any] = {}
        self._graphs: TrainingGraphs | None = None
        self._dtype = torch.float32
        self._newest: Tensor | None = None
        self._watches: list[SelfPlayWatch] = []

    # What is played and drawn.

    def stream(self, games: GameStream | MixedStream) -> ExpertStream:
        """See ``Objective.stream``."""
        if isinstance(games, MixedStream | SelfPlayStream):
            must = "be 0 for objective expert_iteration, which plays games of its own, got more"
            raise SettingError(f"data.selfplay_share must {must}.")
        return ExpertStream(self, games)

    def positions(self, index: int, games: GameStream) -> ExpertBatch:
        """The batch of this number, for which the games are played on as far as is due."""
        played = self.games or self._new_games(games)
        self._num_drawn = index
        if index and self._pool_every and index % self._pool_every == 0:
            self._enter()
        self._num_drawn += 1
        self._teach(played)
        cold = self.settings.playout_steps
        share = games.settings.batch_size / (self.settings.reuse * self.settings.slots)
        for _ in range(self.plies_due(index, share) - played.plies):
            if played.plies < self.plies_due(cold - 1, share) and cold:
                played.play_out()
                continue
            if cold and played.plies == self.plies_due(cold - 1, share):
                played.end_playouts()
            played.play()
        window = max(self.settings.first_rows, int(played.written * self.settings.window_share))
        window = max(1, min(window, played.written, self.settings.rows))
        numbers = torch.arange(games.settings.batch_size, device=games.device)
        words = random_words(games.settings.seed + 1_000_003 * games.rank, numbers, index, SAMPLE)
        found = played.ring.sample(words, played.written, window)
        return ExpertBatch(index, found)

    def plies_due(self, index: int, share: float) -> int:
        """How many plies all slots have played before batch ``index`` is drawn.

        Args:
            index: of the batch, from 0.
            share: rows of the ring for each batch.
        """
        own = self.settings
        cold, first = own.playout_steps, own.first_rows
        if index < cold:
            return first + int(index * share)
        before = first + int((cold - 1) * share) if cold else math.ceil(first / own.full_share)
        return before + int((index - cold + 1) * share / own.full_share)

    def _new_games(self, games: GameStream) -> ExpertGames:
        own, of_data = self.settings, games.settings
        per_game = of_data.rules.bytes_per_game(of_data.board_size)
        needed = own.slots * per_game * (own.simulations + own.fast_simulations + _ENGINES)
        needed += own.num_against * per_game
        needed += self.bytes_to_come(self._model[0], games)
        if problem := memory_problem(needed, games.device):
            told = f"must leave room for the games: {own.slots} at once need {problem}"
            raise SettingError(f"model.{self.name}.slots {told}.")
        player = self._twin(games.device)
        self._players = [player]
        self._opponents = [self._twin(games.device)] if own.num_against else []
        self.games = games_of(
            own,
            [self._evaluator(each) for each in (player, *self._opponents)],
            of_data,
            device=games.device,
            backend=of_data.backend,
            rank=games.rank,
        )
        compile_together(games.device, self.games.launch)
        if self._state:
            player.load_state_dict(self._state["player"])
            self.games.restore(self._state["games"])
            if games.rank:
                self.games.begin_others(games.rank)
            for watch in self._watches:
                watch.resume(self.games)
            self.pool.restore(self._state.get("pool", {}), player)
            self._choose_opponent()
            self._state = {}
        else:
            self.games.begin()
        return self.games

    def _twin(self, device: torch.device) -> GameModel:
        return twin_of(self._model[0]).to(device).eval().requires_grad_(False)

    def _evaluator(self, model: GameModel) -> ModelEvaluator:
        return ModelEvaluator(model, self._dtype, self.settings.score_share)

    # Past versions. One enters the pool with the first batch behind a validation, and not in it: a
    # checkpoint that is written between the two knows nothing of the validation.

    def _enter(self) -> None:
        """Let the player into the pool, and another version be whom games are against."""
        assert self.games is not None
        if self.settings.match_pairs and not self.pool.has_met(self._num_drawn):
            self._compare()
        self.pool.add(self._num_drawn, self._players[0])
        self._choose_opponent()

    def _choose_opponent(self) -> None:
        if self.games is None or self.games.rival is None or not self.pool.numbers:
            return
        (opponent,) = self._opponents
        self.pool.load(self.pool.drawn(self.games.settings.seed), opponent)
        self.games.rival.is_there.fill_(True)

    def _compare(self) -> None:
        if self.games is not None:
            for watch in self._watches:
                watch.compare(self.games, self._players[0], self._num_drawn)

    @torch.no_grad()
    def _teach(self, played: ExpertGames) -> None:
        """Let the player be a step nearer to the model."""
        (player,), (model,) = self._players, self._model
        own, new = tuple(player.parameters()), tuple(model.parameters())
        if self.settings.ema_decay and played.written:
            torch._foreach_lerp_(own, new, 1 - self.settings.ema_decay)
        else:
            torch._foreach_copy_(own, new)

    # What is learned.

    def begin(self, module: TesseraModule) -> None:
        """Take the precision, and let steps be CUDA graphs if the module's are."""
        trainer = module.trainer
        every = trainer.val_check_batch  # infinite if there is no validation
        self._pool_every = every if isinstance(every, int) else 0
        self._dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
        is_gpu = module.device.type == "cuda"
        if module.hparams["cuda_graph"] and is_gpu and allows_graphs(trainer.strategy):
            self._graphs = TrainingGraphs(module.model, self._score)
        if trainer.is_global_zero:
            own = self.settings
            sides = (own.match_pairs, own.match_simulations, own.match_playouts)
            watch = SelfPlayWatch(module, self.pool, *sides, own.score_share, self._dtype)
            self._watches = [watch]

    def loss(self, model: GameModel, batch: ExpertBatch) -> Tensor:
        """See ``Objective.loss``."""
        positions = batch.positions
        assert positions is not None and model.outcome is not None
        run = self._score if self._graphs is None else self._graphs
        losses, _ = run((), *positions)
        weights = (1.0, *model.outcome.weights, model.outcome.ownership_weight)
        total = sum((weight * loss for weight, loss in zip(weights, losses, strict=True)), 0.0)
        assert isinstance(total, Tensor)
        self._newest = torch.cat([total.detach()[None], losses.detach()])
        return total

    def trial(self, model: GameModel, games: GameStream) -> ExpertBatch:
        """See ``Objective.trial``: empty positions."""
        of_games = games.settings
        rows = of_games.batch_size
        ring = PositionRing(1, rows, of_games.board_size, 1, games.device)
        words = torch.arange(rows, device=games.device)
        return ExpertBatch(0, ring.sample(words, 1, 1))

    def forget(self) -> None:
        """See ``Objective.forget``."""
        self._newest = None

    def bytes_to_come(self, model: GameModel, games: GameStream) -> int:
        """See ``Objective.bytes_to_come``: all but a search's tree."""
        own, size = self.settings, games.settings.board_size
        ring = PositionRing(own.rows, own.slots, size, 1, torch.device("meta"))
        models = 1 + own.pool + (own.num_against > 0)
        weights = sum(weight.nbytes for weight in model.parameters())
        return models * weights + sum(tensor.nbytes for tensor in ring.tensors.values())

    def launch(self, model: GameModel, batch: ExpertBatch) -> None:
        """Launch a forward and a backward pass, unless somebody listens to single modules."""
        inside = [module for module in model.modules() if module not in (model, model.watched)]
        weights = list(model.parameters())
        if batch.positions is None or is_hooked(inside, weights):
            return
        losses, _ = self._score((), *batch.positions)
        with torch.autocast(model.device.type, enabled=False):
            torch.autograd.grad(losses.sum(), weights, allow_unused=True)

    def _score(self, names: tuple[str, ...], *tensors: Tensor) -> tuple[Tensor, tuple[()]]:
        """The four losses (4,), without a side effect."""
        own, (model,) = self.settings, self._model
        positions = Positions(*tensors)
        return losses_of(model, positions, self._policy_loss, own.value_share, own.num_against), ()

    def figures(self, owner: str) -> dict[str, Tensor]:
        """The newest batch's loss and the four that it is made of, in nats but for the score's.

        With them the logger is told of the games, see ``GameTally.read``.
        """
        if self._newest is None:
            return {}
        if owner == "logger" and self.games is not None:
            for watch in self._watches:
                watch.tell(self.games)
        return dict(zip(("loss", *LOSSES), to_host(self._newest, owner), strict=True))

    # What is measured on the player's games.

    def measure(self, model: GameModel, batch: GameBatch) -> None:
        """Add a batch of the built-in player's games: what the model expects of their ends."""
        _, outcome = model.outlook(batch.inputs, batch.features(self._features))
        self.outcome_metrics.update(outcome, batch.scores(), batch.targets != model.pad_token)

    def measured(self) -> dict[str, Tensor]:
        """See ``OutcomeMetrics``."""
        values = self.outcome_metrics.compute()
        self.outcome_metrics.reset()
        return values

    def after_validation(self, module: TesseraModule) -> None:
        """Compare the player with others, and with itself of earlier validations."""
        self._compare()

    # What is kept.

    def saved(self) -> dict[str, Any]:
        """The weights that play and are learned, all games and positions, and past versions."""
        if self.games is None:
            return dict(self._state)
        weights = {
            name: dict(model.state_dict())
            for name, model in (("player", self._players[0]), ("learner", self._model[0]))
        }
        pool = {"pool": kept} if (kept := self.pool.saved()) else {}
        return {**weights, "games": self.games.saved(), **pool}

    def published(self) -> Mapping[str, Tensor]:
        """The moving average, if there is one: it plays better than what is being learned."""
        if self.games is None or not self.settings.ema_decay:
            return {}
        return self._players[0].state_dict()

    def learning(self, state: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """See ``Objective.learning``."""
        return state.get("learner", {})

    def restore(self, state: Mapping[str, Any]) -> None:
        """Keep it until there are games."""
        self._state = dict(state)

    def check_saved(self, state: Any, games: StreamSettings) -> None:
        """See ``Objective.check_saved``."""
        if state != {}:
            (model,) = self._model
            like = games_of(
                self.settings,
                [self._evaluator(model)],
                games,
                device=torch.device("meta"),
                backend="torch",
            )
            check_expert(state, model.state_dict(), like)
