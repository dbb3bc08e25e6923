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
        assert site.ask("map", moves=MOVES[:number]) == {**position_map(session).as_json(), **more}
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
    assert status == 200 and json.loads(found) == {"tree": tree, "games": 1}
    two = text.encode() + b"\n(;SZ[9];B[aa])"
    assert json.loads(site.post("load", two, "application/x-go-sgf")[1])["games"] == 2


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
