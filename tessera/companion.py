"""A trained model as a person asks it: ``tessera.load(path).map(moves)``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tessera.data import GameDataModule
from tessera.go import Rules
from tessera.model import GameModel, ModelSettings
from tessera.play.map import PlayedOut, played_out
from tessera.play.session import Session
from tessera.setting_errors import Problem, SettingError
from tessera.training.checkpoint_content import on_any_machine, read_checked
from tessera.training.exported_file import MODEL
from tessera.training.run_folder import given_model
from tessera.vocabulary import Vocabulary, board_size_of, check_board_size, num_tokens


@dataclass(frozen=True, slots=True)
class PossibilityMap:
    """What may be played next.

    Attributes:
        points: the probability of every legal point by its vertex, such as ``Q16``; the likeliest
            first. With ``pass_`` they sum to 1.
        pass_: the probability of a pass.
        win: the probability that the player to move wins; None if nobody says it.
        score: by how many points the player to move wins; None if nobody says it.
        ownership: (n, n) float64, whose each point will be, 1 black's, -1 white's; None if nobody
            says it.
        legal_mass: what the model gave to legal moves, of 1, before the others were left out.
        said_by: ``model`` or ``playouts`` for each of ``win``, ``score`` and ``ownership`` that is
            said.
        played_out: all that playouts say, with their intervals; None without.
    """

    points: Mapping[str, float]
    pass_: float
    win: float | None
    score: float | None
    ownership: Tensor | None
    legal_mass: float
    said_by: Mapping[str, str]
    played_out: PlayedOut | None = None


class Companion:
    """A model and the games that it was trained on.

    Args:
        model: on its device, in evaluation.
        board_size: n.
        rules: of the games.
        context: tokens that it read at once; None for whole games.
        skip_settled: whether the games left settled points alone.
    """

    def __init__(
        self,
        model: GameModel,
        board_size: int,
        rules: Rules,
        context: int | None,
        skip_settled: bool = False,
    ) -> None:
        self.model, self.board_size, self.rules, self.context = model, board_size, rules, context
        self.skip_settled = skip_settled

    def session(self) -> Session:
        """A new game to be followed with the model."""
        of_games = (self.board_size, self.rules, self.context)
        return Session(self.model, *of_games, self.model.device, self.skip_settled)

    def map(self, moves: str | Sequence[str | int] = (), playouts: int = 0) -> PossibilityMap:
        """What the model expects after some moves, black's first.

        Args:
            moves: vertices such as ``Q16`` and ``pass``, in one text or a list, or tokens.
            playouts: games that the rule-based player plays on to their ends, 2 or more, for
                what the model does not say of win, score and ownership; 0 for none.

        Raises:
            ValueError: if one of them is no point of the board, or ``playouts`` no such number.
            IllegalMoveError: if one of them is illegal; it says which and why.
        """
        session, vocabulary = self.session(), Vocabulary(self.board_size)
        for move in moves.split() if isinstance(moves, str) else moves:
            session.play(move if isinstance(move, str) else int(move))
        outlook = session.outlook()
        chances = outlook.probabilities.tolist()
        legal = outlook.legal[: vocabulary.num_points].nonzero().flatten().tolist()
        legal.sort(key=lambda point: -chances[point])
        points = {vocabulary.vertex(point): chances[point] for point in legal}
        pass_ = chances[vocabulary.pass_token]
        win, score, ownership = outlook.win, outlook.score, outlook.ownership
        of_model = {"win": win, "score": score, "ownership": ownership}
        said_by = {name: "model" for name, said in of_model.items() if said is not None}
        played = played_out(session, playouts) if playouts else None
        if played is not None:
            said_by = {**dict.fromkeys(("win", "score", "ownership"), "playouts"), **said_by}
            if win is None:
                win, score = played.win, played.score
            if ownership is None:
                ownership = played.ownership
        ownership = None if ownership is None else ownership.double()
        mass = outlook.legal_mass
        return PossibilityMap(points, pass_, win, score, ownership, mass, said_by, played)


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    board_size: int | None = None,
    own: Collection[str] = (),
) -> Companion:
    """The model of a checkpoint, for games like those it was trained on.

    Args:
        path: the file, or the name of a model that comes with the program.
        device: where the model will be.
        board_size: of the games, for a model whose weights are of any board; None for the size that
            it was trained on.
        own: class paths of parts of your own, such as ``my_package.MyMixer``, that may be imported:
            none is because a checkpoint names it.

    Raises:
        CheckpointError: if the file is no checkpoint that can be used; one line says why.
        SettingError: if the model is of one board, and ``board_size`` is another.
        MemoryError: if there is no memory for it.
    """
    return of_checkpoint(
        read_checked(given_model(path), is_fit=False, named=own), device, board_size
    )


def of_checkpoint(
    checkpoint: Mapping[str, Any],
    device: torch.device | str = "cpu",
    board_size: int | None = None,
) -> Companion:
    """The model of a checkpoint's content, which ``read_checked`` has read; as ``load``.

    Raises:
        SettingError: if the model is of one board, and ``board_size`` is another.
        MemoryError: if there is no memory for it.
    """
    parameters = ModelSettings.of(on_any_machine(checkpoint["hyper_parameters"]))
    # Of a module that was trained on other data than this program's the board is what it knows.
    trained = board_size_of(parameters.vocab_size)
    size = trained if board_size is None else check_board_size("board_size", board_size)
    of_games = {**checkpoint.get("datamodule_hyper_parameters", {}), "backend": "auto"}
    if size != trained:
        if not parameters.is_of_any_board():
            raise SettingError(Problem("board_size", size, f"be {trained}, the model's"))
        parameters = replace(parameters, vocab_size=num_tokens(size))
        of_games["max_moves"] = None  # it was that of the other board
    games = GameDataModule(**{**of_games, "board_size": size})
    model = GameModel(parameters)
    weights = checkpoint["state_dict"].items()
    model.load_state_dict(
        {name[len(MODEL) :]: weight for name, weight in weights if name.startswith(MODEL)}
    )
    settings = games.settings
    model.requires_grad_(False).eval().to(device)
    like_those = (settings.board_size, settings.rules, settings.context, settings.skip_settled)
    return Companion(model, *like_those)
