"""A picture of one game in TensorBoard: what the model expects beside what the player does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.data import GameDataModule, StreamSettings
from tessera.data.stream import VAL_NUMBERS
from tessera.go import GPUGoEngine, distribution, get_player, play_games
from tessera.play.picture import Scene, draw_scenes
from tessera.transfers import owned
from tessera.vocabulary import Vocabulary

_MOMENTS = (0.2, 0.5, 0.8)  # of the game


class GamePicture(Callback):
    """Adds the image ``val/game`` to the log after a validation.

    Three moments of the first validation game; the model's probability map beside the player's
    own distribution, which is exact. It is always the same game, so that one sees the map change.

    Args:
        every_n_validations: 1 is every validation; 0 is never.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        self.every_n_validations = every_n_validations
        self._validations = 0
        self._moments: list[Moment] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if it is this validation's turn and there is a log that takes images."""
        if trainer.sanity_checking or not self.every_n_validations or not trainer.is_global_zero:
            return
        self._validations += 1
        writer: Any = getattr(trainer.logger, "experiment", None)
        if (self._validations - 1) % self.every_n_validations or not hasattr(writer, "add_image"):
            return
        data: GameDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if not self._moments:
            self._moments = replay(data.settings)
        context = data.settings.context
        with torch.inference_mode(), owned("picture"):
            scenes = [moment.scene(pl_module, context) for moment in self._moments]
            picture = draw_scenes(scenes)
        writer.add_image("val/game", picture, trainer.global_step)


@dataclass(frozen=True, slots=True)
class Moment:
    """A position of a game on its way.

    Attributes:
        tokens: (1, ply + 1) int64, EOS and the moves so far.
        stones: (n, n) int: +1 black, -1 white, 0 empty.
        player: the name of who plays.
        chances: (n² + 1,) the player's distribution.
    """

    tokens: Tensor
    stones: Tensor
    player: str
    chances: Tensor

    def scene(self, module: LightningModule, context: int | None) -> Scene:
        """What to draw: the position with the model's map and the player's."""
        tokens = self.tokens.to(module.device)
        window = tokens if context is None else tokens[:, -context:]
        chances = module.predict_step((window, None), 0)[-1]
        ply = tokens.shape[1] - 1
        last_move = int(self.tokens[0, -1]) if ply else None
        maps = {"model": chances, f"player ({self.player})": self.chances}
        return Scene(self.stones, last_move, ply, maps)


def replay(settings: StreamSettings) -> list[Moment]:
    """Three moments of the first validation game, played on the CPU."""
    size = settings.board_size
    record = play_games(
        settings.player,
        range(VAL_NUMBERS, VAL_NUMBERS + 1),
        seed=settings.seed,
        board_size=size,
        rules=settings.rules,
    )
    moves = record.moves[:, : int(record.lengths[0])].long()
    eos = moves.new_full((1, 1), Vocabulary(size).eos_token)
    player = get_player(settings.player)
    engine = GPUGoEngine(1, "cpu", size, settings.rules)
    wanted = {int(moment * moves.shape[1]) for moment in _MOMENTS}
    moments = []
    for ply in range(moves.shape[1]):
        if ply in wanted:
            planes = engine.boards[0].int()
            tokens = torch.cat([eos, moves[:, :ply]], 1)
            chances = distribution(player, engine)[0]
            moments.append(Moment(tokens, planes[0] - planes[1], settings.player, chances))
        engine.play_batch(moves[:, ply])
    return moments
