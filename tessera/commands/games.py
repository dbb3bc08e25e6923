"""``tessera games``: games of the built-in players, or of a model, as SGF files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.commands.arguments import OneLineParser, add_model_options, find_device
from tessera.commands.console import waiting_for
from tessera.commands.ending import say
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.commands.output_file import write_file
from tessera.commands.quiet import quieten
from tessera.setting_errors import SettingError, number, one_of, problems_of, whole

if TYPE_CHECKING:
    import torch

    from tessera.companion import Companion
    from tessera.go import GameRecord
    from tessera.play.map import PositionMap

_BUILT_IN = ("rules", "uniform")
_PRESETS = ("full", "phase2", "tromp-taylor")
_MOST_NUMBER = 2**61
_AT_ONCE = 64  # games that are played together, and written before the next ones begin
_ALLOWED = {
    "number": whole(1, 1_000_000),
    "seed": whole(0, 2**63 - 1),
    "first": whole(0, _MOST_NUMBER - 1_000_000),
    "temperature": number("more than 0 and at most 1000", lambda x: 0 < x <= 1000),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera games`` with these arguments (those of the process if None).

    Returns:
        0; 1 if what the model says is not finite; 2 for a mistake in what was asked for.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    is_built_in = arguments.player in _BUILT_IN
    problems = _problems(arguments, is_built_in)
    if not problems:
        waiting_for("loading torch" if is_built_in else "loading torch and the model")
    device = find_device(arguments, parser, problems)
    quieten()
    if not is_built_in:
        load_metrics_lightly()
    try:
        source = _BuiltIn(arguments, device) if is_built_in else _Model(arguments, device)
        os.makedirs(arguments.sgf, exist_ok=True)
    except SettingError as error:
        return say(one_line(" ".join(str(error).splitlines())), 2)
    try:
        _write(source, arguments)
    except ValueError as error:
        return say(f"{arguments.player}: {error}", 1)
    last = arguments.first + arguments.number - 1
    which = f"games {arguments.first} to {last}" if arguments.number > 1 else f"game {last}"
    print(f"wrote {which} into {arguments.sgf}")
    return 0


def _write(source: _BuiltIn | _Model, arguments: argparse.Namespace) -> None:
    import torch

    from tessera.play.sgf import record_document
    from tessera.play.sgf_map import write_sgf_maps

    torch.set_num_threads(1)  # more seldom help so few games, see ``tessera.go.play.one_thread``
    end = arguments.first + arguments.number
    for start in range(arguments.first, end, _AT_ONCE):
        waiting_for(f"{start - arguments.first:,} of {arguments.number:,} games written")
        numbers = range(start, min(start + _AT_ONCE, end))
        record = source.play(numbers)
        for game, name in enumerate(numbers):
            document = record_document(record, game, source.name)
            maps = source.maps(record, game) if arguments.map else iter(())
            file = os.path.join(arguments.sgf, f"{source.name}_{arguments.seed}_{name}.sgf")
            write_file(file, write_sgf_maps(document, maps))
            waiting_for(f"{name + 1 - arguments.first:,} of {arguments.number:,} games written")


class _BuiltIn:
    """Games of a built-in player, and the distributions that it draws from."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        from tessera.go import RULES
        from tessera.vocabulary import check_board_size

        size = 19 if arguments.board_size is None else arguments.board_size
        self.name, self.seed, self.device = arguments.player, arguments.seed, device
        self.board_size = check_board_size("--board_size", size)
        self.rules = RULES[arguments.rules or "full"]

    def play(self, numbers: range) -> GameRecord:
        from tessera.go import play_games

        return play_games(
            self.name,
            numbers,
            seed=self.seed,
            board_size=self.board_size,
            rules=self.rules,
            device=self.device,
        )

    def maps(self, record: GameRecord, game: int) -> Iterator[PositionMap]:
        from tessera.play.game_maps import maps_of_player

        moves = record.moves[game, : int(record.lengths[game])].tolist()
        return maps_of_player(self.name, moves, self.board_size, self.rules)


class _Model:
    """Games of a model against itself, and what it expects in them."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        self.companion = _load(arguments, device)
        self.name, self.seed = Path(arguments.player).stem, arguments.seed
        self.temperature, self.device = arguments.temperature, device

    def play(self, numbers: range) -> GameRecord:
        import torch

        from tessera.go.loop import GameLoop
        from tessera.play.model_player import ModelPlayer

        companion = self.companion
        loop = GameLoop(
            ModelPlayer(companion.model, self.temperature),
            len(numbers),
            board_size=companion.board_size,
            device=self.device,
            rules=companion.rules,
            seed=self.seed,
            skip_settled=companion.skip_settled,
        )
        with torch.inference_mode():
            return loop.play(torch.tensor(numbers, device=self.device)).trimmed()

    def maps(self, record: GameRecord, game: int) -> Iterator[PositionMap]:
        from tessera.play.game_maps import maps_of_session

        moves = record.moves[game, : int(record.lengths[game])].tolist()
        return maps_of_session(self.companion.session(), moves)


def _load(arguments: argparse.Namespace, device: torch.device) -> Companion:
    from tessera.companion import load
    from tessera.training.checkpoint_file import CheckpointError
    from tessera.training.run_folder import find_checkpoint

    try:
        path = find_checkpoint(arguments.player, arguments.run_name)
        return load(path, device, arguments.board_size, arguments.own)
    except CheckpointError as error:
        raise SettingError(str(error)) from error


def _problems(arguments: argparse.Namespace, is_built_in: bool) -> list[str]:
    """What is wrong with the arguments, before torch is loaded."""
    problems = [f"--{problem}" for problem in problems_of(arguments, _ALLOWED)]
    if not arguments.player:
        problems.append("--player must be rules, uniform, a model's file or last; got none.")
    if not arguments.sgf:
        problems.append("--sgf must name a folder, got none.")
    elif os.path.exists(arguments.sgf) and not os.path.isdir(arguments.sgf):
        problems.append(f"--sgf must name a folder; {arguments.sgf} is a file.")
    if arguments.rules is not None:
        check = {"rules": one_of(*_PRESETS)}
        problems += [f"--{problem}" for problem in problems_of(arguments, check)]
        if not is_built_in:
            problems.append("--rules are the model's; the option is of rules and uniform.")
    if is_built_in and arguments.temperature != 1.0:
        problems.append("--temperature is of a model.")
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera games", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    what = "who plays both colours: rules, uniform, a model's file, player_9x9, or last for the "
    what += "newest run's"
    add("--player", metavar="WHO", default="rules", help=f"{what} (default: rules)")
    add("--run_name", default="quickstart", help="whose newest run last is (default: quickstart)")
    add("--sgf", metavar="FOLDER", required=True, help="where the files are written, one a game")
    add("--number", type=int, default=1, metavar="N", help="how many games (default: 1)")
    what = "also write every position's map into the comments, with letters on the board"
    add("--map", action="store_true", help=what)
    add("--seed", type=int, default=0, help="another seed gives other games (default: 0)")
    add("--first", type=int, default=0, metavar="K", help="the first game's number (default: 0)")
    what = f"{', '.join(_PRESETS[:-1])} or {_PRESETS[-1]}, of rules and uniform (default: full)"
    add("--rules", metavar="RULES", help=what)
    what = "a model draws with its probabilities to the power of 1 over this (default: 1)"
    add("--temperature", type=float, default=1.0, help=what)
    add_model_options(parser)
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    parser.set_defaults(json=None)
    return parser
