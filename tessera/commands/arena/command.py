"""``tessera arena``: players against each other, every opening with both colours.

A player is uniform, rules, playouts:N, uct:N, a checkpoint (a file, a run's name or last), with
search as FILE@sims=64,temperature=0, or gtp:COMMAND for any engine of the Go Text Protocol.
"""

from __future__ import annotations

import argparse
import itertools
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tessera.commands.arena.players import PlayerName, player_named
from tessera.commands.arguments import OneLineParser, add_model_options, find_device
from tessera.commands.console import waiting_for
from tessera.commands.ending import say
from tessera.commands.json_file import tell
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.commands.output_file import (
    file_problems,
    folder_problems,
    same_file_problems,
    write_file,
)
from tessera.commands.packages import version_of
from tessera.commands.picture_file import picture_file, picture_problems
from tessera.commands.quiet import quieten
from tessera.setting_errors import SettingError, number, one_of, or_none, problems_of, whole

if TYPE_CHECKING:
    import torch

    from tessera.commands.arena.report import Report
    from tessera.companion import Companion
    from tessera.go import Rules
    from tessera.play.sprt import SequentialTest

_MOST_GAMES = 1_000_000
_MOST_KOMI = 1000
_SECONDS = number("more than 0 and at most 86400", lambda x: 0 < x <= 86400)
_ALLOWED = {
    "games": whole(2, _MOST_GAMES),
    "board_size": or_none(whole(2, 19)),
    "komi": number(f"-{_MOST_KOMI} to {_MOST_KOMI}", lambda x: abs(x) <= _MOST_KOMI),
    "max_moves": or_none(whole(1, 100_000)),
    "opening_player": one_of("uniform", "rules"),
    "seed": whole(0, 2**63 - 1),
    "processes": or_none(whole(1, 1024)),
    "deadline": _SECONDS,
    "start_deadline": _SECONDS,
    "threads": whole(1, 1024),
}
_SIZE = 9  # where no model and nobody says one


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera arena`` with these arguments (those of the process if None).

    Returns:
        0; 2 for a mistake in what was asked for, an engine that cannot be started among them.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    names, lengths, problems = _read(arguments)
    has_model = any(name.kind == "model" for name in names)
    if not problems:
        waiting_for("loading torch and the models" if has_model else "loading torch")
    device = find_device(arguments, parser, problems)
    quieten()
    if has_model:
        load_metrics_lightly()
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        report = _play(arguments, names, lengths, device)
    except SettingError as error:
        waiting_for("")
        return say(one_line(" ".join(str(error).splitlines())), 2)
    finally:
        torch.set_num_threads(threads)
    waiting_for("")
    if arguments.picture is not None:
        _draw(arguments.picture, report)
    tell(report.lines(), arguments.json, report.as_json())
    return 0


def _say_komi(names: Sequence[PlayerName], loaded: Mapping[int, Companion], komi: float) -> None:
    """Say who learned with a komi that is a point off or more: it knows other games as won."""
    others: dict[float, list[str]] = {}
    for nth, companion in loaded.items():
        if abs(companion.rules.komi - komi) >= 1:
            others.setdefault(companion.rules.komi, []).append(names[nth].text)
    if others:
        waiting_for("")
    for learned, players in others.items():
        who = ", ".join(dict.fromkeys(players))
        say(one_line(f"{who} learned with komi {learned:g}, and plays with {komi:g} (--komi)."), 0)


def _draw(name: str, report: Report) -> None:
    from tessera.commands.arena.picture import ratings_drawing

    found = report.ratings()
    assert found is not None  # everybody has played everybody
    games = sum(result.num_games for result in report.results.values())
    size = report.conditions["board"].replace("×", "x")  # which the pictures' font has not
    on = f"{size}, {games:,} games, seed {report.conditions['seed']}."
    drawing = ratings_drawing(report.labels, found, on)
    write_file(name, picture_file(drawing, name))


def _play(
    arguments: argparse.Namespace,
    names: Sequence[PlayerName],
    lengths: tuple[int, int],
    device: torch.device,
) -> Report:
    """All matches."""
    # Here, so that a wrong argument is found before torch is loaded.
    from tessera.commands.arena.report import Report
    from tessera.commands.arena.schedule import Schedule
    from tessera.commands.arena.sides import Sides, load_models
    from tessera.commands.machine import machine_name
    from tessera.play.match import match_rules

    size = arguments.board_size
    loaded, files = load_models(
        names, run_name=arguments.run_name, board_size=size, own=arguments.own, device=device
    )
    sizes = {companion.board_size for companion in loaded.values()}
    if len(sizes) > 1:
        said = ", ".join(f"{names[nth].text} {each.board_size}" for nth, each in loaded.items())
        raise SettingError(f"--board_size must be given for models of different boards: {said}.")
    size = next(iter(sizes), _SIZE if size is None else size)
    rules = match_rules(arguments.komi, arguments.max_moves)
    if lengths[1] >= rules.move_limit(size):
        limit = f"fewer plies than the move limit {rules.move_limit(size)}"
        raise SettingError(f"--openings must be {limit}, got {arguments.openings}.")
    test = _test(arguments)
    _say_komi(names, loaded, rules.komi)
    waiting_for("starting the players")
    with Sides(
        names,
        loaded,
        board_size=size,
        rules=rules,
        device=device,
        deadline_s=arguments.deadline,
        start_s=arguments.start_deadline,
    ) as sides:
        conditions = {
            "tessera": version_of("tessera") or "not installed",
            "players": sides.described(names, files),
            **_conditions(arguments, size, rules, lengths),
        }
        began = time.perf_counter()
        schedule = Schedule(
            sides.sides,
            sides.labels,
            arguments,
            lengths,
            board_size=size,
            rules=rules,
            device=device,
            test=test,
        )
        pairings = list(itertools.combinations(range(len(names)), 2))
        results = schedule.play(pairings, conditions)
        seconds = time.perf_counter() - began if schedule.num_played else None
        more = {} if test is None else {"sequential test": _said_of(test)}
        stated = {**conditions, "games of each two, at most": arguments.games, **more}
        stated |= {"engines side by side": schedule.num_processes} if schedule.has_engine else {}
        machine = machine_name(device)
    return Report(stated, machine, sides.labels, results, test, schedule.num_beyond, seconds)


def _conditions(
    arguments: argparse.Namespace, size: int, rules: Rules, lengths: tuple[int, int]
) -> dict[str, Any]:
    """What else must be the same for games to be of one match."""
    least, most = lengths
    by = f"by {arguments.opening_player}, each with both colours"
    return {
        "board": f"{size}×{size}",
        "rules": {
            "ko": rules.ko,
            "suicide": "on" if rules.suicide else "off",
            "score": "area of the board as it stands after two passes, or at the move limit",
            "komi": rules.komi,
            "move limit": rules.move_limit(size),
        },
        "openings": f"{least} to {most} random plies {by}",
        "seed": arguments.seed,
        "deadline": f"{arguments.deadline:g} s a move, of engines",
    }


def _test(arguments: argparse.Namespace) -> SequentialTest | None:
    from tessera.play.sprt import SequentialTest

    if arguments.sprt is None:
        return None
    elo0, elo1 = map(float, arguments.sprt.split(","))
    try:
        return SequentialTest(elo0, elo1)
    except SettingError as error:
        raise SettingError(f"--sprt: {error}") from None


def _said_of(test: SequentialTest) -> str:
    return f"H0 {test.elo0:g} Elo, H1 {test.elo1:g} Elo, alpha {test.alpha}, beta {test.beta}"


def _read(
    arguments: argparse.Namespace,
) -> tuple[list[PlayerName], tuple[int, int], list[str]]:
    """The players, the openings' lengths, and what is wrong, before torch is loaded."""
    problems = [f"--{problem}" for problem in problems_of(arguments, _ALLOWED)]
    names = []
    for text in arguments.players:
        try:
            names.append(player_named(text))
        except SettingError as error:
            problems.append(str(error))
    if len(arguments.players) < 2:
        problems.append("there must be at least two players, got one.")
    if not problems and arguments.games % 2:
        both = "every opening is played with both colours"
        problems.append(f"--games must be even, {both}; got {arguments.games}.")
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", arguments.openings)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not match or most < least:
        must = "be plies such as 6 or 4-8"
        problems.append(f"--openings must {must}, got {arguments.openings or 'none'}.")
    if arguments.sprt is not None:
        elo = r"[-+]?\d{1,4}(\.\d*)?"
        if not re.fullmatch(f"{elo},{elo}", arguments.sprt):
            problems.append(f"--sprt must be ELO0,ELO1, got {arguments.sprt or 'none'}.")
        elif len(arguments.players) > 2:
            problems.append("--sprt is of two players.")
    problems += file_problems(arguments.log, "--log")
    problems += folder_problems(arguments.sgf, "--sgf")
    problems += picture_problems(arguments.picture, "--picture")
    files = ("log", "sgf", "json", "picture")
    options = [(f"--{name}", getattr(arguments, name)) for name in files]
    models = [("a player", name.target) for name in names if name.kind == "model"]
    problems += same_file_problems([*models, *options])
    return names, (least, most), problems


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera arena", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    what = "uniform, rules, playouts:N, uct:N, gtp:COMMAND, or a checkpoint: FILE, a run's name, "
    what += "last or player_9x9, which plays the likeliest move; FILE@temperature=1 draws, "
    what += "FILE@sims=64 searches (also considered, value_scale, max_visit, passes, first_pass, "
    what += "score_weight, dtype)"
    add("players", nargs="+", metavar="PLAYER", help=what)
    add("--games", type=int, default=100, metavar="N", help="of each two players (default: 100)")
    add("--run_name", default="quickstart", help="whose newest run last is (default: quickstart)")
    add_model_options(parser)
    add("--komi", type=float, default=7.0, help="points for white (default: 7)")
    what = "plies after which a game is counted as it stands (default: twice the board's points)"
    add("--max_moves", type=int, metavar="N", help=what)
    what = "random plies that a game begins with (default: 4-8)"
    add("--openings", default="4-8", metavar="A-B", help=what)
    what = "who plays them, uniform or rules (default: uniform)"
    add("--opening_player", default="uniform", metavar="WHO", help=what)
    add("--seed", type=int, default=0, help="another seed gives other games (default: 0)")
    what = "engines of gtp:COMMAND side by side, each at a game (default: one a core)"
    add("--processes", type=int, metavar="N", help=what)
    what = "seconds in which an engine must have moved, or it loses the game (default: 30)"
    add("--deadline", type=float, default=30.0, metavar="S", help=what)
    what = "seconds in which an engine must have started (default: 60)"
    add("--start_deadline", type=float, default=60.0, metavar="S", help=what)
    what = "stop when it is decided whether the first player is ELO1 stronger, or only ELO0"
    add("--sprt", metavar="ELO0,ELO1", help=what)
    what = "append every game to this file, and do not play again what it holds"
    add("--log", metavar="FILE", help=what)
    add("--sgf", metavar="FOLDER", help="where the games are written, one a file")
    add("--picture", metavar="FILE", help="draw the ratings: a name that ends in .png or .svg")
    add("--json", metavar="FILE", help="write the result to this file as well; - prints that alone")
    threads = "CPU threads of our own players (default: 1)"
    add("--threads", type=int, default=1, help=threads)
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    return parser
