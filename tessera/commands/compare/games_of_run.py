"""The games of a run: its own to train on, and those of all runs to be measured on."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch.utils.data import DataLoader

from tessera.data import GameBatch, GameDataModule

# By everything that games follow from, on a CPU, where playing them takes longer than reading them.
_kept: dict[Any, DataLoader[GameBatch]] = {}
_NONE: Any = ()
_MOST_KEPT = 4  # validation and test of one run, and off its distribution


class ComparedGames(GameDataModule):
    """Validation and test have a seed of their own, so that runs of many seeds are measured alike.

    Attributes:
        held_out_seed: of the games of the validation and of the test; that of training if None.
        is_measured: whether there is a validation.
    """

    held_out_seed: int | None = None
    is_measured: bool = True

    def val_dataloader(self) -> DataLoader[GameBatch]:
        """The validation batches; none where a training is not measured."""
        return super().val_dataloader() if self.is_measured else DataLoader(_NONE)

    def _held_out(self, first_number: int, num_batches: int) -> DataLoader[GameBatch]:
        own = self.settings
        if self.held_out_seed is not None:
            self.settings = dataclasses.replace(own, seed=self.held_out_seed)
        try:
            return self._kept_games(first_number, num_batches)
        finally:
            self.settings = own

    def _kept_games(self, first_number: int, num_batches: int) -> DataLoader[GameBatch]:
        place = self._place()
        needs = tuple(self._needs("held_out_needs"))
        key = (self.settings, first_number, num_batches, needs)
        if place and place["device"].type == "cuda":  # its memory is what a run is measured by
            return super()._held_out(first_number, num_batches)
        if key not in _kept:
            while len(_kept) >= _MOST_KEPT:
                del _kept[next(iter(_kept))]
            _kept[key] = super()._held_out(first_number, num_batches)
        return _kept[key]


def games_of(settings: dict[str, Any], player: str | None = None) -> ComparedGames:
    """The games of a run.

    Args:
        settings: of the run, ``data`` and ``held_out_seed`` among them.
        player: in place of the run's own, to be tested on.
    """
    own = settings["data"] if player is None else {**settings["data"], "player": player}
    games = ComparedGames(**own)
    games.held_out_seed = settings.get("held_out_seed")
    return games
