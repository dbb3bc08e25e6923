"""What a model in training is asked to become good at: an objective, chosen by name."""

from __future__ import annotations

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from tessera.data import GameBatch, GameStream, MixedStream, OwnStream, StreamSettings
from tessera.model import GameModel
from tessera.training.calibration import Calibration
from tessera.training.checkpoint_parts import ContentError, shown

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule


class Objective(nn.Module, ABC):
    """The loss of a training batch, what is measured on held-out games, and what is kept of both.

    It is given the model wherever it needs it and does not hold it. What it registers, parameters
    and metrics, is a part of ``TesseraModule``: on its device, in its checkpoints, and, behind the
    model's, in its optimizer. Parameters that get no gradient stay as they are.

    Attributes:
        needs: the optional tables of a batch that training needs, see ``GameBatch``.
        held_out_needs: those that validation and test need.
        calibration: of the newest validation or test, if it was measured.
        leaves_out: whether some parameters may never have had a gradient, and so no moments.
        shown: names of ``figures`` that are shown beside the progress of a run.
        counted: what a step is made of, as the speed of a run counts it.
        shown_held_out: names of what the newest validation measured that are shown after it.
    """

    needs: tuple[str, ...] = ()
    held_out_needs: tuple[str, ...] = ()
    calibration: Calibration | None = None
    leaves_out: ClassVar[bool] = False
    shown: tuple[str, ...] = ("loss", "excess_nats")
    counted: str = "tokens"
    shown_held_out: tuple[str, ...] = ("loss", "excess_nats", "legal_mass", "legal_top1")

    @property
    def stage(self) -> str:
        """What a run of several stages is at, in a few words; nothing for one of one stage."""
        return ""

    @abstractmethod
    def loss(self, model: GameModel, batch: Any) -> Tensor:
        """The scalar that a step makes smaller; what is to be logged of it is kept for ``figures``.

        Args:
            model: in training.
            batch: of the stream; a ``GameBatch`` unless ``stream`` makes others.
        """

    @abstractmethod
    def figures(self, owner: str) -> dict[str, Tensor]:
        """What the newest training batch showed, as scalars on the host; logged as ``train/…``.

        In one copy, which waits for the GPU; nothing before the first batch.

        Args:
            owner: for whom the copy is made, see ``tessera.transfers``.
        """

    def launch(self, model: GameModel, batch: Any) -> None:  # compiles as it goes
        """Launch what a step launches and keep nothing, so that kernels are compiled together."""

    def trial(self, model: GameModel, games: GameStream) -> Any:
        """A batch like those that are trained on, of as many rows as those of the games have.

        A step is made of it and forgotten, before training begins, see
        ``tessera.training.batch_size``. Whatever ``loss`` changes that ``saved`` does not tell of,
        ``forget`` undoes.

        Args:
            model: in training.
            games: of the player; the first batch, all as long as any can be.
        """
        return games.batch(0)

    def forget(self) -> None:
        """Be as if there had been no batch yet."""

    def bytes_to_come(self, model: GameModel, games: GameStream) -> int:
        """What it will hold on the device from its first batch on, beside what steps take.

        Args:
            model: in training.
            games: of the player.
        """
        return 0

    @abstractmethod
    def measure(self, model: GameModel, batch: GameBatch) -> None:
        """Add a batch of held-out games to what is measured."""

    @abstractmethod
    def measured(self) -> dict[str, Tensor]:
        """What was measured since the last time, by name, as scalars on the host."""

    def lr_at(self, step: int, schedule: Callable[..., float]) -> float:
        """The learning rate of a step.

        Args:
            step: of the optimizer, from 0.
            schedule: the module's, see ``TesseraModule.lr_at``.
        """
        return schedule(step)

    def stream(self, games: GameStream | MixedStream) -> OwnStream | None:
        """The batches to train on in place of the player's games; None for those.

        Args:
            games: the stream of those, of which nothing is played until it is asked for a batch.
        """
        return None

    # When something happens. Whatever is read from a GPU here, it waits for.

    def begin(self, module: TesseraModule) -> None:
        """Hear that training begins or goes on, with everything on its device."""

    def before_step(self, module: TesseraModule, step: int) -> None:
        """Hear of the optimizer's step that comes next, from 0."""

    def after_validation(self, module: TesseraModule) -> None:
        """Hear that a validation within a training is over and logged."""

    def end(self, module: TesseraModule) -> None:
        """Hear that a training has come to its end, and was not stopped."""

    # What is kept in a checkpoint beside weights and optimizer.

    def saved(self) -> dict[str, Any]:
        """Primitives, tensors, and lists and dicts of them; nothing is written if it is empty."""
        return {}

    def published(self) -> Mapping[str, Tensor]:
        """Weights of the model, by name, that a checkpoint gives to who plays with it.

        Nothing for those that are learned; otherwise ``saved`` has these.
        """
        return {}

    def learning(self, state: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """The weights in ``state``, as ``saved`` returned it, that a training goes on with.

        Nothing for those that were published.
        """
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``saved`` returned; checked before."""

    def check_saved(self, state: Any, games: StreamSettings) -> None:
        """Look at what a checkpoint holds for ``restore``; {} if it holds nothing.

        Args:
            state: of the checkpoint.
            games: of the checkpoint's run.

        Raises:
            ContentError: unless ``restore`` can go on from it.
        """
        if state != {}:
            raise ContentError(f"objective must hold nothing, got {shown(state)}")


@dataclass(frozen=True)
class ObjectiveSettings(metaclass=ABCMeta):
    """An objective's settings: a frozen dataclass of primitives, whose docstring says what each is.

    Attributes:
        free: names of settings that a run that goes on may change.
        is_alone: whether a step is one batch of one process, and games can be played again: no
            gradients are accumulated, there is one device, and no share of selfplay.
        predicts_moves: whether it ends in a model that gives a player's moves their probabilities,
            which every validation measures as ``next_move`` does.
        keeps_games: whether games are kept, so that a run goes on with the board it had.
    """

    free: ClassVar[tuple[str, ...]] = ()
    is_alone: ClassVar[bool] = False
    predicts_moves: ClassVar[bool] = False
    keeps_games: ClassVar[bool] = False

    @abstractmethod
    def build(self, model: GameModel) -> Objective:
        """The objective for a model; it may also be one without memory, on the device "meta".

        Raises:
            SettingError: with a problem for every setting that is out of range, and for what the
                model lacks.
        """
