"""The objective ``expert_iteration``: play itself with a search, and learn what that found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.data import GameBatch, GameStream, MixedStream
from tessera.go.randomness import SAMPLE, random_words
from tessera.model import GameModel
from tessera.model.graphs import TrainingGraphs
from tessera.play.evaluator import ModelEvaluator, check_evaluator
from tessera.play.expert_games import ExpertGames, GamesSettings
from tessera.play.position_ring import Positions
from tessera.play.search import GumbelSearch
from tessera.setting_errors import Problem, SettingError, number, problems_of, whole
from tessera.training.checkpoint_parts import ContentError, check_weights, shown
from tessera.training.objectives.base import Objective, ObjectiveSettings
from tessera.training.outcome_metrics import OutcomeMetrics
from tessera.training.strategy import allows_graphs
from tessera.transfers import to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule

LOSSES = ("policy_loss", "win_loss", "score_loss", "ownership_loss")
_SHARE = number("0 to 1", lambda share: 0 <= share <= 1)
_ALLOWED = {
    "slots": whole(1),
    "simulations": whole(1),
    "fast_simulations": whole(0),
    "considered": whole(2),
    "full_share": number("more than 0, to 1", lambda share: 0 < share <= 1),
    "reuse": number("more than 0", lambda reuse: 0 < reuse < math.inf),
    "rows": whole(1),
    "first_rows": whole(1),
    "window_share": number("more than 0, to 1", lambda share: 0 < share <= 1),
    "opening_plies": whole(0),
    "temperature_plies": whole(0),
    "playout_steps": whole(0),
    "playouts": whole(1),
    "value_share": _SHARE,
    "score_share": _SHARE,
    "value_scale": number("at least 0", lambda scale: 0 <= scale < math.inf),
    "ema_decay": number("0 to less than 1", lambda decay: 0 <= decay < 1),
}


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
    """

    def __init__(self, model: GameModel, settings: ExpertIterationSettings) -> None:
        super().__init__()
        assert model.features is not None and model.outcome is not None
        self.settings = settings
        self.held_out_needs = model.features.needs
        self.outcome_metrics = OutcomeMetrics()
        self._features = model.features.table
        # In a list, so that it is no part of the module: no optimizer and no checkpoint has it.
        self._players: list[GameModel] = []
        self._model = [model]
        self.games: ExpertGames | None = None
        self._state: Mapping[str, Any] = {}
        self._graphs: TrainingGraphs | None = None
        self._dtype = torch.float32
        self._newest: Tensor | None = None

    # What is played and drawn.

    def stream(self, games: GameStream | MixedStream) -> ExpertStream:
        """See ``Objective.stream``."""
        if not isinstance(games, GameStream):
            must = "be 0 for objective expert_iteration, which plays all games itself"
            raise SettingError(Problem("selfplay_share", "more", must))
        return ExpertStream(self, games)

    def positions(self, index: int, games: GameStream) -> ExpertBatch:
        """The batch of this number, for which the games are played on as far as is due."""
        played = self.games or self._new_games(games)
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
        (model,) = self._model
        player = _twin(model).to(games.device).eval().requires_grad_(False)
        self._players = [player]
        evaluator = ModelEvaluator(player, self._dtype, own.score_share)
        full, fast = (
            GumbelSearch(
                evaluator,
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
            seed=of_data.seed,
        )
        self.games = ExpertGames(
            full,
            fast,
            settings,
            board_size=of_data.board_size,
            rules=of_data.rules,
            device=games.device,
            backend=of_data.backend,
            rank=games.rank,
        )
        if self._state:
            player.load_state_dict(self._state["player"])
            self.games.restore(self._state["games"])
            self._state = {}
        else:
            self.games.begin()
        return self.games

    @torch.no_grad()
    def _teach(self, played: ExpertGames) -> None:
        """Let the player be a step nearer to the model."""
        (player,), (model,) = self._players, self._model
        own, new = list(player.parameters()), list(model.parameters())
        if self.settings.ema_decay and played.written:
            torch._foreach_lerp_(own, new, 1 - self.settings.ema_decay)
        else:
            torch._foreach_copy_(own, new)

    # What is learned.

    def begin(self, module: TesseraModule) -> None:
        """Take the precision, and let steps be CUDA graphs if the module's are."""
        trainer = module.trainer
        self._dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
        is_gpu = module.device.type == "cuda"
        if module.hparams["cuda_graph"] and is_gpu and allows_graphs(trainer.strategy):
            self._graphs = TrainingGraphs(module.model, self._score)

    def loss(self, model: GameModel, batch: ExpertBatch) -> Tensor:
        """See ``Objective.loss``."""
        positions = batch.positions
        assert positions is not None and model.outcome is not None
        run = self._score if self._graphs is None else self._graphs
        losses, _ = run((), *positions)
        head = model.outcome
        weights = (1.0, *head.weights, head.ownership_weight)
        total = sum((weight * loss for weight, loss in zip(weights, losses, strict=True)), 0.0)
        assert isinstance(total, Tensor)
        self._newest = torch.cat([total.detach()[None], losses.detach()])
        return total

    def _score(self, names: tuple[str, ...], *tensors: Tensor) -> tuple[Tensor, tuple[()]]:
        """The four losses (4,), without a side effect."""
        (model,) = self._model
        positions = Positions(*tensors)
        head = model.outcome
        assert head is not None
        tables = (positions.rows.unsqueeze(1),)
        hidden_S1H, maps, _ = model.read_on(positions.tokens.unsqueeze(1), None, tables)
        hidden_SH = hidden_S1H[:, 0]
        logits = model.head(hidden_SH, *(maps if model.head.reads_map else ())).float()
        logs = logits.log_softmax(1)[:, : positions.weights.shape[1]]
        policy = -(positions.weights * logs).sum(1).mean()
        is_known = positions.wins.isfinite()
        count = is_known.sum().clamp(min=1)
        won, scored = head.read(hidden_SH, *maps)
        share = self.settings.value_share
        wins = (1 - share) * positions.wins.nan_to_num(0.5) + share * (positions.values + 1) / 2
        win = F.binary_cross_entropy_with_logits(won, wins, reduction="none")
        scores = positions.scores.nan_to_num(0) / head.board_size
        score = F.huber_loss(scored, scores, reduction="none")
        losses = [policy, *((each * is_known).sum() / count for each in (win, score))]
        if head.ownership_weight:
            owned = F.binary_cross_entropy_with_logits(
                head.owner_logits(*maps), (positions.owners + 1) / 2, reduction="none"
            ).mean((1, 2))
            losses.append((owned * is_known).sum() / count)
        else:
            losses.append(torch.zeros_like(policy))
        return torch.stack(losses), ()

    def figures(self, owner: str) -> dict[str, Tensor]:
        """The newest batch's loss and the four that it is made of, in nats but for the score's."""
        if self._newest is None:
            return {}
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

    # What is kept.

    def saved(self) -> dict[str, Any]:
        """The player's weights, the games in progress and the ring of positions."""
        if self.games is None:
            return dict(self._state)
        (player,) = self._players
        return {"player": dict(player.state_dict()), "games": self.games.saved()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Keep it until there are games."""
        self._state = dict(state)

    def check_saved(self, state: Any) -> None:
        """See ``Objective.check_saved``."""
        if state == {}:
            return
        if not isinstance(state, dict) or set(state) != {"player", "games"}:
            raise ContentError(f"objective must hold player and games, got {shown(state)}")
        (model,) = self._model
        check_weights("objective player", state["player"], model.state_dict())
        games = state["games"]
        if not isinstance(games, dict):
            raise ContentError(f"objective games must be kept by name, got {shown(games)}")
        for name, value in games.items():
            is_count = name in ("plies", "written")
            is_fine = type(value) is int and value >= 0 if is_count else isinstance(value, Tensor)
            if not is_fine:
                raise ContentError(f"objective games {name} cannot be used, got {shown(value)}")


@dataclass(frozen=True)
class ExpertIterationSettings(ObjectiveSettings):
    """Settings of the objective expert_iteration.

    Args:
        slots: games at once, on each device.
        simulations: of a full search.
        fast_simulations: of the searches that only get on.
        considered: moves that a search looks at, at most; and no more than half its simulations.
        full_share: of the plies that are searched in full; their positions are learned from.
        reuse: how often a position is trained on, on average.
        rows: moments of all slots that are kept, so slots times rows positions.
        first_rows: moments before the first step, and the least that is drawn from.
        window_share: the newest part of all positions that is drawn from.
        opening_plies: half of the games begin with up to so many plies of the rule-based player.
        temperature_plies: so many first moves are drawn from the search's policy.
        playout_steps: so many first steps are trained on positions of the rule-based player, of
            which playouts say what is worth playing and who will win.
        playouts: games to the end from each of these.
        value_share: of the search's own value in the chance of winning that is learned.
        score_share: of the score in the search's values.
        value_scale: how much values weigh beside the model's policy in a search.
        ema_decay: of the moving average of the weights that play; 0 for the newest weights.
    """

    slots: int = 256
    simulations: int = 32
    fast_simulations: int = 6
    considered: int = 16
    full_share: float = 0.25
    reuse: float = 4.0
    rows: int = 256
    first_rows: int = 32
    window_share: float = 0.5
    opening_plies: int = 20
    temperature_plies: int = 12
    playout_steps: int = 0
    playouts: int = 32
    value_share: float = 0.25
    score_share: float = 0.0
    value_scale: float = 1.0
    ema_decay: float = 0.0

    free: ClassVar[tuple[str, ...]] = (
        *("simulations", "fast_simulations", "considered", "opening_plies", "temperature_plies"),
        *("value_share", "score_share", "value_scale", "ema_decay"),
    )

    def build(self, model: GameModel) -> ExpertIteration:
        """See ``ObjectiveSettings.build``."""
        own = SimpleNamespace(**asdict(self))
        problems: list[Problem] = problems_of(own, _ALLOWED)
        if problems:
            raise SettingError(*problems)
        check_evaluator(model)
        return ExpertIteration(model, self)


def _twin(model: GameModel) -> GameModel:
    """A model with the same weights and none of the hooks, which hold what cannot be copied."""
    with torch.random.fork_rng(devices=[]):
        twin = GameModel(model.settings)
    twin.load_state_dict(model.state_dict())
    return twin
