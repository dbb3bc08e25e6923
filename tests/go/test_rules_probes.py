"""Beasts of the rules, one at a time, written as a person would play them."""

from __future__ import annotations

import pytest
import torch

from tessera.go import GPUGoEngine, IllegalMoveError, Rules
from tests.go.positions import engine_at, is_legal, picture, planes, play

KO_RULES = ["simple", "positional", "situational"]


def new_game(size: int, rules: str | Rules = "full", games: int = 1) -> GPUGoEngine:
    return GPUGoEngine(games, device="cpu", board_size=size, rules=rules)


# Ko and superko.


@pytest.mark.parametrize("ko", KO_RULES)
def test_a_ko_may_be_retaken_after_two_passes_under_simple_ko_only(ko: str) -> None:
    engine = new_game(5, Rules(ko=ko))
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3")
    assert engine.captured.tolist() == [[1, 0]]
    assert not is_legal(engine, "C3")
    play(engine, "pass", "pass")
    assert is_legal(engine, "C3") is (ko == "simple")


@pytest.mark.parametrize("ko", KO_RULES)
def test_a_ko_may_be_retaken_after_an_exchange_elsewhere(ko: str) -> None:
    engine = new_game(5, Rules(ko=ko))
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3", "E5", "A5")
    play(engine, "C3")
    assert engine.captured.tolist() == [[1, 1]]
    assert not is_legal(engine, "D3")


@pytest.mark.parametrize("ko", KO_RULES)
def test_sending_two_returning_one_is_illegal_under_positional_superko_only(ko: str) -> None:
    engine = new_game(5, Rules(ko=ko))
    play(engine, "A2", "C2", "B2", "D1", "E5", "B1", "E4", "A1", "C1")
    assert engine.captured.tolist() == [[2, 0]]
    assert is_legal(engine, "B1") is (ko != "positional")


WHITE_HOLDS = ".XO...... XO.O..... .XO......"
BLACK_HOLDS = ".XO...... X.XO..... .XO......"


@pytest.mark.parametrize("ko", KO_RULES)
def test_the_sixth_move_round_a_triple_ko_is_illegal_under_superko(ko: str) -> None:
    board = f"{WHITE_HOLDS} {BLACK_HOLDS} {WHITE_HOLDS}"
    engine = engine_at(board, rules=Rules(ko=ko))
    play(engine, "C8", "B5", "C2", "B8", "C5")
    assert engine.captured.tolist() == [[3, 2]]
    assert is_legal(engine, "B2") is (ko == "simple")
    if ko == "simple":
        play(engine, "B2")
        assert picture(engine) == board


@pytest.mark.parametrize("ko", KO_RULES)
def test_snapback_retakes_at_once_more_stones_than_were_taken(ko: str) -> None:
    engine = engine_at("X..O. XXXO. OOO.. ..... .....", turn=1, rules=Rules(ko=ko))
    play(engine, "B5", "C5")
    assert engine.captured.tolist() == [[1, 0]]
    play(engine, "B5")
    assert engine.captured.tolist() == [[1, 5]]
    assert picture(engine) == ".O.O. ...O. OOO.. ..... ....."


def test_two_single_stones_captured_at_once_leave_no_ko() -> None:
    # White's answers are suicides, which these rules allow; a ko point would forbid one of them.
    rules = Rules(ko="simple", suicide=True)
    engine = engine_at(".X.X. XO.OX .X.X. ..X.. .....", rules=rules)
    play(engine, "C5", "A1", "C3", "A2")
    assert engine.captured.tolist() == [[0, 0]]
    play(engine, "C4")
    assert engine.captured.tolist() == [[2, 0]]
    assert is_legal(engine, "B4")
    assert is_legal(engine, "D4")


# Captures and suicide.


def test_captures_come_before_suicide() -> None:
    engine = engine_at(".XO XO. ..O", turn=1)
    play(engine, "A3")
    assert picture(engine) == "O.O XO. ..O"
    assert engine.captured.tolist() == [[0, 1]]
    assert not is_legal(engine, "B3")


@pytest.mark.parametrize("ko", KO_RULES)
def test_suicide_of_two_stones_is_legal_only_where_the_rules_allow_it(ko: str) -> None:
    board = ".OX XX. ..."
    assert not is_legal(engine_at(board, turn=1, rules=Rules(ko=ko)), "A3")
    engine = engine_at(board, turn=1, rules=Rules(ko=ko, suicide=True))
    play(engine, "A3")
    assert picture(engine) == "..X XX. ..."
    assert engine.captured.tolist() == [[2, 0]]
    assert engine.turn.tolist() == [0]


@pytest.mark.parametrize("ko", KO_RULES)
def test_suicide_of_one_stone_repeats_the_position_and_so_falls_to_positional_superko(
    ko: str,
) -> None:
    board = ".X. X.. ..."
    assert not is_legal(engine_at(board, turn=1, rules=Rules(ko=ko)), "A3")
    engine = engine_at(board, turn=1, rules=Rules(ko=ko, suicide=True))
    assert is_legal(engine, "A3") is (ko != "positional")
    if ko != "positional":
        play(engine, "A3")
        assert picture(engine) == board
        assert engine.captured.tolist() == [[1, 0]]


@pytest.mark.parametrize("ko", ["simple", "situational"])
def test_the_suicide_of_one_stone_is_a_pass_that_does_not_count_as_one(ko: str) -> None:
    engine = engine_at(".X. X.. ...", turn=1, rules=Rules(ko=ko, suicide=True))
    play(engine, "A3", "pass")
    # Under situational superko black has been to move in this position already.
    assert is_legal(engine, "A3") is (ko == "simple")
    if ko == "simple":
        play(engine, "A3", "pass", "A3")
        assert not engine.is_game_over().item()
        play(engine, "pass", "pass")
        assert engine.is_game_over().item()


def test_presets_differ_in_suicide() -> None:
    board = ".OX XX. ..."
    assert not is_legal(engine_at(board, turn=1, rules="full"), "A3")
    assert is_legal(engine_at(board, turn=1, rules="tromp-taylor"), "A3")


def test_on_a_full_board_but_one_point_only_the_capture_is_legal() -> None:
    board = "XXXXX XXXXX XX.XX XXXXX XXXXX"
    assert not is_legal(engine_at(board, turn=0), "C3")
    engine = engine_at(board, turn=1)
    play(engine, "C3")
    assert picture(engine) == "..... ..... ..O.. ..... ....."
    assert engine.captured.tolist() == [[0, 24]]
    allowed = engine_at(board, turn=0, rules="tromp-taylor")
    play(allowed, "C3")
    assert picture(allowed) == "..... ..... ..... ..... ....."
    assert allowed.captured.tolist() == [[0, 25]]


def test_one_move_captures_chains_on_all_four_sides() -> None:
    engine = engine_at("XXOXX XXOXX OO.OO XXOXX XXOXX", turn=0)
    play(engine, "C3")
    assert engine.captured.tolist() == [[8, 0]]
    assert picture(engine) == "XX.XX XX.XX ..X.. XX.XX XX.XX"


# How a game ends, and what happens to it then.


@pytest.mark.parametrize("size", [2, 9, 19])
def test_two_passes_at_once_end_the_game_and_white_wins_by_komi(size: int) -> None:
    engine = new_game(size, Rules(komi=6.5))
    play(engine, "pass")
    assert not engine.is_game_over().item()
    play(engine, "pass")
    assert engine.is_game_over().item()
    assert engine.score().tolist() == [-6.5]
    assert not engine.ownership().any()
    assert engine.history[0, :3].tolist() == [size**2, size**2, size**2 + 1]


def test_passes_with_a_move_between_them_do_not_end_the_game() -> None:
    engine = new_game(5)
    play(engine, "pass", "C3", "pass", "C4", "pass")
    assert not engine.is_game_over().item()


def test_the_move_limit_ends_the_game() -> None:
    engine = new_game(5, Rules(max_moves=3))
    assert engine.history.shape == (1, 3)
    play(engine, "A1", "B1")
    assert not engine.is_game_over().item()
    play(engine, "C1")
    assert engine.is_game_over().item()
    assert new_game(9).max_moves == 162


def test_finished_games_ignore_moves_and_the_others_go_on() -> None:
    engine = new_game(5, games=2)
    to_pass, a1, b1 = (engine.vocabulary.token(name) for name in ("pass", "A1", "B1"))
    engine.play_batch(torch.tensor([to_pass, a1]))
    engine.play_batch(torch.tensor([to_pass, b1]))
    before = (engine.boards[0].clone(), engine.history[0].clone(), engine.turn[0].clone())
    for move, other in ((a1, 2), (to_pass, 3), (24, 4)):
        engine.play_batch(torch.tensor([move, other]), check=True)
    after = (engine.boards[0], engine.history[0], engine.turn[0])
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert engine.move_number.tolist() == [2, 5]
    assert engine.is_game_over().tolist() == [True, False]


@pytest.mark.parametrize("ko", KO_RULES)
def test_the_mask_of_a_finished_game_stays_as_it_was(ko: str) -> None:
    engine = new_game(5, Rules(ko=ko), games=2)
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3")
    token = engine.vocabulary.token
    for vertex in ("A5", "B5"):
        engine.play_batch(torch.tensor([token("pass"), token(vertex)]))
    mask = engine.get_legal_mask()[0]
    assert bool(mask[token("C3")]) is (ko == "simple")
    for vertex in ("C5", "D5", "E5"):
        engine.play_batch(torch.tensor([token("pass"), token(vertex)]))
        assert torch.equal(engine.get_legal_mask()[0], mask)


@pytest.mark.parametrize("ko", KO_RULES)
def test_a_ko_taken_at_the_move_limit_stays_a_ko(ko: str) -> None:
    engine = new_game(5, Rules(ko=ko, max_moves=9), games=2)
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3")
    assert engine.is_game_over().all()
    for _ in range(3):
        assert not is_legal(engine, "C3")
        play(engine, "A5")


def test_an_illegal_move_is_refused_by_game_and_vertex_and_changes_nothing() -> None:
    engine = new_game(19, games=3)
    q16, d4, j10 = (engine.vocabulary.token(name) for name in ("Q16", "D4", "J10"))
    engine.play_batch(torch.tensor([d4, q16, j10]))
    before = engine.boards.clone()
    with pytest.raises(IllegalMoveError, match=r"game 1\b.*\bQ16\b"):
        engine.play_batch(torch.tensor([q16, q16, q16]), check=True)
    with pytest.raises(IllegalMoveError, match=r"game 2\b.*\b362\b"):
        engine.play_batch(torch.tensor([q16, d4, 362]), check=True)
    assert torch.equal(engine.boards, before)
    assert engine.move_number.tolist() == [1, 1, 1]
    assert issubclass(IllegalMoveError, ValueError)


def test_ko_is_refused_by_the_check() -> None:
    engine = new_game(5)
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3")
    with pytest.raises(IllegalMoveError, match=r"game 0\b.*\bC3\b"):
        play(engine, "C3")


# New games and given positions.


@pytest.mark.parametrize("ko", KO_RULES)
def test_reset_begins_a_new_game_where_the_mask_is_true_and_only_there(ko: str) -> None:
    engine = new_game(5, Rules(ko=ko), games=2)
    moves = ("B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3")
    play(engine, *moves)
    kept = engine.boards[0].clone()
    engine.reset(torch.tensor([False, True]))
    assert torch.equal(engine.boards[0], kept)
    assert picture(engine, 1) == "..... ..... ..... ..... ....."
    assert engine.move_number.tolist() == [9, 0]
    assert engine.turn.tolist() == [1, 0]
    assert engine.captured.tolist() == [[1, 0], [0, 0]]
    assert engine.history[1].eq(engine.vocabulary.pad_token).all()
    # The first game still remembers its ko, and the second has forgotten its positions.
    assert not is_legal(engine, "C3", game=0)
    assert engine.get_legal_mask()[1].all()
    engine.reset()
    play(engine, *moves)
    assert torch.equal(engine.boards[1], kept)


def test_reset_reopens_a_finished_game() -> None:
    engine = new_game(5)
    play(engine, "pass", "pass")
    engine.reset()
    assert not engine.is_game_over().item()
    play(engine, "pass", "C3")
    assert picture(engine) == "..... ..... ..O.. ..... ....."


@pytest.mark.parametrize("ko", KO_RULES)
def test_the_position_a_game_starts_from_may_not_return(ko: str) -> None:
    board = ".XO.. X.XO. .XO.. ..... ....."
    engine = engine_at(board, turn=1, rules=Rules(ko=ko))
    play(engine, "B4", "A1", "B1")
    assert is_legal(engine, "C4")  # with the stones on A1 and B1 it is another position
    engine = engine_at(board, turn=1, rules=Rules(ko=ko))
    play(engine, "B4", "pass", "pass")
    assert is_legal(engine, "C4") is (ko == "simple")


def test_capture_stones_removes_only_the_opponents_dead_chains() -> None:
    boards = torch.cat([planes("OOX XX. ..."), planes("XXO OO. ..."), planes("... .O. ...")])
    engine = new_game(3, games=3)
    engine.set_position(boards, torch.tensor([0, 0, 0]))
    assert engine.capture_stones().tolist() == [2, 0, 0]
    assert [picture(engine, game) for game in range(3)] == [
        "..X XX. ...",
        "XXO OO. ...",
        "... .O. ...",
    ]
    assert engine.captured.tolist() == [[2, 0], [0, 0], [0, 0]]
    engine.set_position(boards, torch.tensor([1, 1, 1]))
    assert engine.capture_stones().tolist() == [0, 2, 0]
    assert engine.captured.tolist() == [[0, 0], [0, 2], [0, 0]]


def test_set_position_changes_only_the_chosen_games() -> None:
    engine = new_game(3, games=2)
    play(engine, "B2")
    boards = planes("XXX ... OOO").expand(2, -1, -1, -1)
    engine.set_position(boards, torch.tensor([1, 1]), torch.tensor([False, True]))
    assert picture(engine, 0) == "... .X. ..."
    assert picture(engine, 1) == "XXX ... OOO"
    assert engine.move_number.tolist() == [1, 0]
    two_planes = planes("X.. ... ...")[:, :2].expand(2, -1, -1, -1)
    engine.set_position(two_planes, torch.tensor([0, 1]))
    assert engine.turn.tolist() == [0, 1]
    assert picture(engine, 0) == "X.. ... ..."


def test_two_stones_on_one_point_are_refused() -> None:
    boards = torch.ones(1, 2, 5, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="one point"):
        new_game(5).set_position(boards, torch.tensor([0]))


# The design's second phase: only single stones are captured.


def test_phase2_captures_single_stones_and_leaves_chains_on_the_board() -> None:
    single = engine_at("OX. ... ...", turn=0, rules="phase2")
    play(single, "A2")
    assert picture(single) == ".X. X.. ..."
    assert single.captured.tolist() == [[1, 0]]
    chain = engine_at("OOX .X. ...", turn=0, rules="phase2")
    play(chain, "A2")
    assert picture(chain) == "OOX XX. ..."
    assert chain.captured.tolist() == [[0, 0]]
    assert engine_at("OOX XX. ...", rules="phase2").capture_stones().tolist() == [0]
    assert engine_at("OX. X.. ...", rules="phase2").capture_stones().tolist() == [1]


def test_phase2_forbids_the_suicide_of_a_single_stone_only() -> None:
    assert not is_legal(engine_at(".X. X.. ...", turn=1, rules="phase2"), "A3")
    assert is_legal(engine_at(".OX XX. ...", turn=1, rules="phase2"), "A3")


def test_phase2_has_simple_ko() -> None:
    engine = new_game(5, "phase2")
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3", "D3")
    assert not is_legal(engine, "C3")
    play(engine, "pass", "pass")
    assert is_legal(engine, "C3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"board_size": 1}, "2 to 19, got 1"),
        ({"board_size": 25}, "2 to 19, got 25"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"rules": "japanese"}, "got japanese"),
        ({"backend": "cobol"}, "got cobol"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPUGoEngine(**{"batch_size": 1, "device": "cpu", **arguments})
