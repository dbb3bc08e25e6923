"""``tessera predict``: what a model expects at every ply of given games, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tessera.play.sgf import read_sgf
from tessera.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class NamedGame:
    """A game and what to call it: its file, and its line where a file has several."""

    name: str
    moves: list[int]


def read_games(path: str, board_size: int) -> list[NamedGame]:
    """The games of an SGF file, or of a text file with one game a line.

    In a text file moves are GTP vertices or ``pass``, with blanks between them; what follows a
    ``#`` is not read, nor are empty lines.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"games must be files; there is no {path}.")
    content = file.read_bytes()
    try:
        if content.lstrip().startswith(b"("):
            game = read_sgf(content)
            if game.board_size != board_size:
                raise ValueError(
                    f"the board must be {board_size}×{board_size}, the model's, "
                    f"got {game.board_size}."
                )
            return [NamedGame(path, game.moves)]
        return _text_games(path, content.decode(), Vocabulary(board_size))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _text_games(path: str, text: str, vocabulary: Vocabulary) -> list[NamedGame]:
    games = []
    for number, line in enumerate(text.splitlines(), 1):
        vertices = line.partition("#")[0].split()
        if vertices:
            moves = [vocabulary.token(vertex) for vertex in vertices]
            games.append(NamedGame(f"{path}:{number}", moves))
    if not games:
        raise ValueError("there is no game in it.")
    return games


class GameTokens(Dataset[tuple[Tensor, int | None]]):
    """Games as the module's ``predict_step`` wants them: tokens (1, L) and the context."""

    def __init__(self, games: list[NamedGame], board_size: int, context: int | None) -> None:
        self.games, self.vocabulary, self.context = games, Vocabulary(board_size), context

    def __len__(self) -> int:
        return len(self.games)

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        tokens = [self.vocabulary.eos_token, *self.games[index].moves]
        return torch.tensor([tokens]), self.context


def game_loader(
    paths: Sequence[str], board_size: int, context: int | None
) -> DataLoader[tuple[Tensor, int | None]]:
    """All games of the files, one a batch.

    Raises:
        ValueError: if there is no file, or something is wrong with one.
    """
    if not paths:
        raise ValueError("games must name at least one SGF or text file.")
    games = [game for path in paths for game in read_games(path, board_size)]
    return DataLoader(GameTokens(games, board_size, context), batch_size=None)


def lines_of(game: NamedGame, chances: Tensor, vocabulary: Vocabulary) -> Iterator[str]:
    """A line of JSON for every ply.

    ``{"game": "a.sgf", "ply": 0, "played": "Q16", "probabilities": {"A19": 0.001, ...}}``: what was
    expected before that ply, for each vertex, ``pass`` and ``EOS``, the end of the game; they sum
    to 1. ``played`` is what followed, null after the last move.

    Args:
        game: whose moves.
        chances: (plies + 1, V) probabilities.
        vocabulary: of the board.
    """
    names = {
        token: vocabulary.vertex(token)
        for token in range(vocabulary.size)
        if token != vocabulary.pad_token
    }
    for ply, row in enumerate(chances.tolist()):
        played = vocabulary.vertex(game.moves[ply]) if ply < len(game.moves) else None
        probabilities = {name: float(f"{row[token]:.6g}") for token, name in names.items()}
        line = {"game": game.name, "ply": ply, "played": played, "probabilities": probabilities}
        yield json.dumps(line)


class _Printer(Callback):
    """Prints each game's lines as soon as they are known."""

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        loader: Any = trainer.predict_dataloaders
        games: GameTokens = loader.dataset
        for line in lines_of(games.games[batch_idx], outputs.float().cpu(), games.vocabulary):
            print(line)


def print_predictions(
    trainer: Trainer,
    module: LightningModule,
    loader: DataLoader[tuple[Tensor, int | None]],
    ckpt_path: str,
) -> None:
    """Print the lines of all games."""
    trainer.callbacks.append(_Printer())  # type: ignore[attr-defined]
    trainer.predict(module, loader, return_predictions=False, ckpt_path=ckpt_path)
