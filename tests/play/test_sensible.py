"""Sensible moves: no eyes are filled, and nobody who is behind passes before the end."""

from __future__ import annotations

import torch

from tessera.go import GPUGoEngine, Rules
from tessera.go.players import get_player
from tessera.go.randomness import MOVE, random_words
from tessera.play.sensible import sensible_moves

SIZE = 5
RULES = Rules(komi=0.5, max_moves=120)


def at(text: str, turn: int, rules: Rules = RULES) -> GPUGoEngine:
    """One game on a board of X, O and points."""
    rows = text.split()
    boards = torch.tensor([[[[c == colour for c in row] for row in rows] for colour in "XO"]])
    engine = GPUGoEngine(1, "cpu", len(rows), rules)
    engine.set_position(boards, torch.tensor([turn]))
    return engine


def vertices(engine: GPUGoEngine) -> set[str]:
    moves = sensible_moves(engine)[0].nonzero().flatten().tolist()
    last = engine.vocabulary.pass_token
    return {"pass" if move == last else engine.vocabulary.vertex(move) for move in moves}


def test_a_new_board_is_white_s_to_pass_and_not_black_s() -> None:
    # Komi alone decides an empty board.
    empty = "..... " * 5
    assert "pass" not in vertices(at(empty, 0)) and len(vertices(at(empty, 0))) == 25
    assert "pass" in vertices(at(empty, 1))


def test_nobody_passes_a_draw() -> None:
    drawn = Rules(komi=0.0, max_moves=120)
    assert all("pass" not in vertices(at("..... " * 5, turn, drawn)) for turn in (0, 1))


def test_only_its_owner_plays_where_all_is_settled() -> None:
    # No point of B3 and C3 is an eye yet, and white could live in neither.
    board = ".X.XO XXXXO X..XO XXXXO OOOO."
    assert vertices(at(board, 1)) == {"pass"}
    assert vertices(at(board, 0)) == {"B3", "C3", "E1", "pass"}


def test_nobody_fills_an_eye_or_plays_where_the_other_has_settled() -> None:
    # Two eyes settle what is black's, 12 points; the first line is white's as long as it is empty.
    board = ".X.XO XXXXO XXXXO OOOOO ....."
    black, white = vertices(at(board, 0)), vertices(at(board, 1))
    assert not {"A5", "C5"} & (black | white)
    first_line = {f"{column}1" for column in "ABCDE"}
    assert black == first_line and white == first_line | {"pass"}


def test_who_is_behind_passes_once_nothing_is_left() -> None:
    board = ".XXXX XXXXX XXXXX XXXXX XXX.X"
    assert vertices(at(board, 1)) == {"pass"}
    assert vertices(at(board, 0)) == {"pass"}


def test_random_games_of_sensible_moves_end_and_not_at_once() -> None:
    engine = GPUGoEngine(64, "cpu", SIZE, RULES)
    numbers = torch.arange(64)
    for ply in range(RULES.max_moves or 0):
        allowed = sensible_moves(engine)
        assert allowed.any(1).all()
        words = random_words(0, numbers, ply, MOVE)
        draws = random_words(1, words.unsqueeze(1) + torch.arange(26), ply, MOVE)
        engine.play_batch(draws.masked_fill(~allowed, -(2**63)).argmax(1))
        assert not (engine.is_game_over() & (engine.move_number < 8)).any()
    assert engine.is_game_over().all()
    assert (engine.passes >= 2).float().mean() > 0.9


def test_the_rule_based_player_plays_sensibly_but_where_points_are_settled() -> None:
    engine, player = GPUGoEngine(16, "cpu", SIZE, RULES), get_player("rules")
    numbers = torch.arange(16)
    for ply in range(12):
        moves = player.choose(engine, random_words(0, numbers, ply, MOVE)).moves
        assert sensible_moves(engine).gather(1, moves.unsqueeze(1)).all()
        engine.play_batch(moves)
