"""``tessera predict``: what a model expects at every ply of given games, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tessera.data import StreamSettings
from tessera.play.games import NamedGame
from tessera.play.reading import tables_of
from tessera.training.checkpointing import DivergedError
from tessera.training.module import TesseraModule
from tessera.vocabulary import Vocabulary


def lines_of(game: NamedGame, chances: Tensor, vocabulary: Vocabulary) -> Iterator[str]:
    """A line of JSON for every ply.

    ``{"game": "a.sgf", "ply": 0, "played": "Q16", "probabilities": {"A19": 0.001, ...}}``: what was
    expected before that ply, for each vertex, ``pass`` and ``EOS``, the end of the game; they sum
    to 1. ``played`` is what followed, null after the last move. Of a game from a position that was
    set up each line says ``"set_up": true``.

    Args:
        game: whose moves.
        chances: (plies + 1, V) probabilities.
        vocabulary: of the board.

    Raises:
        DivergedError: if one of them is not finite.
    """
    if not chances.isfinite().all():
        raise DivergedError(f"{game.name}: the model's probabilities are not finite.")
    names = {
        token: vocabulary.vertex(token)
        for token in range(vocabulary.size)
        if token != vocabulary.pad_token
    }
    for ply, row in enumerate(chances.tolist()):
        played = vocabulary.vertex(game.moves[ply]) if ply < len(game.moves) else None
        probabilities = {name: float(f"{row[token]:.6g}") for token, name in names.items()}
        line = {"game": game.name, "ply": ply, "played": played, "probabilities": probabilities}
        if game.start is not None:
            line["set_up"] = True
        yield json.dumps(line, allow_nan=False)


class _Printer(Callback):
    """Prints each game's lines as soon as they are known."""

    def __init__(self, games: list[NamedGame], vocabulary: Vocabulary) -> None:
        self.games, self.vocabulary = games, vocabulary

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for line in lines_of(self.games[batch_idx], outputs.float().cpu(), self.vocabulary):
            print(line)


class _Batches(Dataset[Any]):
    """Each game as the module's ``predict_step`` wants it."""

    def __init__(
        self, games: list[NamedGame], settings: StreamSettings, module: TesseraModule
    ) -> None:
        self.games, self.settings, self.module = games, settings, module

    def __len__(self) -> int:
        return len(self.games)

    def __getitem__(self, number: int) -> tuple[Tensor, int | None, tuple[Tensor, ...]]:
        settings, game = self.settings, self.games[number]
        tokens = torch.tensor([[Vocabulary(settings.board_size).eos_token, *game.moves]])
        size, rules, start = settings.board_size, settings.rules, None
        if game.start is not None:
            start = game.start.boards()[None], torch.tensor([game.start.turn])
        tables = tables_of(self.module.model, tokens[:, 1:], size, rules, start)
        return tokens, settings.context, tables


def print_predictions(
    trainer: Trainer,
    module: TesseraModule,
    games: list[NamedGame],
    settings: StreamSettings,
    ckpt_path: str,
) -> None:
    """Print the lines of all games."""
    vocabulary = Vocabulary(settings.board_size)
    loader = DataLoader(_Batches(games, settings, module), batch_size=None)
    trainer.callbacks.append(_Printer(games, vocabulary))  # type: ignore[attr-defined]
    trainer.predict(module, loader, return_predictions=False, ckpt_path=ckpt_path)
