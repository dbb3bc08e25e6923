"""A picture of one game in TensorBoard: what the model expects beside what the player does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from tessera.data import GameDataModule, StreamSettings
from tessera.data.stream import VAL_NUMBERS
from tessera.go import GPUGoEngine, distribution, get_player, play_games
from tessera.play.ending import settled_of
from tessera.play.picture import Scene, draw_scenes
from tessera.play.reading import tables_of
from tessera.play.validation_picture import ValidationPicture
from tessera.transfers import owned
from tessera.vocabulary import Vocabulary

_MOMENTS = (0.2, 0.5, 0.8)  # of the game


class GamePicture(ValidationPicture):
    """Adds the image ``val/game`` to the log after a validation.

    Three moments of the first validation game; the model's probability map beside the player's
    own distribution, which is exact. It is always the same game, so that one sees the map change.

    Args:
        every_n_validations: 1 is every validation; 0 is never.
    """

    tag = "val/game"

    def __init__(self, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        self._moments: list[tuple[Tensor, Scene]] = []

    def drawn(self, trainer: Trainer, pl_module: LightningModule) -> Tensor:
        """A row for each of the moments."""
        data: GameDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if not self._moments:
            self._moments = replay(data.settings)
        scenes = []
        with torch.inference_mode(), owned("picture"):
            for tokens, scene in self._moments:
                window, tables = _last(pl_module.model, tokens, data.settings)
                chances = pl_module.predict_step((window, None, tables), 0)[-1]
                scenes.append(replace(scene, maps={"model": chances, **scene.maps}))
            return draw_scenes(scenes)


def _last(
    model: Any, tokens: Tensor, settings: StreamSettings
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The last tokens of a game (1, L), as many as the model reads at once, and their tables."""
    tables = tables_of(model, tokens[:, 1:], settings.board_size, settings.rules)
    length = min(settings.context or tokens.shape[1], tokens.shape[1])
    if model.features is not None:
        tables = model.features.last(tables, length)
    return tokens[:, -length:].to(model.device), tables


def replay(settings: StreamSettings) -> list[tuple[Tensor, Scene]]:
    """Three moments of the first validation game, played on the CPU.

    Returns:
        EOS and the moves so far, (1, ply + 1) int64, and the position with the player's map.
    """
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
            black, white, _ = engine.boards[0].int()
            last_move = int(moves[0, ply - 1]) if ply else None
            maps = {f"player ({player.name})": distribution(player, engine)[0]}
            legal, settled = engine.get_legal_mask()[0], settled_of(engine)
            scene = Scene(black - white, last_move, ply, maps, legal, settled)
            moments.append((torch.cat([eos, moves[:, :ply]], 1), scene))
        engine.play_batch(moves[:, ply])
    return moments
