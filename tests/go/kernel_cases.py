"""What the Triton kernels and the plain code both play, to be compared; also a program.

As a program it plays everything in Triton's interpreter on the CPU and saves it in the file that
its argument names. Triton decides when it is imported whether it compiles or interprets, so the
interpreter needs a process of its own.
"""

from __future__ import annotations

import sys
from dataclasses import astuple, fields, replace

import torch
from torch import Tensor

from tessera.go import GameRecord, GPUGoEngine, Rules, play_games, play_out, settled_points
from tessera.go.bitboard import count_points, nth_point
from tessera.go.branching import copy_games, tensors_of
from tessera.go.features import board_rows, landmark_rows
from tessera.go.randomness import WINDOW, below, random_words
from tessera.go.record import TABLES
from tests.go.positions import grown_boards, planes
from tests.go.states import everything, hostile_moves
from tests.interpreting import quicken

OPTIONAL = ("legal", "board", "landmarks")
# Games cut short, so that dead stones stand at their ends.
PASS_ALIVE = Rules(komi=0.5, max_moves=9, score="pass_alive")

# Player, board size, rules, game numbers: every ko rule with and without suicide, both players.
GAMES: dict[str, tuple[str, int, Rules, range | Tensor]] = {
    "uniform-2-positional": ("uniform", 2, Rules(), range(2)),
    "uniform-2-every-other": ("uniform", 2, Rules(max_moves=4), torch.arange(4)[::2]),
    "uniform-3-positional": ("uniform", 3, Rules(), range(1)),
    "uniform-3-simple-suicide": ("uniform", 3, Rules(ko="simple", suicide=True), range(1)),
    "uniform-2-situational-suicide": (
        "uniform",
        2,
        Rules(ko="situational", suicide=True),
        range(2),
    ),
    "rules-3-positional-suicide": ("rules", 3, Rules(suicide=True), range(1)),
    "rules-3-situational": ("rules", 3, Rules(ko="situational"), range(1)),
    "uniform-3-single-stones": ("uniform", 3, Rules(ko="simple", capture="single"), range(1)),
    "rules-5-simple": ("rules", 5, Rules(ko="simple", max_moves=16), range(1)),
    "uniform-3-pass-alive": ("uniform", 3, PASS_ALIVE, range(1, 7, 5)),
    "rules-3-pass-alive-suicide": ("rules", 3, replace(PASS_ALIVE, suicide=True), range(5, 7)),
}

# Of the same kind, and the players leave settled points alone.
SKIPPING: dict[str, tuple[str, int, Rules, range | Tensor]] = {
    "uniform-3-skipping": ("uniform", 3, Rules(ko="simple"), range(1, 19, 11)),
    "rules-3-skipping-suicide": ("rules", 3, Rules(suicide=True), range(5, 6)),
    "rules-4-skipping": ("rules", 4, replace(PASS_ALIVE, max_moves=32), range(28, 29)),
}

# Tables that the kernel writes without the others.
SOME = ("log_probs", "entropies", *OPTIONAL)

# Board size, rules and number of plies of games whose moves come from outside.
PLIES: dict[str, tuple[int, Rules, int]] = {
    "3-positional": (3, Rules(), 12),
    "2-situational-suicide": (2, Rules(ko="situational", suicide=True), 10),
    "3-simple": (3, Rules(ko="simple"), 12),
    "3-single-stones": (3, Rules(ko="positional", capture="single", max_moves=8), 9),
}

# Board size, rules and number of plies of games whose moves are tokens of any value.
HOSTILE: dict[str, tuple[int, Rules, int]] = {
    "2-positional": (2, Rules(max_moves=20), 14),
    "2-simple-suicide": (2, Rules(ko="simple", suicide=True), 8),
    "3-situational": (3, Rules(ko="situational"), 14),
    "3-single-stones": (3, Rules(ko="positional", capture="single"), 14),
}

# Board size and rules of games that branch.
BRANCHED: dict[str, tuple[int, Rules]] = {
    "2-positional": (2, Rules(max_moves=5)),
    "3-situational-suicide": (3, Rules(ko="situational", suicide=True)),
    "4-simple": (4, Rules(ko="simple")),
    "9-long": (9, Rules(max_moves=300)),
}

# Board size, suicide, number and seed of boards whose settled points are found.
SETTLED: dict[str, tuple[int, bool, int, int]] = {
    "2": (2, False, 8, 375),
    "3-suicide": (3, True, 4, 59),
    "4": (4, False, 3, 22),
    "7": (7, False, 2, 21),
    "7-suicide": (7, True, 2, 21),
}

# Board size, rules and numbers of uniform games whose last positions are scored.
SCORED: dict[str, tuple[int, Rules, range]] = {
    "3-suicide": (3, replace(PASS_ALIVE, suicide=True), range(12, 16)),
    "5": (5, replace(PASS_ALIVE, max_moves=30), range(7, 10)),
    "7": (7, replace(PASS_ALIVE, max_moves=55), range(1, 3)),
}

# Rules, board, who is to move and the moves played there, of which positions tell much.
TOLD: dict[str, tuple[Rules, str, int, tuple[str, ...]]] = {
    "ko": (Rules(ko="simple"), ".XO. X.XO .XO. ....", 1, ("B3", "A1", "D1", "C3", "pass")),
    "superko": (
        Rules(),
        "..... ..... ..... XXO.. ...O.",
        1,
        ("B1", "E4", "A1", "C1", "E5", "pass", "pass"),
    ),
    "large": (Rules(), "XXXX.. X.OO.. OOO... ...... ...... ......", 1, ("E6", "B5", "A6", "A5")),
    "sides": (Rules(), "..X.. .XOX. X..OX .X.X. .....", 0, ("C3", "C4")),
    "other-sides": (Rules(), "..... .X.X. XO..X .XOX. ..X..", 0, ("C3", "C2")),
    "suicide": (Rules(suicide=True), "X.O.. XXO.. OOO.. ..... .....", 0, ("B5",)),
}

_EMPTY_3, _EMPTY_5 = " ".join(["..."] * 3), " ".join(["....."] * 5)
# Player, rules, a drawn board, how many empty points (or which) are played first, and games.
_KO = ".XO. X.XO .XO. ...."
PLAYOUTS: dict[str, tuple[str, Rules, str, int | tuple[str, ...], int]] = {
    "uniform-4-ko": ("uniform", Rules(ko="simple", max_moves=2), _KO, ("B3",), 8),
    "uniform-4-superko": ("uniform", Rules(max_moves=2), _KO, ("B3",), 8),
    "uniform-2-positional": ("uniform", Rules(komi=1.0), ".. ..", 7, 4),
    "rules-3-positional": ("rules", Rules(komi=0.0), _EMPTY_3, 9, 2),
    "uniform-3-simple": ("uniform", Rules(ko="simple"), _EMPTY_3, 9, 2),
    "rules-3-simple-suicide": ("rules", Rules(ko="simple", suicide=True), _EMPTY_3, 8, 2),
    "uniform-3-situational-suicide": (
        "uniform",
        Rules(ko="situational", suicide=True),
        _EMPTY_3,
        12,
        2,
    ),
    "uniform-3-single-stones": ("uniform", Rules(capture="single", max_moves=12), _EMPTY_3, 6, 2),
    # More positions than are copied at once, and more plies than are drawn at once.
    "uniform-3-long": ("uniform", Rules(max_moves=170), _EMPTY_3, 150, 2),
    "rules-5-pass-alive": ("rules", Rules(max_moves=36, score="pass_alive"), _EMPTY_5, 28, 1),
    "uniform-3-no-liberties": ("uniform", Rules(komi=9.0), "XO. XO. O..", 0, 3),
    "rules-3-over": ("rules", Rules(max_moves=6), _EMPTY_3, 6, 2),
}


def count_playouts(
    player: str,
    rules: Rules,
    board: str,
    plies: int | tuple[str, ...],
    games: int,
    backend: str,
    device: str = "cpu",
    positions: int = 2,
) -> list[Tensor]:
    """What is counted from positions to which random or given points lead from a drawn board."""
    dense = planes(board).to(device).expand(positions, -1, -1, -1)
    engine = GPUGoEngine(positions, device, dense.shape[-1], rules, backend)
    numbers = torch.arange(positions, device=device)
    engine.set_position(dense, numbers % 2)
    for vertex in () if isinstance(plies, int) else plies:
        engine.play_batch(torch.full_like(numbers, engine.vocabulary.token(vertex)))
    for ply in range(plies if isinstance(plies, int) else 0):
        empty = engine.position.empty
        words = random_words(3, numbers, ply, WINDOW)
        row, column = nth_point(empty, below(words, count_points(empty).long()))
        engine.play_batch(row * engine.board_size + column)
    before = everything(engine)
    played = play_out(engine, games, player=player, seed=-7, numbers=numbers * 2**40, first=5)
    for name, tensor in everything(engine).items():
        assert torch.equal(tensor, before[name]), name
    return [tensor.cpu() for tensor in astuple(played) if isinstance(tensor, Tensor)]


def tell(
    rules: Rules, board: str, turn: int, moves: tuple[str, ...], backend: str, device: str = "cpu"
) -> list[Tensor]:
    """What is told of a drawn position and after each of some moves."""
    dense = planes(board)
    engine = GPUGoEngine(1, device, dense.shape[-1], rules, backend)
    engine.set_position(dense, torch.tensor([turn]))
    told = [board_rows(engine), landmark_rows(engine)]
    for move in moves:
        engine.play_batch(torch.tensor([engine.vocabulary.token(move)]))
        told += [board_rows(engine), landmark_rows(engine)]
    return [rows.cpu() for rows in told]


def play_case(name: str, backend: str, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of the record of one of GAMES or SKIPPING."""
    player, size, rules, numbers = (GAMES | SKIPPING)[name]
    record = play_games(
        player,
        numbers,
        seed=5,
        board_size=size,
        rules=rules,
        device=device,
        backend=backend,
        needs=OPTIONAL + ("settled",) * (rules.capture == "chains"),
        skip_settled=name in SKIPPING,
    )
    return record_tensors(record)


def play_some(optional: str) -> dict[str, Tensor]:
    """The tables of a game by the kernel, of the optional ones this one alone, and the numbers."""
    from tessera.go.kernels.games import play_tables

    names = ("moves", "captures", "lengths", "results", optional)
    tables, numbers = {name: TABLES[name] for name in names}, torch.arange(1)
    played = play_tables("uniform", numbers, seed=5, board_size=3, rules=Rules(), tables=tables)
    return {**played, "numbers": numbers}


def record_tensors(record: GameRecord) -> dict[str, Tensor]:
    """The tensors of a record by name."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value.cpu() for name, value in values.items() if isinstance(value, Tensor)}


def follow_plies(
    size: int, rules: Rules, plies: int, backend: str, games: int = 2, device: str = "cpu"
) -> list[Tensor]:
    """Everything an engine says after each ply of random legal moves, passes among them.

    Half way game 0 begins anew, towards the end it goes on from a drawn position, and at the end
    only the other games are kept.
    """
    engine = GPUGoEngine(games, device=device, board_size=size, rules=rules, backend=backend)
    numbers = torch.arange(games, device=device)
    said: list[Tensor] = []
    for ply in range(plies):
        mask = engine.get_legal_mask()
        words = random_words(1, numbers, ply, WINDOW)
        nth = below(words, mask.sum(1)).unsqueeze(1)
        moves = (mask.cumsum(1) > nth).int().argmax(1)
        engine.play_batch(moves, check=True)
        if ply in (plies // 2, plies - 3):
            engine.reset(numbers == 0)
        if ply == plies - 3:
            boards = torch.zeros(games, 2, size, size, dtype=torch.bool, device=device)
            boards[:, 0, 0, 1], boards[:, 1, 1, 0] = True, True
            engine.set_position(boards, numbers % 2, numbers == 0)
        said += [mask, moves, *_what_it_says(engine)]
    engine.keep(numbers[1:])
    said += [engine.get_legal_mask(), *_what_it_says(engine)]
    return [tensor.cpu() for tensor in said]


def follow_hostile(
    size: int, rules: Rules, plies: int, backend: str, games: int = 3, device: str = "cpu"
) -> list[Tensor]:
    """Everything an engine holds after each of many plies of tokens that nobody looked at."""
    engine = GPUGoEngine(games, device=device, board_size=size, rules=rules, backend=backend)
    held: list[Tensor] = []
    for ply in range(plies):
        engine.play_batch(hostile_moves(size, games, ply, seed=10 * size + plies, device=device))
        held += everything(engine).values()
    return [tensor.cpu() for tensor in [*held, engine.get_legal_mask(), engine.score()]]


def branch(size: int, rules: Rules, backend: str, device: str = "cpu") -> list[Tensor]:
    """Everything two engines hold once games of each have become copies of the other's."""
    games = torch.arange(6, device=device)
    one, two = (_filled(size, rules, seed, backend, device) for seed in range(2))
    copy_games(one, games[:4].flip(0), games[1:5], two)
    held = list(everything(two).values())
    one.branch(games[:2], games[:2] + 2)
    # Games that were shorter and longer than those that they become.
    copy_games(two, games[:3], games[3:], one)
    one.branch(games, games.flip(0))
    held += [*everything(one).values(), *everything(two).values()]
    return [tensor.cpu() for tensor in held]


def _filled(size: int, rules: Rules, seed: int, backend: str, device: str) -> GPUGoEngine:
    """Six games of any numbers in all that they hold, as far as the plies that were played."""
    generator = torch.Generator().manual_seed(seed)
    engine = GPUGoEngine(6, device, size, rules, backend)
    plies = torch.randint(0, engine.max_moves + 1, (6,), generator=generator)
    sets, others = tensors_of(engine)
    for tensor in (*sets, *others):
        most = min(torch.iinfo(tensor.dtype).max, 2**62)
        drawn = torch.randint(0, most, tensor.shape, generator=generator, dtype=tensor.dtype)
        is_kept = torch.zeros(tensor.shape, dtype=torch.bool)
        more = tensor[0].numel() - engine.max_moves  # positions are one more than moves
        if tensor.dtype in (torch.int16, torch.int64) and more in (0, 1):
            is_kept = torch.arange(tensor.shape[1]) >= (plies + more).unsqueeze(1)
        tensor.copy_(torch.where(is_kept, tensor.cpu(), drawn))
    engine.move_number.copy_(plies)
    return engine


def settle(
    size: int, suicide: bool, boards: int, seed: int, backend: str, device: str = "cpu"
) -> list[Tensor]:
    """The four sets of settled points of random boards; the first one's by an engine as well."""
    drawn = grown_boards(size, boards, seed).to(device)
    rules = Rules(suicide=suicide)
    engine = GPUGoEngine(1, device=device, board_size=size, rules=rules, backend=backend)
    engine.set_position(drawn[:1], torch.tensor([1]))
    found = [*astuple(settled_points(drawn, suicide, backend)), *astuple(engine.settled_points())]
    return [rows.cpu() for rows in found]


def score_ends(
    size: int, rules: Rules, numbers: range, backend: str, device: str = "cpu"
) -> list[Tensor]:
    """Results, scores and owners of the last positions of games that were played in plain torch."""
    record = play_games("uniform", numbers, seed=8, board_size=size, rules=rules)
    played = GPUGoEngine(len(numbers), device="cpu", board_size=size, rules=rules)
    for moves in record.moves.t():
        played.play_batch(moves)
    engine = GPUGoEngine(len(numbers), device, size, rules, backend)
    engine.set_position(played.boards, played.turn)
    return [record.results, engine.score().cpu(), engine.ownership().cpu()]


def _what_it_says(engine: GPUGoEngine) -> list[Tensor]:
    read = (engine.turn, engine.move_number, engine.history, engine.captured)
    asked = (engine.boards, engine.is_game_over(), engine.score(), engine.ownership())
    inside = (engine.legal_rows(), engine.last_captures, engine.position.atari)
    told = (board_rows(engine), landmark_rows(engine))
    return [tensor.clone() for tensor in (*read, *asked, *inside, *told)]


def main(path: str) -> None:
    """Play everything in the interpreter and save it."""
    from tessera.go.kernels.census import count_legal_positions

    torch.set_num_threads(1)
    quicken()
    records = {name: play_case(name, "triton") for name in GAMES | SKIPPING}
    plies = {name: follow_plies(*case, backend="triton") for name, case in PLIES.items()}
    hostile = {name: follow_hostile(*case, backend="triton") for name, case in HOSTILE.items()}
    settled = {name: settle(*case, backend="triton") for name, case in SETTLED.items()}
    scored = {name: score_ends(*case, backend="triton") for name, case in SCORED.items()}
    some = {name: play_some(name) for name in SOME}
    told = {name: tell(*case, backend="triton") for name, case in TOLD.items()}
    playouts = {name: count_playouts(*case, backend="triton") for name, case in PLAYOUTS.items()}
    branched = {name: branch(*case, backend="triton") for name, case in BRANCHED.items()}
    census = count_legal_positions(2, "cpu")
    whole = (records, plies, census, hostile, settled, scored, some, told, playouts, branched)
    torch.save(whole, path)


if __name__ == "__main__":
    main(sys.argv[1])
