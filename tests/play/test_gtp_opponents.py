"""Whole games through the protocol: legal to the end for both, and scored alike."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
import torch

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


@pytest.mark.parametrize(("board_size", "most"), [(9, 200), (19, 500)])
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


@pytest.fixture
def gnugo() -> Iterator[Ask]:
    """GNU Go, which captures what is dead before it passes."""
    if GNUGO is None:
        pytest.skip("GNU Go is not installed (Debian's package gnugo)")
    command = [GNUGO, "--mode", "gtp", "--level", "1", "--seed", "1", "--chinese-rules"]
    command += ["--positional-superko", "--capture-all-dead", "--play-out-aftermath"]
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


@pytest.mark.parametrize("is_black", [True, False])
def test_a_game_against_gnu_go_is_legal_and_scored_alike(
    gnugo: Ask, new_gtp: Callable[..., Table], is_black: bool
) -> None:
    table = is_loath_to_pass(new_gtp("board", 9, temperature=1.0))
    players = (table.ask, gnugo) if is_black else (gnugo, table.ask)
    assert 40 < play_out(*players, 9, 7.5, 400) < 400
    assert float(gnugo("final_score")[2:]) == float(table.ask("final_score")[2:])
    assert gnugo("final_score")[0] == table.ask("final_score")[0]
