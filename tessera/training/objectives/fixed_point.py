"""The objective ``fixed_point``: contexts first, then tokens on contexts that are learned no more.

Stage 1 trains the context block alone, so that a sweep over games leaves their contexts where they
are (a fixed point) and keeps them different from each other. Stage 2 trains what reads contexts.
See fixed_point.md for what the published design claims of it, and what of that is true.

Shape suffixes: B games, L positions, T positions of all games, C numbers of a context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from tessera.data import GameBatch, GameStream, MixedStream, StreamSettings
from tessera.model import GameModel
from tessera.model.mixers.context_token import ContextTokenMixer
from tessera.model.scoring import position_losses
from tessera.setting_errors import (
    Problem,
    SettingError,
    number,
    one_of,
    or_none,
    problems_of,
    under,
    whole,
)
from tessera.training.checkpoint_parts import ContentError, check_counts, check_dense, shown
from tessera.training.effective_rank import chosen_rows, effective_rank
from tessera.training.objectives.base import ObjectiveSettings
from tessera.training.objectives.context_stage import FIGURES as CONTEXT_FIGURES
from tessera.training.objectives.context_stage import ContextStage, context_mixer
from tessera.training.objectives.diversity import DIVERSITIES
from tessera.training.objectives.next_move import NextMove
from tessera.training.objectives.token_stage import TokenStage, check_room_for, run_checkpoint
from tessera.transfers import owned, to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule

Cache: TypeAlias = Literal["auto", "disk", "memory"]
_USUAL_SHARE, _USUAL_STEPS = 4, 1000
_RANKS = ("context_rank_ratio", "context_rank_centred_ratio")
_STAGES = ("stage 1 of 2, contexts", "stage 2 of 2, tokens")


class Promise(NamedTuple):
    """A batch that is made when it is taken up: which stage it is of may be decided until then.

    Attributes:
        index: its number.
    """

    index: int  # type: ignore[assignment]


class FixedPoint(NextMove):
    """Two stages, of which the second is ``next_move`` on contexts that are there already.

    Args:
        model: its one layer is the mixer ``context_token``.
        settings: of the objective.

    Raises:
        SettingError: for a model of other parts.
    """

    leaves_out = True  # of one stage the parameters of the other

    def __init__(self, model: GameModel, settings: FixedPointSettings) -> None:
        super().__init__(model)
        _check_model(model)
        self.settings = settings
        # Contexts are made of the vectors of tokens: learning them would make other contexts.
        model.embedding.requires_grad_(False)
        self._taken = 0  # batches, and so steps
        self._token_start: int | None = None  # the first step of stage 2, once that is known
        self._best_rank, self._num_worse = 0.0, 0
        self._is_training = self._is_to_be_saved = False
        self._contexts: ContextStage | None = ContextStage(settings)
        self._held_out: list[Tensor] = []
        self._tokens: TokenStage | None = None
        self._games: GameStream | None = None
        self._module: tuple[TesseraModule, ...] = ()  # in a tuple, so that it is no part of this

    @property
    def stage(self) -> str:
        """Which stage the run is in."""
        return _STAGES[self._token_start is not None]

    # Batches.

    def stream(self, games: GameStream | MixedStream) -> PromisedStream:
        """See ``Objective.stream``."""
        if not isinstance(games, GameStream):
            raise TypeError("fixed_point learns from games that can be played again.")
        self._games = games
        return PromisedStream(self, games)

    def begin(self, module: TesseraModule) -> None:
        """See ``Objective.begin``; what has no room later is refused now."""
        self._module, self._is_training = (module,), True
        assert self._games is not None
        if self._tokens is None:
            check_room_for(module, self._games, self.settings)

    def take(self, games: GameStream, index: int) -> GameBatch:
        """The batch that comes next, whatever its number; its contexts are kept beside it."""
        (module,) = self._module
        settings = self.settings
        self._save_again(module)
        if self._token_start is None and self._taken >= self._most_context_steps():
            self._token_start = self._taken
        if self._token_start is None:
            self.shown = CONTEXT_FIGURES[1:]
            assert self._contexts is not None
            batch = self._contexts.next_batch(module.model, games, self._taken)
        else:
            if self._tokens is None:
                self._contexts = None
                self.shown = NextMove.shown
                first = self._taken - self._token_start
                with owned("contexts"):
                    self._tokens = TokenStage(module, games, settings, first)
            batch = self._tokens.next_batch()
        self._taken += 1
        return batch._replace(index=index)

    def _most_context_steps(self) -> int:
        if self.settings.context_steps is not None:
            return self.settings.context_steps
        most: int = self._module[0].trainer.max_steps
        return most // _USUAL_SHARE if most > 0 else _USUAL_STEPS

    def trial(self, model: GameModel, games: GameStream) -> GameBatch:
        """See ``Objective.trial``: a sweep, which keeps what its backward pass needs."""
        self._contexts = ContextStage(self.settings)
        return self._contexts.next_batch(model, games, 0)

    def forget(self) -> None:
        """See ``Objective.forget``."""
        super().forget()
        self._contexts = ContextStage(self.settings)
        self._held_out = []

    # Losses.

    def loss(self, model: GameModel, batch: GameBatch) -> Tensor:
        """See ``Objective.loss``."""
        if self._token_start is None:
            assert self._contexts is not None
            return self._contexts.loss(model, batch)
        assert self._tokens is not None
        hidden, maps = self._tokens.read(model, batch)
        scores = None if model.outcome is None else batch.scores().flatten()
        excluded = None if batch.settled is None else batch.settled.flatten(0, 1)
        rows = position_losses(
            *(model.head, model.outcome, hidden, maps, batch.targets.flatten(), model.pad_token),
            *(scores, excluded),
        )
        losses = torch.stack(rows)[..., None] if len(rows) > 1 else rows[0][:, None]
        return self._total(model, batch, losses)

    def figures(self, owner: str) -> dict[str, Tensor]:
        """Of stage 1 ``context_loss``, ``cvfp`` and ``diversity``, of stage 2 as ``next_move``.

        See ``ContextStage.loss``; ``stage`` is 1 or 2.
        """
        stage = {"stage": torch.tensor(1.0 + (self._token_start is not None))}
        if self._contexts is None or self._contexts.found is None:
            return super().figures(owner) | stage
        found = to_host(self._contexts.found, owner)
        return dict(zip(CONTEXT_FIGURES, found, strict=True)) | stage

    def launch(self, model: GameModel, batch: GameBatch) -> None:
        """Nothing is launched ahead."""

    def lr_at(self, step: int, schedule: Callable[..., float]) -> float:
        """In stage 1 ``context_lr``; in stage 2 the module's schedule, which begins with it."""
        start = self._token_start
        if start is None or step < start:
            return self.settings.context_lr
        return schedule(step, start)

    # Held-out games.

    def measure(self, model: GameModel, batch: GameBatch) -> None:
        """As ``next_move``; and in stage 1 the contexts, made position by position."""
        super().measure(model, batch)
        if not self._is_training or self._token_start is not None:
            return
        is_pad = batch.inputs == model.pad_token
        mixer = context_mixer(model)
        windows = mixer.windows(model.token_vectors(batch.inputs))
        with owned("validation"):
            contexts = mixer.contexts(windows, is_pad)[-1][~is_pad]
            rows = chosen_rows(len(contexts), self.settings.rank_rows, self.settings.seed)
            self._held_out.append(contexts[rows.to(contexts.device)])

    def measured(self) -> dict[str, Tensor]:
        """In stage 1 also the effective rank of contexts over their width: ``effective_rank``."""
        values = super().measured()
        if not self._held_out:
            self.shown_held_out = NextMove.shown_held_out
            return values
        self.shown_held_out = _RANKS
        contexts = torch.cat(self._held_out)
        self._held_out = []
        rows = chosen_rows(len(contexts), self.settings.rank_rows, self.settings.seed)
        contexts = contexts[rows.to(contexts.device)].float()
        ranks = [effective_rank(contexts, centred) for centred in (False, True)]
        ratios = to_host(torch.stack(ranks).float() / contexts.shape[1], "validation")
        return values | dict(zip(_RANKS, ratios, strict=True))

    def after_validation(self, module: TesseraModule) -> None:
        """End stage 1 if the held-out contexts' rank has not risen for long enough."""
        found = module.trainer.callback_metrics.get("val/context_rank_ratio")
        patience = self.settings.patience
        if self._token_start is not None or found is None or patience is None:
            return
        rank, self._is_to_be_saved = float(found), True
        self._num_worse = 0 if rank > self._best_rank else self._num_worse + 1
        self._best_rank = max(rank, self._best_rank)
        if self._num_worse >= patience:
            self._token_start = self._taken

    def _save_again(self, module: TesseraModule) -> None:
        """Add what a validation told to a checkpoint that was written just before it."""
        checkpoint, trainer = run_checkpoint(module), module.trainer
        is_due, self._is_to_be_saved = self._is_to_be_saved, False
        if is_due and checkpoint is not None and checkpoint.last_saved_step == trainer.global_step:
            checkpoint.save(trainer, module)

    def end(self, module: TesseraModule) -> None:
        """Remove the contexts that were kept, unless they are to stay."""
        if self._tokens is not None and not self.settings.keeps_contexts:
            self._tokens.discard()

    # What is kept in a checkpoint.

    def saved(self) -> dict[str, Any]:
        """How far the run is, and in the midst of a set of games the contexts of the last sweep."""
        state: dict[str, Any] = {
            "taken": self._taken,
            "token_start": -1 if self._token_start is None else self._token_start,
            "best_rank": self._best_rank,
            "num_worse": self._num_worse,
        }
        contexts = self._contexts
        if self._token_start is None and contexts is not None and contexts.previous is not None:
            state["previous"] = contexts.previous
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """See ``Objective.restore``."""
        self._taken, start = state["taken"], state["token_start"]
        self._token_start = None if start < 0 else start
        self._best_rank, self._num_worse = state["best_rank"], state["num_worse"]
        if self._contexts is not None:
            self._contexts.previous = state.get("previous")

    def check_saved(self, state: Any, games: StreamSettings) -> None:
        """See ``Objective.check_saved``."""
        check_counts("objective", state, {"taken": 0, "token_start": -1, "num_worse": 0})
        if type(state.get("best_rank")) not in (int, float):
            raise ContentError(f"objective best_rank must be a number, got {shown(state)}")
        if "previous" in state:
            check_dense("objective previous", state["previous"])


class PromisedStream:
    """Promises of batches, each kept when it is taken up; see ``OwnStream``."""

    def __init__(self, objective: FixedPoint, games: GameStream) -> None:
        self.objective, self.games, self.start_batch = objective, games, 0

    def __iter__(self) -> Iterator[Promise]:
        index = self.start_batch
        while True:
            yield Promise(index)
            index += 1

    def taken(self, batch: Promise) -> GameBatch:
        """The batch."""
        return self.objective.take(self.games, batch.index)


@dataclass(frozen=True)
class FixedPointSettings(ObjectiveSettings):
    """Settings of ``FixedPoint``. A step of stage 1 is one sweep over ``data.batch_size`` games.

    Args:
        context_steps: of stage 1 at most; null for a quarter of trainer.max_steps, and 1000 without
            that. 0 leaves the context block as it was drawn.
        context_lr: learning rate of stage 1; the module's schedule begins with stage 2.
        sweeps: over the same games, before the next ones are taken.
        noise: standard deviation of what is added to the contexts that a sweep reads.
        diversity: what keeps contexts different: mcdl, odcm, sdl, nuc or oacd.
        diversity_weight: w of the loss (1 − w)·CVFP + w·diversity.
        patience: validations without a higher effective rank of held-out contexts after which stage
            1 ends; null for context_steps alone.
        rank_rows: contexts that the effective rank is taken of.
        cached_games: sequences whose positions stage 2 learns from, the first of the stream.
        token_batch: positions in a step of stage 2; null for as many as data.batch_size games have
            on average.
        cache: where their contexts are: on disk beside the run, in the device's memory, or auto: in
            a GPU's memory if they fit, else on disk.
        keeps_contexts: whether the file stays when the run is done.
        seed: of noise and orders.
    """

    context_steps: int | None = None
    context_lr: float = 2e-3
    sweeps: int = 60
    noise: float = 0.1
    diversity: str = "mcdl"
    diversity_weight: float = 0.9
    patience: int | None = None
    rank_rows: int = 10_000
    cached_games: int = 4096
    token_batch: int | None = None
    cache: Cache = "auto"
    keeps_contexts: bool = False
    seed: int = 0

    free: ClassVar[tuple[str, ...]] = ("cache", "keeps_contexts")
    is_alone: ClassVar[bool] = True
    predicts_moves: ClassVar[bool] = True

    def build(self, model: GameModel) -> FixedPoint:
        """See ``ObjectiveSettings.build``."""
        if problems := problems_of(self, _ALLOWED):
            with under("fixed_point"):
                raise SettingError(*problems)
        return FixedPoint(model, self)


_ALLOWED = {
    "context_steps": or_none(whole(0)),
    "context_lr": number("more than 0", lambda lr: lr > 0),
    "sweeps": whole(1),
    "noise": number("at least 0", lambda noise: noise >= 0),
    "diversity": one_of(*DIVERSITIES),
    "diversity_weight": number("0 to 1", lambda weight: 0 <= weight <= 1),
    "patience": or_none(whole(1)),
    "rank_rows": whole(2),
    "cached_games": whole(1),
    "token_batch": or_none(whole(1)),
    "cache": one_of(*get_args(Cache)),
    "seed": whole(0, 2**31 - 1),
}


def _check_model(model: GameModel) -> None:
    settings, problems = model.settings, []
    if not model.blocks.is_bare or not isinstance(model.blocks.mixer(0), ContextTokenMixer):
        must = "be context_token, with n_layers 1 and feed_forward none, for objective fixed_point"
        problems.append(Problem("mixer", settings.mixer, must))
    is_apart = settings.features == "board" and not settings.board.adds
    if settings.features != "none" and not is_apart:
        must = "be none, or board with board.adds false, for objective fixed_point"
        problems.append(Problem("features", settings.features, must))
    if problems:
        raise SettingError(*problems)
