"""What the page is told: the same as everywhere else, and nobody waits for others."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sgfmill import sgf

from tessera.commands.board.answers import Answers, Busy
from tessera.go import NotWanted
from tessera.play.map import played_out, position_map
from tessera.play.sgf import read_sgf
from tessera.play.sgf_session import lead_to
from tests.commands.board.conftest import NewSite, Site

MOVES = ["C3", "B2", "pass", "D4"]


def follow(site: Site, moves: list[str]):
    session = site.companion.session()
    for vertex in moves:
        session.play(session.vocabulary.token(vertex))
    return session


@pytest.mark.parametrize("kind", ["board", "moves"])
def test_the_map_is_that_of_every_other_command(new_site: NewSite, kind: str) -> None:
    site = new_site(kind)
    session, more = site.companion.session(), {"is_over": False, "result": None}
    for number in range(5):
        expected = position_map(session)
        more |= {"title": expected.title(), "last_move": [None, *MOVES][number]}
        assert site.ask("map", moves=MOVES[:number]) == {**expected.as_json(), **more}
        session.play(session.vocabulary.token([*MOVES, "E5"][number]))
    settings = json.loads(site.send("GET", site.path + "settings")[2])
    assert settings["board_size"] == 5 and settings["has_outcome"] == (kind == "board")


def test_a_game_that_is_over_has_a_result_and_can_go_on(site: Site) -> None:
    over = site.ask("map", moves=["C3", "pass", "pass"])
    assert over["is_over"] and over["result"] == 17.5
    # As they stand two lone stones leave nobody a point beside them.
    line = ["C3", "A5", "B3", "pass", "D3", "pass", "pass"]
    played = site.ask("playouts", moves=line, num_games=20)
    assert site.ask("map", moves=line)["result"] == 17.5 == -played["score"]
    assert not site.ask("map", moves=["C3", "pass", "pass", "A1"])["is_over"]


def test_playouts_are_those_of_the_map_command(site: Site) -> None:
    found = site.ask("playouts", moves=MOVES, num_games=20)
    assert found == played_out(follow(site, MOVES), 20).as_json()


def test_the_model_plays_what_its_map_says(site: Site) -> None:
    chances = site.ask("map", moves=MOVES)["probabilities"]
    likeliest = max(chances, key=lambda vertex: chances[vertex])
    assert {site.ask("move", moves=MOVES)["move"] for _ in range(5)} == {likeliest}
    drawn = [site.ask("move", moves=MOVES, temperature=1000)["move"] for _ in range(30)]
    assert len(set(drawn)) > 5 and set(drawn) <= set(chances)


def test_lines_do_not_disturb_each_other(site: Site) -> None:
    lines = [MOVES[:number] for number in range(5)] + [["A1", *MOVES[1:]], ["E5"]]
    alone = [site.ask("map", moves=line) for line in lines]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda line: site.ask("map", moves=line), lines * 4))
    assert together == alone * 4


def test_a_game_is_saved_with_its_variations_and_loaded_again(site: Site) -> None:
    tree = [[-1, "C3"], [0, "B2"], [1, "pass"], [0, "D4"], [-1, "A1"]]
    status, text = site.post("save", {"tree": tree})
    assert status == 200
    root = sgf.Sgf_game.from_string(text).get_root()
    assert root.get("SZ") == 5 and root.get("KM") == 7.5
    assert [child.get_move() for child in root] == [("b", (2, 2)), ("b", (0, 0))]
    assert [child.get_move()[0] for child in root[0]] == ["w", "w"]
    status, found = site.post("load", text.encode(), "application/x-go-sgf")
    assert status == 200 and json.loads(found) == {"tree": tree, "games": 1, "start": None}
    two = text.encode() + b"\n(;SZ[9];B[aa])"
    assert json.loads(site.post("load", two, "application/x-go-sgf")[1])["games"] == 2


SET_UP = b"(;SZ[5]AB[bb]AW[dd]PL[W];W[cc];B[dc])"
HANDICAP = b"(;SZ[5]HA[2]AB[dd][bb];W[cc];B[dc])"


def loaded(site: Site, content: bytes) -> dict:
    status, text = site.post("load", content, "application/x-go-sgf")
    assert status == 200, text
    return json.loads(text)


@pytest.mark.parametrize("kind", ["board", "moves"])
@pytest.mark.parametrize("content", [SET_UP, HANDICAP])
def test_every_line_begins_where_the_file_begins(
    new_site: NewSite, kind: str, content: bytes
) -> None:
    site = new_site(kind)
    found = loaded(site, content)
    start = found["start"]
    if kind == "moves" and not start["handicap"]:
        status, text = site.refuse("map", {"moves": [], "start": start})
        assert status == 422 and "does not see a board" in text
        return
    (game,), session = read_sgf(content, allows_set_up=True), site.companion.session()
    for number in (0, 2, 1, 2):
        lead_to(session, game, number)
        told = site.ask("map", moves=["C3", "D3"][:number], start=start)
        expected = position_map(session).as_json()
        for name in ("board", "to_play", "illegal", "moves", "moves_since_set_up", "settled"):
            assert told[name] == expected[name]
        assert told["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
        played = site.ask("playouts", moves=["C3", "D3"][:number], start=start, num_games=10)
        assert played == played_out(session, 10).as_json()
    # The same moves from the empty board are another line.
    assert site.ask("map", moves=["C3", "D3"])["board"][1] == "....."
    line = {"moves": ["C3"], "start": start}
    move = site.ask("move", **line)["move"]
    assert site.ask("map", moves=["C3", move], start=start)["last_move"] == move
    status, text = site.post("save", {"tree": found["tree"], "start": start})
    assert status == 200 and loaded(site, text.encode()) == found


def test_a_start_that_is_none_is_refused(site: Site) -> None:
    right = {"black": ["B4"], "white": ["D2"], "to_play": "white", "handicap": False}
    assert site.ask("map", moves=[], start=right)["title"] == "white to play, set up"
    corner = {"black": ["A1"], "white": ["A2", "B1"]}
    for change, said in (
        ({"white": ["B4"]}, "Start has B4 twice."),
        ({"black": ["Z9"]}, "Start: "),
        ({"black": ["pass"]}, "Start must have points, got pass."),
        ({"black": [3]}, "Start: "),
        ({"black": "B4"}, "Start must have lists of its stones"),
        ({"to_play": "green"}, "Start must say who is to_play"),
        ({"handicap": True}, "Start must have black stones alone as handicap"),
        ({"more": 1}, "Start must be a position"),
        (corner, "Boards must not have a chain without liberties."),
    ):
        status, text = site.refuse("map", {"moves": [], "start": {**right, **change}})
        assert status == 422 and text.startswith(said), text


def test_playouts_hold_nobody_up_and_stop_when_nobody_waits(site: Site) -> None:
    body = json.dumps({"moves": [], "num_games": 100_000}).encode()
    head = f"POST {site.path}playouts HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        connection.sendall(head.encode() + body)
        connection.settimeout(0.3)
        assert site.ask("map", moves=["A1"])["to_play"] == "white"
        with pytest.raises(TimeoutError):  # it is still being played
            connection.recv(1)
    began = time.monotonic()
    assert site.ask("playouts", moves=["B1"], num_games=2)["num_games"] == 2
    assert time.monotonic() - began < 10


def test_too_many_at_once_are_sent_away(site: Site) -> None:
    answers, go_on = Answers(site.companion, ""), threading.Event()
    question = {"moves": [], "num_games": 2}

    def wait() -> bool:
        return go_on.wait(30)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(answers.playouts, question, wait) for _ in range(4)]
        deadline = time.monotonic() + 10
        while True:
            try:
                answers.playouts(question)
            except Busy:
                break
            assert time.monotonic() < deadline
        go_on.set()
        assert all(each.result()["num_games"] == 2 for each in waiting)
    assert answers.playouts(question)["num_games"] == 2


def test_what_is_closed_plays_nothing_more(site: Site) -> None:
    answers, began = Answers(site.companion, ""), threading.Event()

    def is_wanted() -> bool:
        began.set()
        return True

    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(answers.playouts, {"moves": [], "num_games": 100_000}, is_wanted)
        assert began.wait(10)
        answers.close()
        assert isinstance(playing.exception(10), NotWanted)
    with pytest.raises(NotWanted):
        answers.map({"moves": []})


def test_what_is_not_finite_is_said(new_site: NewSite, capfd: pytest.CaptureFixture[str]) -> None:
    site = new_site()
    with torch.no_grad():
        next(iter(site.companion.model.parameters())).fill_(torch.nan)
    status, text = site.refuse("map", {"moves": []})
    assert text == "The model's probabilities are not finite." and status == 422


def test_a_fault_of_the_program_is_shown_in_its_terminal_alone(
    new_site: NewSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site()
    site.companion.model.head = torch.nn.Identity()  # whose answer has another shape
    status, text = site.refuse("map", {"moves": []})
    assert status == 500 and text.startswith("A fault of the program (")
    assert "Traceback" in capfd.readouterr().err
