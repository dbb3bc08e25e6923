"""``tessera map``: a probability for every legal move of a position, in the terminal or a file."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.commands.arguments import (
    WHICH_MODEL,
    OneLineParser,
    add_model_options,
    find_device,
)
from tessera.commands.console import waiting_for
from tessera.commands.ending import say, say_which
from tessera.commands.json_file import tell
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.map.request import Request
from tessera.commands.one_line import one_line
from tessera.commands.output_file import file_problems, same_file_problems, write_file
from tessera.commands.picture_file import picture_file, picture_problems

if TYPE_CHECKING:
    from tessera.play.session import Session

_MOST_PLAYOUTS = 1_000_000  # some ten minutes on a CPU, on 9×9


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera map`` with these arguments (those of the process if None).

    Returns:
        0; 1 if what the model says is not finite; 2 for a mistake in what was asked for.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    request = _checked(parser, arguments)
    load_metrics_lightly()
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    from tessera.commands.map.position import lead_to
    from tessera.commands.map.terminal import Ink, lines_of
    from tessera.commands.quiet import quieten
    from tessera.companion import load
    from tessera.play.map import position_map
    from tessera.play.map_drawing import map_drawing
    from tessera.setting_errors import SettingError
    from tessera.training.checkpoint_file import CheckpointError
    from tessera.training.run_folder import find_checkpoint

    quieten()
    try:
        path = find_checkpoint(arguments.ckpt_path, arguments.run_name)
        options = (arguments.device, arguments.board_size, arguments.own)
        session = load(path, *options).session()
        komi = lead_to(session, request)
    except (SettingError, CheckpointError) as error:
        return say(one_line(" ".join(str(error).splitlines())), 2)
    try:
        position = position_map(session, arguments.playouts, komi)
    except ValueError as error:
        return say(f"{path}: {error}", 1)
    width = shutil.get_terminal_size().columns
    tell(lines_of(position, Ink.of(sys.stdout), width), arguments.json, position.as_json())
    if arguments.output is not None:
        write_file(arguments.output, picture_file(map_drawing(position), arguments.output))
    if arguments.sgf is not None:
        from tessera.play.sgf_map import write_sgf_map

        game = _every_map(session) if arguments.every_move else None
        write_file(arguments.sgf, game or write_sgf_map(position, session.rules))
    say_which(arguments.ckpt_path, path)
    return 0


def _every_map(session: Session) -> bytes:
    """The session's game as SGF, each position with its map."""
    from tessera.play.game_maps import maps_of_session
    from tessera.play.sgf_map import write_sgf_maps
    from tessera.play.sgf_session import session_document

    document, moves = session_document(session), session.moves
    document.get_root().set("AP", ("tessera", "map"))
    for _ in moves:
        session.undo()
    return write_sgf_maps(document, maps_of_session(session, moves))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera map", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    what = "an SGF file, or a board of X, O and . as showboard prints it; - is standard input"
    add("file", metavar="FILE", nargs="?", help=what)
    add("--moves", metavar='"Q16 D4 …"', help="instead of a file: the moves from the empty board")
    add("--move", type=int, metavar="N", help="after so many moves of the SGF (default: all)")
    add("--game", type=int, metavar="N", help="which game of the SGF, if it has several")
    add("--to_play", choices=("black", "white"), help="who moves on the board that is drawn")
    add("--ckpt_path", metavar="FILE", required=True, help=WHICH_MODEL)
    add("--run_name", default="quickstart", help="whose newest run that is (default: quickstart)")
    what = "also play so many games on to their ends, and tell who won (default: none)"
    add("--playouts", type=int, default=0, metavar="N", help=what)
    add_model_options(parser)
    add("--output", metavar="FILE", help="also draw it: a name that ends in .png or .svg")
    add("--sgf", metavar="FILE", help="also write it as SGF, with labels and percentages")
    what = "with --sgf: every position of the game with its map, not the last one alone"
    add("--every_move", action="store_true", help=what)
    add("--json", metavar="FILE", help="also write the figures; - is standard output, alone")
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    return parser


def _checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Request:
    """The position that is meant, once every argument has been looked at; sets the device."""
    asked = (arguments.file, arguments.moves, arguments.game, arguments.move, arguments.to_play)
    request = Request(*asked)
    problems = [*request.problems(), *_file_problems(arguments)]
    if arguments.playouts and not 2 <= arguments.playouts <= _MOST_PLAYOUTS:
        allowed = f"be 0, or 2 to {_MOST_PLAYOUTS:,}"
        problems.append(f"--playouts must {allowed}, got {arguments.playouts}.")
    if arguments.every_move and arguments.sgf is None:
        problems.append("--every_move is of --sgf, which must name a file.")
    if not arguments.ckpt_path:
        problems.append("--ckpt_path must name the model, or be last; got none.")
    if not problems:
        waiting_for("loading torch and Lightning")
    arguments.device = find_device(arguments, parser, problems)
    return request


def _file_problems(arguments: argparse.Namespace) -> list[str]:
    """What is wrong with the names of the files that are to be written, but for --json."""
    problems = picture_problems(arguments.output, "--output")
    problems += file_problems(arguments.sgf, "--sgf")
    options = [(f"--{name}", getattr(arguments, name)) for name in ("json", "output", "sgf")]
    read = [("FILE", arguments.file), ("--ckpt_path", arguments.ckpt_path)]
    problems += same_file_problems([*read, *options])
    return problems
