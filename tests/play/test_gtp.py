"""The Go Text Protocol, text in and text out: as programs drive it, and how its lines are read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tessera.go import play_out
from tests.play.conftest import OWNERS, Table

NewGtp = Callable[..., Table]


def variations(line: str) -> list[dict[str, str]]:
    """What Sabaki's parser makes of an analysis line: names and values, and the variation."""
    found = []
    for part in line.split("info ")[1:]:
        values, _, variation = part.strip().partition(" pv ")
        words = values.split()
        assert len(words) % 2 == 0
        found.append({**dict(zip(words[::2], words[1::2], strict=True)), "pv": variation})
    return found


# Programs at the other end.


def test_sabaki_starts_an_engine_follows_a_game_and_shows_the_map(new_gtp: NewGtp) -> None:
    table = new_gtp()
    assert table.say("0 name") == "=0 Tessera"
    assert table.say("1 version") == "=1 0.1"
    assert table.say("2 protocol_version") == "=2 2"
    commands = table.say("3 list_commands")[3:].split("\n")
    assert {"analyze", "lz-analyze", "kata-analyze", "genmove_analyze", "undo"} <= set(commands)
    for number, line in enumerate(("boardsize 9", "komi 6.5", "clear_board", "play B E5"), 4):
        assert table.say(f"{number} {line}") == f"={number}"
    answer = table.gtp.answer("8 analyze W 50")
    assert answer is not None and answer.interval_s == 0.5
    begin, line, end = answer.text.split("\n")
    assert (begin, end, answer.repeated, answer.end) == ("=8", "", line + "\n", "\n")
    moves = variations(line)
    # Every legal move, the likeliest first; with one win rate for all, and itself as what follows.
    outlook = table.session.outlook()
    vertices = [table.session.vocabulary.vertex(t) for t in outlook.legal.nonzero().flatten()]
    assert sorted(move["move"] for move in moves) == sorted(vertices)
    assert [int(move["order"]) for move in moves] == list(range(len(moves)))
    visits = [int(move["visits"]) for move in moves]
    assert visits == sorted(visits, reverse=True)
    assert abs(sum(visits) - 10_000) < len(moves)
    assert all(move["pv"] == move["move"] and move["prior"] == move["visits"] for move in moves)
    assert outlook.win is not None
    assert {move["winrate"] for move in moves} == {str(round(10_000 * outlook.win))}
    # Sabaki interrupts it so.
    assert table.say("9 protocol_version") == "=9 2"
    first, played = table.say("10 genmove_analyze W 50").split("\n", 1)
    assert first == "=10" and played.split("\n")[0].startswith("info move ")
    move = played.split("\n")[1].removeprefix("play ")
    assert table.session.moves[-1] == table.session.vocabulary.token(move)
    for number in (11, 12):
        assert table.say(f"{number} undo") == f"={number}"
    assert table.say("13 undo") == "?13 cannot undo"


def test_sabaki_sets_a_position_up_by_moves_of_one_colour(new_gtp: NewGtp) -> None:
    table = new_gtp()
    assert not table.ask("set_free_handicap C3 G7 C7")
    for line in ("play W E5", "play W E6", "play W pass", "play B E4", "play B D4"):
        assert not table.ask(line)
    board = table.ask("showboard")
    assert board.count("X") == 5 and board.count("O") == 2 + 1  # one says who is to move
    for _ in range(5):
        table.ask("undo")
    assert int(table.session.stones.sum()) == 3 and table.session.turn == 1
    assert table.refuse("undo") == "cannot undo"


def test_lizzie_numbers_its_commands_and_analyses_between_moves(new_gtp: NewGtp) -> None:
    table = new_gtp()
    script = ("name", "version", "boardsize 9", "komi 7.5", "time_settings 0 8 1", "clear_board")
    for number, line in enumerate(script, 1):
        assert table.say(f"{number} {line}").startswith(f"={number}")
    lines = []
    for number, line in enumerate(("lz-analyze 10", "play B C3", "lz-analyze 10", "undo"), 7):
        text = table.say(f"{number} {line}")
        assert text.startswith(f"={number}")
        if "analyze" in line:
            (info,) = text.split("\n")[1:]
            lines.append(info)
    for part in lines:  # Lizzie reads whole numbers
        assert all(move["winrate"].isdigit() for move in variations(part))
    assert lines[0] != lines[1]
    assert table.say("11 lz-analyze 10").split("\n")[1] == lines[0]
    assert table.say("12 lz-genmove_analyze B 10").split("\n")[2].startswith("play ")


def test_gogui_asks_what_there_is_and_draws_the_map(new_gtp: NewGtp) -> None:
    table = new_gtp()
    for line in ("protocol_version", "list_commands", "name", "version", "boardsize 9", "komi 6.5"):
        table.ask(line)
    offered = [line.split("/") for line in table.ask("gogui-analyze_commands").split("\n")]
    assert [(kind, command) for kind, _, command in offered] == [
        ("dboard", "tessera-map"),
        ("gfx", "tessera-map_percent"),
    ]
    table.ask("play b E5")
    rows = [[float(x) for x in row.split()] for row in table.ask("tessera-map").split("\n")]
    assert [len(row) for row in rows] == [9] * 9
    assert rows[4][4] == 0 and max(map(max, rows)) == 1 and min(map(min, rows)) >= 0
    drawn = dict(line.split(" ", 1) for line in table.ask("tessera-map_percent").split("\n"))
    assert set(drawn) <= {"INFLUENCE", "LABEL", "TEXT"}
    shades = drawn["INFLUENCE"].split()
    assert len(shades) == 2 * 80 and "E5" not in shades
    assert drawn["TEXT"].startswith("pass ") and "win" in drawn["TEXT"]


def test_a_model_without_an_outcome_says_nothing_of_the_end(new_gtp: NewGtp) -> None:
    table = new_gtp("moves")
    move = variations(table.ask("kata-analyze b 10"))[0]
    assert move["winrate"] == "0.500000" and "scoreLead" not in move
    assert "whiteWin NAN" in table.ask("kata-raw-nn 0")
    assert "winrate" not in table.ask("heatmap")
    assert "win" not in table.ask("tessera-map_percent")


# The map in other words.


def test_raw_network_tells_of_every_point_and_of_white(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    table.ask("play b C3")
    text = table.ask("kata-raw-nn 0")
    table.ask("play w pass")
    other = table.ask("kata-raw-nn 0")
    for told, sign in ((text, 1), (other, -1)):
        words = told.split()
        at = words.index("policy") + 1
        policy = words[at : at + 25]
        assert policy[12] == "NAN" and policy.count("NAN") == 1
        total = sum(float(x) for x in policy if x != "NAN") + float(words[-1])
        assert words[-2] == "policyPass" and total == pytest.approx(1, abs=1e-4)
        figures = dict(zip(words[0:10:2], words[1:10:2], strict=True))
        white = float(figures["whiteWin"])
        assert white + float(figures["whiteLoss"]) == pytest.approx(1)
        outlook = table.session.outlook()
        if sign < 0:  # black is to move now
            assert outlook.win == pytest.approx(1 - white, abs=1e-5)
            assert outlook.score == pytest.approx(-float(figures["whiteLead"]), abs=1e-5)


def test_the_heat_map_is_in_thousandths(new_gtp: NewGtp) -> None:
    table = new_gtp(board_size=5)
    *rows, passing, win = table.ask("heatmap").split("\n")
    told = [int(x) for row in rows for x in row.split()]
    chances = table.session.outlook().probabilities
    assert told == [round(1000 * float(chance)) for chance in chances[:25]]
    assert passing == f"pass: {round(1000 * float(chances[25]))}"
    assert win.startswith("winrate: 0.")


def test_an_analysis_can_be_limited(new_gtp: NewGtp) -> None:
    table = new_gtp()
    assert len(variations(table.ask("lz-analyze b 10 maxmoves 3"))) == 3
    for color, number in (("B", 80), ("W", 82)):
        line = f"kata-analyze b interval 5 avoid {color} D4,E5 10 ownership true"
        moves = [move["move"] for move in variations(table.ask(line))]
        assert len(moves) == number and ("D4" in moves) is (color == "W")
    only = table.ask("lz-analyze allow b D4,pass 1")
    assert {move["move"] for move in variations(only)} == {"D4", "pass"}
    table.ask("play b D4")
    assert table.say("5 lz-analyze w 1 allow w D4 1") == "=5"  # an illegal one is nothing to tell
    for wrong in ("x", "10 10", "b maxmoves", "b maxmoves -1", "avoid b D4", "avoid b Z9 1"):
        table.refuse(f"lz-analyze {wrong}")
    answers = [table.gtp.answer(f"lz-analyze {x}") for x in ("", "0", "1e9", "100.5")]
    assert [answer and answer.interval_s for answer in answers] == [1, 0.01, None, 1.005]


# What playouts tell.


def ownership_of(line: str) -> list[float]:
    return [float(owner) for owner in line.partition(" ownership ")[2].split()]


def white_ownership_of(text: str) -> list[float]:
    words = text.split()
    return [float(owner) for owner in words[words.index("whiteOwnership") + 1 :]]


@pytest.mark.parametrize("options", [{}, {"num_playouts": 20}])
def test_the_models_ownership_is_told_with_the_sign_that_each_command_has(
    new_gtp: NewGtp, options: dict[str, int]
) -> None:
    table = new_gtp(OWNERS, board_size=5, **options)
    table.play("C3 B2 D4")
    for sign in (-1, 1):  # white is to move, then black
        owned = table.session.outlook().ownership
        assert owned is not None and owned.abs().max() > 0.01
        blacks = pytest.approx(owned.flatten().tolist(), abs=1e-3)
        assert [
            sign * owner for owner in ownership_of(table.ask("kata-analyze ownership true"))
        ] == blacks
        assert [-owner for owner in white_ownership_of(table.ask("kata-raw-nn 0"))] == blacks
        rows = table.ask("tessera-ownership").split("\n")  # GoGui's: of black
        assert [len(row.split()) for row in rows] == [5] * 5
        assert [float(owner) for row in rows for owner in row.split()] == blacks
        colour = "bw"[table.session.turn]
        told = table.ask(f"kata-genmove_analyze {colour} 50 ownership true").split("\n")[0]
        assert [sign * owner for owner in ownership_of(told)] == blacks
    assert "ownership" not in table.ask("kata-analyze 10")
    # Of a colour out of turn it is what is expected once the other has passed.
    told = ownership_of(table.ask("kata-analyze b 10 ownership true"))
    assert table.session.turn == 1
    table.ask("play w pass")
    owned = table.session.outlook().ownership
    assert owned is not None and told == pytest.approx(owned.flatten().tolist(), abs=1e-3)


@pytest.mark.parametrize("kind", ["moves", "board"])
def test_playouts_tell_of_ownership_from_the_player_to_move(new_gtp: NewGtp, kind: str) -> None:
    table = new_gtp(kind, board_size=5, num_playouts=20)
    table.play("C5 D5 C4 D4 C3 D3 C2 D2 C1 D1")
    counted = play_out(table.session.engine, 20)
    black = table.ask("kata-analyze b 10 ownership true")
    owners = counted.ownership[0].flatten().tolist()
    assert ownership_of(black) == pytest.approx(owners, abs=1e-3)
    assert "ownership" not in table.ask("kata-analyze b 10 ownership false")
    assert "ownership" not in table.ask("lz-analyze b 10 ownership true")
    table.ask("play b pass")
    white = ownership_of(table.ask("kata-analyze ownership true"))
    theirs = play_out(table.session.engine, 20).ownership[0].flatten().tolist()
    assert white == pytest.approx([-owner for owner in theirs], abs=1e-3)
    told = white_ownership_of(table.ask("kata-raw-nn 0"))
    assert told == white and max(told) > 0.5 and min(told) < -0.5
    table.ask("undo")
    told = white_ownership_of(table.ask("kata-raw-nn 0"))
    assert told == pytest.approx([-owner for owner in owners], abs=1e-3)


def test_playouts_tell_who_wins_by_the_games_komi_if_the_model_does_not(new_gtp: NewGtp) -> None:
    for komi, sign in ((-30, 1), (30, -1)):
        table = new_gtp("moves", board_size=5, num_playouts=20)
        table.ask(f"komi {komi}")
        move = variations(table.ask("kata-analyze b 10 maxmoves 1"))[0]
        assert float(move["winrate"]) == (1 + sign) / 2
        score = float(play_out(table.session.engine, 20).scores) + table.session.rules.komi - komi
        assert float(move["scoreLead"]) == pytest.approx(score, abs=1e-3)
        assert move["scoreMean"] == move["scoreLead"] and score * sign > 0
        assert f"winrate: {(1 + sign) / 2:f}" in table.ask("heatmap")
        assert f"whiteWin {(1 - sign) / 2:f}" in table.ask("kata-raw-nn 0")
    model = new_gtp("board", board_size=5, num_playouts=20)
    win = model.session.outlook().win
    assert f"{win:.6f}" == variations(model.ask("kata-analyze b 10"))[0]["winrate"]


def test_without_playouts_nothing_is_told_of_ownership(new_gtp: NewGtp) -> None:
    for options in ({}, {"num_playouts": 0}):
        table = new_gtp(board_size=5, **options)
        assert "ownership" not in table.ask("kata-analyze b 10 ownership true")
        assert "whiteOwnership" not in table.ask("kata-raw-nn 0")
        assert "--playouts" in table.refuse("tessera-ownership")
        assert "ownership" not in table.ask("gogui-analyze_commands")
    for kind, options in ((OWNERS, {}), ("moves", {"num_playouts": 4})):
        table = new_gtp(kind, board_size=5, **options)
        assert "dboard/Whose each point will be/tessera-" in table.ask("gogui-analyze_commands")


# Lines.


@pytest.mark.parametrize("line", ["", "   ", "# remark", "\t", "\r", "\x00\x07", "  # 1 name"])
def test_empty_lines_and_remarks_are_not_answered(new_gtp: NewGtp, line: str) -> None:
    assert new_gtp("moves").gtp.answer(line) is None


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("name\r", "= Tessera"),
        ("\x01na\x02me", "= Tessera"),
        ("7\tname # remark", "=7 Tessera"),
        ("  007   name  ", "=007 Tessera"),
        (f"{'9' * 5000} name", f"={'9' * 5000} Tessera"),
        ("12", "?12 unknown command"),
        ("-1 name", "? unknown command"),
        ("NAME", "? unknown command"),
        ("known_command play", "= true"),
        ("known_command dance", "= false"),
        ("known_command", "= false"),
        ("é\u2028x", "? unknown command"),
        ("x" * 1_000_000, "? unknown command"),
    ],
)
def test_lines_are_read_as_the_protocol_says(new_gtp: NewGtp, line: str, answer: str) -> None:
    assert new_gtp("moves").say(line) == answer


def test_quit_is_answered_and_is_the_last(new_gtp: NewGtp) -> None:
    answer = new_gtp("moves").gtp.answer("5 quit")
    assert answer is not None and answer.text == "=5\n\n" and answer.is_last


def test_every_command_of_the_list_is_known_and_answers(new_gtp: NewGtp) -> None:
    table = new_gtp()
    for name in table.ask("list_commands").split("\n"):
        assert table.ask(f"known_command {name}") == "true"
        assert not table.say(name).startswith("? unknown command")


def test_a_model_that_fails_is_answered_with_a_question_mark(new_gtp: NewGtp) -> None:
    table = new_gtp("moves")
    with torch.no_grad():
        next(table.session.model.head.parameters()).fill_(torch.nan)
    for line in ("genmove w", "lz-analyze", "heatmap", "reg_genmove b", "place_free_handicap 20"):
        assert table.refuse(line) == "the model's probabilities are not finite."
