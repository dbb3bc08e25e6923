"""TesseraModule: a GameModel, its optimizer and what is logged, for a Lightning trainer."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _load
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tessera.data import BatchTrials, GameBatch, GameStream, MixedStream, OwnStream
from tessera.model import GameModel, ModelSettings
from tessera.play.model_player import ModelPlayer
from tessera.setting_errors import Problem, SettingError, noted, number, or_none, problems_of, whole
from tessera.training.batch_size import batch_size_that_fits
from tessera.training.calibration import Calibration
from tessera.training.earlier import upgraded_settings
from tessera.training.objectives import objective_settings, plain_settings
from tessera.training.objectives.expert_settings import ExpertIterationSettings
from tessera.training.objectives.fixed_point import FixedPointSettings
from tessera.training.objectives.policy_gradient import PolicyGradientSettings
from tessera.training.optimizer import GraphedAdamW
from tessera.training.strategy import GradientAveraging, allows_graphs
from tessera.transfers import owned

_logger = logging.getLogger(__name__)

_ALLOWED = {
    "lr": number("more than 0", lambda lr: 0 < lr < math.inf),
    "warmup_steps": whole(0),
    "stable_steps": whole(0),
    "decay_steps": or_none(whole(1)),
    "min_lr_ratio": number("0 to 1", lambda ratio: 0 <= ratio <= 1),
    "weight_decay": number("at least 0", lambda decay: 0 <= decay < math.inf),
}


class TesseraModule(LightningModule):
    """A model and what it learns: its objective, which is to predict the next token of a game.

    The learning rate rises linearly from 0 over ``warmup_steps``, stays until ``stable_steps``,
    then follows half a cosine down to ``min_lr_ratio`` of ``lr`` at ``decay_steps``. It is a pure
    function of the step and of these arguments, so a resumed run obeys the arguments it is given,
    not those it was begun with: from one stable run, cool-downs of any length branch off.

    Args:
        lr: highest learning rate.
        warmup_steps: steps until it is reached.
        stable_steps: steps until it begins to fall; up to warmup_steps, it falls behind those.
        decay_steps: steps until it is lowest; null for trainer.max_steps, or never without that. If
            that is no later than where it would begin to fall, it does not fall.
        min_lr_ratio: the lowest learning rate over the highest, 0 to 1.
        weight_decay: AdamW's, on matrices; never on biases, norms, the embedding, A_log and D.
        cuda_graph: let a training step on a GPU be captured once for each length and replayed, so
            that nothing waits for the host; the same bits, and the memory of a step once more.
        objective: what is learned: next_move; expert_iteration or policy_gradient, to win; or
            fixed_point.
        expert_iteration: of the objective expert_iteration.
        fixed_point: of the objective fixed_point.
        policy_gradient: of the objective policy_gradient.
        model: those of ``ModelSettings``, which a checkpoint keeps with the others, as plain dicts.

    Raises:
        SettingError: with a problem for every argument that is out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        warmup_steps: int = 100,
        decay_steps: int | None = None,
        min_lr_ratio: float = 0.1,
        weight_decay: float = 0.1,
        cuda_graph: bool = True,
        stable_steps: int = 0,
        objective: str = "next_move",
        expert_iteration: ExpertIterationSettings = ExpertIterationSettings(),  # noqa: B008 (frozen)
        fixed_point: FixedPointSettings = FixedPointSettings(),  # noqa: B008 (it is frozen)
        policy_gradient: PolicyGradientSettings = PolicyGradientSettings(),  # noqa: B008 (frozen)
        **model: Any,
    ) -> None:
        super().__init__()
        model = upgraded_settings(model)  # of a checkpoint that Lightning alone has read
        settings = ModelSettings(**model)
        schedule: dict[str, Any] = {"lr": lr, "warmup_steps": warmup_steps}
        schedule |= {"decay_steps": decay_steps}
        schedule |= {"min_lr_ratio": min_lr_ratio, "weight_decay": weight_decay}
        schedule |= {"cuda_graph": cuda_graph, "stable_steps": stable_steps, "objective": objective}
        # The settings of those that have any.
        objectives = {"expert_iteration": expert_iteration, "fixed_point": fixed_point}
        objectives |= {"policy_gradient": policy_gradient}
        self.save_hyperparameters(schedule | plain_settings(objectives) | settings.as_dict())
        problems: list[Problem] = []
        with noted(problems):
            self.model = GameModel(settings)
            self.objective = objective_settings(objective, objectives).build(self.model)
        problems += problems_of(self.hparams, _ALLOWED)
        if problems:
            raise SettingError(*problems)
        self.pad_token = self.model.pad_token
        self.lr, self.warmup_steps, self.min_lr_ratio = lr, warmup_steps, min_lr_ratio
        self.weight_decay, self.decay_steps = weight_decay, decay_steps
        self.stable_steps = stable_steps
        self._is_to_be_graphed = cuda_graph
        self.needs, self.held_out_needs = self.objective.needs, self.objective.held_out_needs
        self.begun_from: str | None = None  # a file that the run's first weights were of
        self._step = 0  # that the newest batch belongs to
        self._noted: dict[str, Tensor] = {}  # what others measured, by tag

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> TesseraModule:
        """As Lightning's, but no class is imported because a checkpoint names it.

        Raises:
            ValueError: if one would be: ``kwargs`` or ``hparams_file`` have to name it as well.
        """
        if hparams_file is None:
            held = _load(checkpoint_path, map_location="cpu", weights_only=weights_only)
            if hasattr(checkpoint_path, "seek"):
                checkpoint_path.seek(0)
            settings = {**held.get("hyper_parameters", {}), **kwargs}
            named = ModelSettings.of(kwargs).own_parts()
            for own in ModelSettings.of(settings).own_parts():
                if own not in named:
                    raise ValueError(
                        f"{own} is named by the checkpoint alone: pass it too, such as mixer={own}."
                    )
        return super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )

    def forward(self, tokens: Tensor, features: tuple[Tensor, ...] = ()) -> Tensor:
        """Logits (B, L, V) of the token after each of the tokens (B, L)."""
        return self.model(tokens, None, features)

    def batch_size_that_fits(self, trials: BatchTrials) -> int:
        """How many sequences its batches are to have, see ``tessera.training.batch_size``."""
        return batch_size_that_fits(self, trials)

    def new_player(self, model: GameModel, temperature: float, dtype: torch.dtype) -> ModelPlayer:
        """The player of the games that the model in training plays against itself."""
        return ModelPlayer(model, temperature, dtype)

    def lr_at(self, step: int, first: int = 0) -> float:
        """The learning rate of optimizer step ``step``, from 0.

        Args:
            step: of the run.
            first: the step that the schedule begins with; it ends where it would.
        """
        step -= first
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        begin = max(self.warmup_steps, self.stable_steps - first)
        end = (self.trainer.max_steps if self.decay_steps is None else self.decay_steps) - first
        if step < begin or end <= begin:
            return self.lr
        done = min(1.0, (step - begin) / (end - begin))
        cosine = (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the learning rate is set before every step."""
        decayed, plain = decay_groups(self)  # what the objective has stands behind the model's
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return GraphedAdamW(groups, self.lr, self._is_to_be_graphed)

    def training_stream(self, games: GameStream | MixedStream) -> OwnStream | None:
        """What is trained on in place of the player's games, see ``Objective.stream``."""
        return self.objective.stream(games)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the objective keeps, if it keeps anything, and what the run began with."""
        if state := self.objective.saved():
            checkpoint["objective"] = state
        if self.begun_from is not None:
            checkpoint["init_from"] = self.begun_from
        checkpoint["state_dict"] |= self._published()

    def published_weights(self) -> dict[str, Tensor]:
        """The weights that a checkpoint gives to whoever plays or measures, by its names."""
        return {**self.state_dict(), **self._published()}

    def _published(self) -> dict[str, Tensor]:
        return {f"model.{name}": own for name, own in self.objective.published().items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the objective go on from what it kept."""
        self.objective.restore(checkpoint.get("objective", {}))
        if self._trainer is not None and self.trainer.state.fn == "fit":
            weights = self.objective.learning(checkpoint.get("objective", {}))
            checkpoint["state_dict"] |= {f"model.{name}": own for name, own in weights.items()}

    def on_train_start(self) -> None:
        """Let this run's weight decay hold: a checkpoint's optimizer brings its own."""
        for optimizer in self.trainer.optimizers:
            optimizer.param_groups[0]["weight_decay"] = self.weight_decay
        if self._is_to_be_graphed and self.device.type == "cuda":
            self._graph_training()
        self.objective.begin(self)

    def _graph_training(self) -> None:
        strategy = self.trainer.strategy
        if allows_graphs(strategy):
            self.model.graph_training()
        elif self.trainer.is_global_zero:
            name = type(strategy).__name__
            _logger.warning("training steps are launched one kernel at a time with %s", name)

    def on_train_end(self) -> None:
        """Tell the objective."""
        self.objective.end(self)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the coming step, and tell objective and mixers of it."""
        step = self.trainer.global_step
        self.objective.before_step(self, step)
        lr = self.objective.lr_at(step, self.lr_at)
        for optimizer in self.trainer.optimizers:
            assert isinstance(optimizer, GraphedAdamW)
            optimizer.set_lr(lr)
        self.model.blocks.at_step(step)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Leave the clipping of gradients to the optimizer's update."""
        assert isinstance(optimizer, GraphedAdamW)
        optimizer.clip = (
            (gradient_clip_val, gradient_clip_algorithm or "norm") if gradient_clip_val else None
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The objective's loss of a batch."""
        loss = self.objective.loss(self.model, batch)
        # The step that is being made: Lightning's own count slips by one when a run is resumed.
        self._step = self.trainer.global_step + 1
        return loss

    def launch_training(self, batch: Any) -> None:
        """Launch what a step launches and keep nothing, see ``Objective.launch``."""
        self.objective.launch(self.model, batch)

    def figures(self, owner: str) -> dict[str, Tensor]:
        """What the newest training batch showed, see ``Objective.figures``."""
        return self.objective.figures(owner)

    @property
    def calibration(self) -> Calibration | None:
        """Of the newest validation or test."""
        return self.objective.calibration

    def note(self, tag: str, value: Tensor) -> None:
        """Have a scalar on the host written with the next figures: each event takes time."""
        self._noted[tag] = value

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the step's figures every ``log_every_n_steps``; callbacks can read them too.

        Lightning's own ``log`` does the same, but takes a good part of a small step for each value,
        and goes through all of them again at every step.
        """
        trainer = self.trainer
        # Of several batches whose gradients one step accumulates, the last one is logged.
        log_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step < self._step or self._step % log_every:
            return
        values = {f"train/{name}": value for name, value in self.figures("logger").items()}
        values["train/lr"] = torch.tensor(self.objective.lr_at(self._step - 1, self.lr_at))
        values |= self._noted
        self._noted = {}
        self.write(values, self._step)

    def write(self, values: Mapping[str, Tensor], step: int) -> None:
        """Write scalars on the host to the log at once, for this step; callbacks can read them."""
        numbers = {tag: float(value) for tag, value in values.items()}
        for logger in self.trainer.loggers:
            logger.log_metrics(numbers, step)
        self.trainer.callback_metrics.update(values)

    def validation_step(self, batch: GameBatch, batch_idx: int) -> None:
        """Add a batch to the validation's metrics."""
        self.objective.measure(self.model, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the validation's metrics."""
        self._log_held_out("val")
        if self.trainer.state.fn == "fit":
            self.objective.after_validation(self)

    def test_step(self, batch: GameBatch, batch_idx: int) -> None:
        """Add a batch to the test's metrics."""
        self.objective.measure(self.model, batch)

    def on_test_epoch_end(self) -> None:
        """Log the test's metrics."""
        self._log_held_out("test")

    def _log_held_out(self, group: str) -> None:
        with owned("validation"):
            measured = self.objective.measured()
            logged = {f"{group}/{name}": value for name, value in measured.items()}
            if self.trainer.state.fn == "fit":
                logged["step"] = torch.tensor(float(self.trainer.global_step))
            strategy = self.trainer.strategy
            if self.trainer.world_size > 1 and not isinstance(strategy, GradientAveraging):
                # Lightning averages over the processes, which their GPUs do.
                logged = {name: value.to(self.device) for name, value in logged.items()}
            # The same on all processes already; Lightning wants to be told, or it warns.
            self.log_dict(logged, sync_dist=True)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities (L, V) after every position of one game; PAD is never predicted.

        Args:
            batch: tokens (1, L) int64 that begin with EOS, the context, None for the whole game,
                and the tables of the model's features.
        """
        logits = self.windowed_logits(*batch)
        logits[:, self.pad_token] = -math.inf
        return logits.softmax(-1)

    def windowed_logits(
        self, tokens: Tensor, context: int | None, features: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Logits (L, V) after every position of one game, each read through its own window.

        Args:
            tokens: (1, L) int64.
            context: tokens in the window; None for the whole game.
            features: tables of the model's features, (1, L, …) and what else they hold.
        """
        length = tokens.shape[1]
        context = length if context is None else min(context, length)
        windows = tokens[0].unfold(0, context, 1)
        tables: tuple[Tensor, ...] = ()
        if self.model.features is not None:
            tables = self.model.features.windows(features, context)
        logits = []
        # Some at a time, or a long game on a large model would not fit.
        for at in range(0, len(windows), 64):
            some = slice(at, at + 64)
            logits.append(self.model(windows[some], None, tuple(each[some] for each in tables)))
        first, rest = logits[0][0], [each[:, -1] for each in logits]
        return torch.cat([first, rest[0][1:], *rest[1:]]).float()


def decay_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters with weight decay, and those without; frozen ones are in neither.

    Without: biases, norms and everything else of one axis, and what the part that owns it names in
    ``no_weight_decay`` (the embedding's table; A_log and D of a mixer).
    """
    exempt = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name in getattr(module, "no_weight_decay", ())
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in (each for each in model.parameters() if each.requires_grad):
        is_plain = parameter.dim() < 2 or id(parameter) in exempt
        (plain if is_plain else decayed).append(parameter)
    return decayed, plain
