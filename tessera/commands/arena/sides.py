"""The players of ``tessera arena``, ready to play: models loaded, engines started."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tessera.commands.arena.players import PlayerName, labels_of
from tessera.commands.arguments import run_or_file
from tessera.companion import Companion, load
from tessera.go import Rules, get_player
from tessera.play.contestants import Contestant, ModelContestant, Seated
from tessera.play.gtp_process import EngineFault
from tessera.play.gtp_side import GtpSide
from tessera.play.playout_sides import FlatSide, TreeSide
from tessera.setting_errors import SettingError, under
from tessera.training.checkpoint_file import CheckpointError
from tessera.training.run_folder import find_checkpoint

_OF_EVALUATOR = ("score_weight",)
_OF_SEARCH = {"sims": "num_simulations", "considered": "num_considered"}


class Sides:
    """Each player's side, made once and used in all its matches; a context manager.

    Args:
        names: of the players.
        loaded: of the players that are models, see ``load_models``.
        board_size: n.
        rules: of the games.
        device: where our own play.
        deadline_s: seconds for a move of an engine.
        start_s: seconds for it to start in.

    Attributes:
        sides: in the order of the names.
        labels: what results call them: an engine by what it says that it is.

    Raises:
        SettingError: with a line for a player that cannot play.
    """

    def __init__(
        self,
        names: Sequence[PlayerName],
        loaded: Mapping[int, Companion],
        *,
        board_size: int,
        rules: Rules,
        device: torch.device,
        deadline_s: float,
        start_s: float,
    ) -> None:
        self.sides: list[Contestant] = []
        try:
            for nth, name in enumerate(names):
                if name.kind == "gtp":
                    side: Contestant = _engine(name, board_size, rules, deadline_s, start_s)
                elif name.kind == "model":
                    side = _model(name, loaded[nth])
                elif name.kind in ("playouts", "uct"):
                    side = (FlatSide if name.kind == "playouts" else TreeSide)(name.number)
                else:
                    side = Seated(get_player(name.kind))
                self.sides.append(side)
        except BaseException:
            self.close()
            raise
        self.labels = labels_of(
            [
                (side.title or name.text) if isinstance(side, GtpSide) else name.text
                for name, side in zip(names, self.sides, strict=True)
            ]
        )

    def close(self) -> None:
        """End all engines."""
        for side in self.sides:
            if isinstance(side, GtpSide):
                side.close()

    def __enter__(self) -> Sides:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def described(self, names: Sequence[PlayerName], files: Mapping[int, Path]) -> list[Any]:
        """What each player is, for the conditions of a match."""
        return [
            _described(name, side, files.get(nth))
            for nth, (name, side) in enumerate(zip(names, self.sides, strict=True))
        ]


def load_models(
    names: Sequence[PlayerName],
    *,
    run_name: str,
    board_size: int | None,
    own: Sequence[str],
    device: torch.device,
) -> tuple[dict[int, Companion], dict[int, Path]]:
    """The models among the players, and their files, by the players' numbers.

    Raises:
        SettingError: with a line for one that cannot be loaded.
    """
    loaded: dict[int, Companion] = {}
    files: dict[int, Path] = {}
    for nth, name in enumerate(names):
        if name.kind == "model":
            try:
                target, run = run_or_file(name.target, run_name)
                files[nth] = find_checkpoint(target, run)
                loaded[nth] = load(files[nth], device, board_size, own)
            except CheckpointError as error:
                raise SettingError(str(error)) from error
    return loaded, files


def _engine(
    name: PlayerName, board_size: int, rules: Rules, deadline_s: float, start_s: float
) -> GtpSide:
    try:
        return GtpSide(name.target, board_size, rules, deadline_s, start_s)
    except EngineFault as fault:
        raise SettingError(f"{name.text} cannot play: {fault}.") from None


def _model(name: PlayerName, companion: Companion) -> Contestant:
    settings = dict(name.settings)
    if not name.has_search:
        temperature = settings.get("temperature", 0.0)
        model, skips = companion.model, companion.skip_settled
        return ModelContestant(model, name.text, temperature, companion.context, skips)
    from tessera.play.evaluator import ModelEvaluator
    from tessera.play.search_player import SearchPlayer

    dtype = getattr(torch, settings.pop("dtype", "float32"))
    of_evaluator = {key: settings.pop(key) for key in _OF_EVALUATOR if key in settings}
    of_search = {_OF_SEARCH.get(key, key): value for key, value in settings.items()}
    with under(name.text):
        evaluator = ModelEvaluator(companion.model, dtype, **of_evaluator)
        return Seated(SearchPlayer(evaluator, **of_search), name.text, is_rounded=True)


def _described(name: PlayerName, side: Contestant, file: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {"player": name.text}
    if isinstance(side, GtpSide):
        found["engine"] = side.title
    if file is not None:
        found["file"] = str(file)
        found["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
