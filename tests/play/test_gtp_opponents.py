"""Whole games through the protocol: legal to the end for both, and scored alike."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tessera.go import play_games
from tessera.play.game_maps import maps_of_session
from tessera.play.sgf import record_document
from tessera.play.sgf_map import write_sgf_maps
from tests.play.conftest import Table

GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
Ask = Callable[[str], str]


def play_out(black: Ask, white: Ask, board_size: int, komi: float, most: int) -> int:
    """Let two engines play until both pass, or as long; the number of plies."""
    for ask in (black, white):
        for line in (f"boardsize {board_size}", "clear_board", f"komi {komi}"):
            ask(line)
    passes = 0
    for ply in range(most):
        colour, mover, other = ("b", black, white) if ply % 2 == 0 else ("w", white, black)
        move = mover(f"genmove {colour}").lower()
        assert move != "resign"
        other(f"play {colour} {move}")
        passes = passes + 1 if move == "pass" else 0
        if passes == 2:
            return ply + 1
    return most


def is_loath_to_pass(table: Table) -> Table:
    """The same engine, whose model plays on where a new one passes after a few moves."""
    vocabulary = table.session.vocabulary
    less = torch.zeros(vocabulary.size)
    less[vocabulary.pass_token] = -12
    table.session.model.head.register_forward_hook(lambda module, given, logits: logits + less)
    return table


@pytest.mark.parametrize(
    ("board_size", "most"), [(9, 200), pytest.param(19, 500, marks=pytest.mark.slow)]
)
def test_two_engines_agree_to_the_end(
    new_gtp: Callable[..., Table], board_size: int, most: int
) -> None:
    black = is_loath_to_pass(new_gtp("board", board_size, temperature=1.0))
    white = is_loath_to_pass(new_gtp("moves", board_size, temperature=1.0))
    plies = play_out(black.ask, white.ask, board_size, 6.5, most)
    assert plies > most // 2 and black.session.moves == white.session.moves
    assert int(black.session.engine.captured.min()) > 5
    assert black.ask("showboard").split("komi")[0] == white.ask("showboard").split("komi")[0]
    for line in ("final_score", "final_status_list dead", "final_status_list alive"):
        assert black.ask(line) == white.ask(line)
    for _ in range(plies):
        black.ask("undo")
    assert not black.session.stones.any()


def gnugo_with(*options: str) -> Iterator[Ask]:
    """GNU Go with these options."""
    if GNUGO is None:
        pytest.skip("GNU Go is not installed (Debian's package gnugo)")
    command = [GNUGO, "--mode", "gtp", "--level", "1", "--seed", "1", "--chinese-rules"]
    command += ["--positional-superko", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:

        def ask(line: str) -> str:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
            said = []
            while text := process.stdout.readline().rstrip("\n"):
                said.append(text)
            answer = "\n".join(said)
            assert answer.startswith("="), f"{line}: {answer}"
            return answer[1:].strip()

        yield ask
        ask("quit")


@pytest.fixture
def gnugo() -> Iterator[Ask]:
    """GNU Go, which captures what is dead before it passes."""
    yield from gnugo_with("--capture-all-dead", "--play-out-aftermath")


@pytest.fixture
def gnugo_that_passes() -> Iterator[Ask]:
    """GNU Go, which leaves dead stones on the board, as people do."""
    yield from gnugo_with()


def assert_scored_alike(table: Table, gnugo: Ask) -> None:
    theirs, ours = gnugo("final_score"), table.ask("final_score")
    assert (theirs[0], float(theirs[2:])) == (ours[0], float(ours[2:]))


@pytest.mark.parametrize("is_black", [True, False])
def test_a_game_against_gnu_go_is_legal_and_scored_alike(
    gnugo: Ask, new_gtp: Callable[..., Table], is_black: bool
) -> None:
    table = is_loath_to_pass(new_gtp("board", 9, temperature=1.0))
    players = (table.ask, gnugo) if is_black else (gnugo, table.ask)
    assert 40 < play_out(*players, 9, 7.5, 400) < 400
    assert_scored_alike(table, gnugo)


def test_gnu_go_opens_what_is_written_of_a_game(
    gnugo: Ask, new_gtp: Callable[..., Table], tmp_path: Path
) -> None:
    record = play_games("rules", range(5, 6), seed=0, board_size=9)
    moves = record.moves[0, : int(record.lengths[0])].tolist()
    table = new_gtp("board", 9)
    maps = list(maps_of_session(table.session, moves))
    path = tmp_path / "game.sgf"
    path.write_bytes(write_sgf_maps(record_document(record, 0), maps))
    assert gnugo(f"loadsgf {path}") in ("black", "white")
    shown = table.ask("showboard").split()
    for colour, letter in (("black", "X"), ("white", "O")):
        assert len(stones(gnugo(f"list_stones {colour}"))) == shown.count(letter) > 5
    assert float(gnugo("get_komi")) == 7.5


@pytest.mark.slow  # two minutes
@pytest.mark.timeout(1200)
def test_a_large_game_against_gnu_go_is_legal_and_scored_alike(
    gnugo: Ask, new_gtp: Callable[..., Table]
) -> None:
    table = is_loath_to_pass(new_gtp("board", 19, temperature=1.0))
    assert 200 < play_out(gnugo, table.ask, 19, 7.5, 1200) < 1200
    assert_scored_alike(table, gnugo)


def stones(answer: str) -> set[str]:
    return set(answer.split())


def test_dead_stones_that_gnu_go_leaves_on_the_board_are_found(
    gnugo_that_passes: Ask, new_gtp: Callable[..., Table]
) -> None:
    table, gnugo = new_gtp("moves", 9), gnugo_that_passes
    gnugo("boardsize 9")
    begin_as_people_do(table, gnugo, 7)
    end_by_gnugo(table, gnugo)
    dead = stones(gnugo("final_status_list dead"))
    assert dead and stones(table.ask("final_status_list dead")) == dead
    assert_scored_alike(table, gnugo)


@pytest.mark.slow  # a minute
@pytest.mark.timeout(1200)
def test_finished_games_of_gnu_go_are_scored_as_it_scores_them(
    gnugo_that_passes: Ask, new_gtp: Callable[..., Table]
) -> None:
    gnugo, same, dead = gnugo_that_passes, [], 0
    for size, seeds in ((9, range(20)), (13, range(2)), (19, range(1))):
        gnugo(f"boardsize {size}")
        for seed in seeds:
            table = new_gtp("moves", size)
            begin_as_people_do(table, gnugo, seed)
            if end_by_gnugo(table, gnugo):
                theirs, ours = gnugo("final_score"), table.ask("final_score")
                same.append((theirs[0], float(theirs[2:])) == (ours[0], float(ours[2:])))
                dead += len(stones(gnugo("final_status_list dead")))
    assert len(same) > 15 and dead > 15
    assert sum(same) >= 0.9 * len(same), f"{sum(same)} of {len(same)}"


def begin_as_people_do(table: Table, gnugo: Ask, seed: int) -> None:
    """Six stones on points that are not on the edge, another six for each seed."""
    gnugo("clear_board")
    gnugo("komi 7.5")
    chance = random.Random(seed)
    inner = range(2, table.session.board_size - 2)
    points = chance.sample([(row, column) for row in inner for column in inner], 6)
    for ply, (row, column) in enumerate(points):
        vertex = table.session.vocabulary.vertex(row * table.session.board_size + column)
        for ask in (table.ask, gnugo):
            ask(f"play {'bw'[ply % 2]} {vertex}")


def end_by_gnugo(table: Table, gnugo: Ask) -> bool:
    """Let GNU Go play for both until both pass; False if it resigns."""
    while not table.session.is_over:
        colour = "bw"[table.session.turn]
        move = gnugo(f"genmove {colour}")
        if move.lower() == "resign":
            return False
        table.ask(f"play {colour} {move}")
    return True
