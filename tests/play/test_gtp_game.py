"""The Go Text Protocol, a game from its settings to its score: moves, handicap, the end, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sgfmill import sgf

from tests.play.conftest import Table

NewGtp = Callable[..., Table]


# Moves.


def test_colours_come_in_any_order_and_undo_goes_back_by_moves(new_gtp: NewGtp) -> None:
    table = new_gtp()
    start = table.look()
    script = ["play w C3", "play white D4", "play b E5", "genmove black", "play B pass"]
    seen = []
    for line in script:
        seen.append(table.look())
        table.ask(line)
    assert int(table.session.stones.sum()) == 0
    for before in reversed(seen):
        table.ask("undo")
        assert table.look() == before
    assert table.look() == start


def test_reg_genmove_and_analyses_play_nothing(new_gtp: NewGtp) -> None:
    table = new_gtp()
    table.ask("play b E5")
    before = table.look()
    likeliest = table.ask("reg_genmove w")
    for line in ("reg_genmove b", "lz-analyze b 1", "kata-raw-nn", "heatmap", "final_score"):
        table.ask(line)
    assert table.look() == before
    assert table.ask("genmove w") == likeliest


def test_moves_are_drawn_at_a_temperature(new_gtp: NewGtp) -> None:
    drawn = {}
    for temperature in (0, 1e-30, 1.0, 1000):
        table = new_gtp(board_size=5, temperature=temperature)
        moves = set()
        for _ in range(40):
            moves.add(table.ask("genmove b"))
            table.ask("undo")
        drawn[temperature] = moves
    assert drawn[0] == drawn[1e-30] and len(drawn[0]) == 1
    assert len(drawn[1.0]) > 1 and len(drawn[1000]) > 10
    again = new_gtp(board_size=5, temperature=1000)
    other = new_gtp(board_size=5, temperature=1000)
    assert [again.ask("genmove b") for _ in range(9)] == [other.ask("genmove b") for _ in range(9)]


def test_it_resigns_only_if_told_to(new_gtp: NewGtp) -> None:
    table = new_gtp(resign_below=0.999_999)
    before = table.look()
    assert table.ask("genmove w") == "resign"
    assert table.say("kata-genmove_analyze b 10").endswith("\nplay resign")
    assert table.look() == before
    assert new_gtp(resign_below=0.0).ask("genmove w") != "resign"
    assert new_gtp("moves", resign_below=1.0).ask("genmove b") != "resign"


def test_a_move_is_none_of_those_to_be_avoided(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    likeliest = table.ask("reg_genmove b")
    said = table.say(f"lz-genmove_analyze b 10 avoid b {likeliest} 1")
    assert not said.endswith(f"play {likeliest}")
    table.ask("undo")
    assert table.say("kata-genmove_analyze b 10 allow b C3 1").endswith("\nplay C3")
    assert table.say("kata-genmove_analyze w 10 allow w C3 1").endswith("\nplay pass")  # taken


def test_a_game_goes_on_after_two_passes(new_gtp: NewGtp) -> None:
    table = new_gtp()
    for line in ("play b E5", "play w pass", "play b pass", "play w D5", "play b D6"):
        table.ask(line)
    table.ask("genmove w")
    assert len(table.session.moves) == 6


def test_illegal_moves_say_why(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    assert table.refuse("play b F1") == (
        "invalid coordinate: vertex must be A1 to E5 or pass, got 'F1'."
    )
    assert table.refuse("play x A1") == "invalid color: it must be black or white"
    for line in ("play", "play b", "play b I1", "play b A0", "play b A6", "play b 11", "genmove"):
        table.refuse(line)
    table.play("B3 C3 A2 D2 B1 C1 C2 B2")
    assert table.refuse("play b C2") == (
        "illegal move: C2 repeats a position, which the model's rules forbid (ko positional)."
    )
    assert table.refuse("play w B2") == "illegal move: B2 is occupied."  # and black has not passed
    table.ask("play b A1")
    table.ask("play w E5")
    table.ask("play b C2")


def test_superko_and_suicide_are_illegal(new_gtp: NewGtp) -> None:
    table = new_gtp("moves", board_size=2)
    table.play("A1 B2 B1 A2 A1 B1")
    assert table.refuse("play b A1").startswith("illegal move: A1 repeats a position")
    table = new_gtp("moves", board_size=5)
    for line in ("play b A2", "play b B1"):
        table.ask(line)
    assert table.refuse("play w A1").startswith("illegal move: A1 is suicide")


def test_superko_holds_after_undo_and_after_what_only_looked_ahead(new_gtp: NewGtp) -> None:
    table = new_gtp("moves", board_size=2)
    table.play("A1 B2 B1 A2 A1 B1")
    for line in ("lz-analyze w 10", "reg_genmove w", "play b Z9"):
        table.say(line)
        assert table.refuse("play b A1").startswith("illegal move: A1 repeats a position")
    table.ask("play b pass")
    table.ask("undo")
    assert table.refuse("play b A1").startswith("illegal move: A1 repeats a position")


def test_an_analysis_for_the_other_colour_is_of_the_position_after_a_pass(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    table.ask("play b C3")
    own = table.ask("kata-analyze w 10")
    told, move = table.ask("kata-analyze b 10"), table.ask("reg_genmove b")
    table.ask("play w pass")
    assert told == table.ask("kata-analyze b 10") != own
    assert move == table.ask("reg_genmove b")


# Settings.


@pytest.mark.parametrize("size", ["0", "1", "8", "19", "26", "-9", "9" * 40, "x", "9.0", ""])
def test_only_the_models_board_is_accepted(new_gtp: NewGtp, size: str) -> None:
    table = new_gtp()
    table.ask("play b E5")
    said = table.refuse(f"boardsize {size}")
    if size.isdigit() and len(size) < 10:
        assert said == "unacceptable size: the model plays on 9×9 only"
    table.ask("boardsize 9")
    assert not table.session.moves


def test_komi_counts_at_the_end_alone(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    table.ask("play b C3")
    assert table.ask("final_score") == "B+17.5"  # by the model's own komi
    heat = table.ask("heatmap")
    for komi, score in (("0", "B+25"), ("25", "0"), ("-3.5", "B+28.5"), ("30.5", "W+5.5")):
        table.ask(f"komi {komi}")
        assert table.ask("final_score") == score
    assert table.ask("heatmap") == heat
    for komi in ("", "x", "nan", "inf", "-inf", "1e300"):
        table.refuse(f"komi {komi}")
    assert table.ask("final_score") == "W+5.5"


def test_times_are_taken(new_gtp: NewGtp) -> None:
    table = new_gtp()
    for line in ("time_settings 0 0 0", "time_settings 600 30 5", "time_left b 30 0"):
        assert not table.ask(line)
    for line in (
        "time_settings",
        "time_settings 1 2",
        "time_settings 1 2 x",
        "time_left 3 4",
        "time_left w",
        "time_left b -1 0",
    ):
        table.refuse(line)


# Handicap.


@pytest.mark.parametrize(
    ("size", "stones", "points"),
    [
        (19, 2, "D4 Q16"),
        (19, 5, "D4 Q16 D16 Q4 K10"),
        (19, 9, "D4 Q16 D16 Q4 D10 Q10 K4 K16 K10"),
        (13, 4, "D4 K10 D10 K4"),
        (9, 3, "C3 G7 C7"),
        (9, 8, "C3 G7 C7 G3 C5 G5 E3 E7"),
        (9, 7, "C3 G7 C7 G3 C5 G5 E5"),
        (7, 4, "C3 E5 C5 E3"),
        (8, 2, "C3 F6"),
    ],
)
def test_fixed_handicap_stands_where_the_protocol_says(
    new_gtp: NewGtp, size: int, stones: int, points: str
) -> None:
    table = new_gtp("moves", board_size=size)
    assert table.ask(f"fixed_handicap {stones}") == points
    assert table.session.turn == 1 and int(table.session.stones.sum()) == stones
    table.refuse("undo")
    assert table.refuse("fixed_handicap 2") == "board not empty"
    assert table.refuse("place_free_handicap 2") == "board not empty"
    assert table.refuse("set_free_handicap A1 B1") == "board not empty"


def test_handicap_is_refused_where_it_cannot_be(new_gtp: NewGtp) -> None:
    table = new_gtp("moves")
    for stones in ("", "x", "-1", "0", "1", "10"):
        table.refuse(f"fixed_handicap {stones}")
    for stones in ("", "1", "81", "82"):
        table.refuse(f"place_free_handicap {stones}")
    for points in ("", "C3", "C3 C3", "C3 pass", "C3 Z9"):
        table.refuse(f"set_free_handicap {points}")
    for size, stones in ((5, 2), (8, 5), (7, 5)):
        new_gtp("moves", board_size=size).refuse(f"fixed_handicap {stones}")


def test_free_handicap_begins_with_the_fixed_points(new_gtp: NewGtp) -> None:
    points = new_gtp().ask("place_free_handicap 12").split()
    assert " ".join(points[:9]) == "C3 G7 C7 G3 C5 G5 E3 E7 E5" and len(set(points)) == 12
    small = new_gtp(board_size=5)
    assert len(set(small.ask("place_free_handicap 6").split())) == 6
    assert int(small.session.stones.sum()) == 6 and small.session.turn == 1


# The end, and files.


def test_settled_points_count_before_area(new_gtp: NewGtp) -> None:
    table = new_gtp("moves", board_size=5, num_playouts=0)
    # Black lives with the eyes A1, C1 and E1; what white has left is open to both.
    table.play("A2 B2 C2 D2 E2 B1 D1", colours="b")
    table.ask("play w C4")
    assert table.ask("final_status_list alive") == "C4\nA2 B2 C2 D2 E2 B1 D1"
    assert table.ask("final_status_list dead") == table.ask("final_status_list seki") == ""
    assert table.ask("final_score") == f"B+{10 - 1 - 7.5:g}"
    # A wall on the fourth line, behind which two white stones are dead: they cannot make an eye.
    table.play("A3 B3 C3 D3 E3 A4 B4 D4 E4", colours="b")
    assert table.ask("final_status_list dead") == "C4"
    assert table.ask("final_score") == f"B+{25 - 7.5:g}"  # all is settled
    for wrong in ("", "x", "ALIVE"):
        table.refuse(f"final_status_list {wrong}")


def test_single_captures_are_scored_without_settled_points(new_gtp: NewGtp) -> None:
    table = new_gtp("moves", board_size=5, rules="phase2")
    table.ask("play b C3")
    assert table.ask("final_score") == "B+17.5"


def test_showboard_shows_stones_and_who_is_to_move(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    for line in ("play b A2", "play w A1", "play b B1"):
        table.ask(line)
    assert table.say("showboard").split("\n") == [
        "= ",
        "   A B C D E",
        " 5 . . . . . 5",
        " 4 . . . . . 4",
        " 3 . . . . . 3",
        " 2 X . . . . 2",
        " 1 . X . . . 1",
        "   A B C D E",
        "White (O) to move, komi 7.5, captured by black 1, by white 0",
    ]


def test_sgf_files_are_loaded_up_to_a_move(new_gtp: NewGtp, tmp_path: Path) -> None:
    table = new_gtp(board_size=5)
    file = tmp_path / "a game.sgf"
    file.write_text("(;SZ[5]KM[3];B[cc];W[bb](;B[dd])(;B[aa]))")
    assert table.ask(f"loadsgf {file}") == "white"
    assert [table.session.vocabulary.vertex(t) for t in table.session.moves] == ["C3", "B4", "D2"]
    for number, moves in ((1, 0), (2, 1), (3, 2), (9, 3), (0, 0)):
        table.ask(f"loadsgf {file} {number}")
        assert len(table.session.moves) == moves
    table.ask("loadsgf " + str(file))
    for _ in range(3):
        table.ask("undo")
    table.refuse("undo")


def test_sgf_files_that_cannot_be_loaded_leave_the_game(new_gtp: NewGtp, tmp_path: Path) -> None:
    table = new_gtp(board_size=5)
    table.ask("play b C3")
    contents = {
        "none": b"no game",
        "size": b"(;SZ[9];B[aa])",
        "illegal": b"(;SZ[5];B[aa];W[bb];B[aa])",
        "setup": b"(;SZ[5]AB[aa][zz];W[cc])",
        "torn": b"(;SZ[5];B[aa]",
        "empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.sgf").write_bytes(content)
        assert table.refuse(f"loadsgf {tmp_path / name}.sgf").startswith("cannot load file: ")
    for name in ("", f"{tmp_path}", f"{tmp_path}/missing.sgf", "n" * 5000):
        table.refuse(f"loadsgf {name}")
    said = table.refuse(f"loadsgf {tmp_path / 'illegal.sgf'}")
    assert said == "cannot load file: move 3: A5 is occupied."


def test_positions_that_are_set_up_are_loaded_and_the_answer_says_so(
    new_gtp: NewGtp, tmp_path: Path
) -> None:
    table = new_gtp(board_size=5)
    file = tmp_path / "a.sgf"
    file.write_text("(;SZ[5]KM[3]AB[bb]AW[dd]PL[W];W[cc];B[dc];AE[bb]AB[ee];B[aa])")
    said = ", a position that was set up: the model is not told what was played before"
    for number, colour, stones, moves in (
        (1, "white", {"B4": 1, "D2": -1}, 0),
        (3, "black", {"D2": -1, "C3": -1, "D3": 1, "E1": 1}, 0),
        (9, "white", {"D2": -1, "C3": -1, "D3": 1, "E1": 1, "A5": 1}, 1),
        (2, "black", {"B4": 1, "D2": -1, "C3": -1}, 1),
    ):
        assert table.ask(f"loadsgf {file} {number}") == colour + said
        assert table.ask("showboard").endswith(said[2:])
        found = table.session.stones.flatten().tolist()
        vertex = table.session.vocabulary.vertex
        assert {vertex(p): stone for p, stone in enumerate(found) if stone} == stones
        assert len(table.session.moves) == moves
    assert table.gtp.game.komi == 3
    table.ask("undo")
    table.refuse("undo")
    table.ask("genmove w")
    blind = new_gtp("moves", board_size=5)
    assert blind.refuse(f"loadsgf {file}") == (
        "cannot load file: a position is set up, and the model reads moves and does not see a "
        "board (model.features board does), so it can only follow a game from its beginning."
    )


@pytest.mark.parametrize("kind", ["board", "moves"])
def test_handicap_stones_of_a_file_are_those_of_the_protocol(
    new_gtp: NewGtp, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "a.sgf"
    file.write_text("(;SZ[9]HA[3]KM[0.5]AB[cc][gc][cg];W[ee])")
    table = new_gtp(kind)
    assert table.ask(f"loadsgf {file}") == "black"
    other = new_gtp(kind)
    other.ask("fixed_handicap 3")
    other.ask("play w E5")
    assert table.session.moves == other.session.moves and table.gtp.game.komi == 0.5
    assert table.ask("heatmap") == other.ask("heatmap")
    table.ask("undo")
    assert table.refuse("undo") == "cannot undo"
    assert int(table.session.stones.sum()) == 3 and table.session.turn == 1


def test_the_game_is_printed_and_written_as_sgf(new_gtp: NewGtp, tmp_path: Path) -> None:
    table = new_gtp(board_size=5)
    for line in ("komi 3.5", "play b C3", "genmove w", "play w A1", "play b pass", "play w pass"):
        table.ask(line)
    before = table.look()
    printed = table.ask("printsgf")
    document = sgf.Sgf_game.from_string(printed)
    root = document.get_root()
    assert root.get("KM") == 3.5 and root.get("PW") == "tessera" and not root.has_property("PB")
    assert root.get("RE") == table.ask("final_score")
    file = tmp_path / "a game.sgf"
    assert table.ask(f"printsgf {file}") == "" and file.read_text().rstrip() == printed
    assert table.look() == before
    other = new_gtp(board_size=5)
    other.ask(f"loadsgf {file}")
    assert other.session.moves == table.session.moves and other.gtp.game.komi == 3.5
    table.ask("undo")
    assert "RE[" not in table.ask("printsgf")
    for name in (tmp_path, f"{tmp_path}/none/a.sgf", "n" * 5000):
        assert table.refuse(f"printsgf {name}").startswith("cannot write file: ")
    table.ask("clear_board")
    assert "PW" not in table.ask("printsgf")


def test_a_game_from_a_position_that_was_set_up_is_written_with_it(
    new_gtp: NewGtp, tmp_path: Path
) -> None:
    table, other = new_gtp(board_size=5), new_gtp(board_size=5)
    file = tmp_path / "a.sgf"
    file.write_text("(;SZ[5]AB[bb]AW[dd]PL[W];W[cc];B[dc])")
    table.ask(f"loadsgf {file}")
    file.write_text(table.ask("printsgf"))
    assert other.ask(f"loadsgf {file}").startswith("white, a position that was set up")
    assert table.session.stones.equal(other.session.stones)
    assert table.session.moves == other.session.moves
