"""How games end: settled points, what playouts say of the rest, and sekis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tessera.commands.map.terminal import Ink, lines_of
from tessera.play import ending
from tessera.play.chains import is_left_alone
from tessera.play.diagram import read_diagram
from tessera.play.ending import Ending, ending_of
from tessera.play.map import played_out, position_map
from tessera.play.session import Session
from tests.play.conftest import Table

NewSession = Callable[..., Session]

# Black has the left and white the right; three stones stand where they cannot live.
FINISHED = """
 . . . X O . . . .
 . . . X O . . . .
 . . . X O . X . .
 . O . X O . . . .
 . . . X O . . . .
 . . . X O . . . .
 . . . X O . . . .
 . O . X O . . . .
 . . . X O . . . .
"""
# Two chains of each have two liberties together, and no eyes; all others have eyes.
SEKI = """
 X O . X O . . . .
 X O . X O . . . .
 X O O X O . . . .
 X X X O O . . . .
 X X X O O O O O O
 X . X O . . O . .
 X X X O O O O O O
 . . X O . . O . .
 X X X O O O O O O
"""
# The same with an eye for each chain, and one liberty together.
SEKI_WITH_EYES = """
 X O . O . X . X O
 X O O O X X X X O
 X X X X O O O O O
 X X X X X O O O O
 X . X X X O . O O
 X X X X X O O O O
 X . X X X O . O .
 X X X X X O O O O
 . X X X X O O O O
"""
# Three points for an eye, in which two black stones stand: white is dead.
EYE_OF_THREE = """
 . X X . O X . . .
 O O O O O X . . .
 X X X X X X . . .
 . . . . . . . . .
 . X . X . X . X .
 . . . . . . . . .
 . X . X . X . X .
 . . . . . . . . .
 . . . . . . . . .
"""


def set_up(new_session: NewSession, diagram: str, turn: int = 0) -> Session:
    rows = torch.tensor(read_diagram(diagram))
    session = new_session("board", len(rows))
    session.set_position(torch.stack([rows > 0, rows < 0]), turn)
    return session


def names(session: Session, found: Ending, status: str) -> list[str]:
    vertex = session.vocabulary.vertex
    return [" ".join(map(vertex, chain)) for chain in found.chains(status)]


@pytest.mark.parametrize("turn", [0, 1])
def test_stones_that_cannot_live_are_captured(new_session: NewSession, turn: int) -> None:
    session = set_up(new_session, FINISHED, turn)
    found = ending_of(session)
    assert names(session, found, "dead") == ["G7", "B6", "B2"]
    assert len(found.chains("alive")) == 2 and not found.chains("seki")
    assert found.owners[:, :4].eq(1).all() and found.owners[:, 4:].eq(-1).all()
    assert found.score(7.5) == "W+16.5" == ending.score(session, 7.5)
    as_they_stand = ending_of(session, 0)
    assert not as_they_stand.dead.any()
    # Where all else touches both colours: nine stones of each, B6, B2 and G7.
    assert as_they_stand.score(0) == "W+1"


def test_the_same_is_answered_each_time(new_session: NewSession) -> None:
    session = set_up(new_session, EYE_OF_THREE)
    one, other = ending_of(session, 20), ending_of(session, 20)
    assert torch.equal(one.owners, other.owners) and torch.equal(one.dead, other.dead)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(
    ("diagram", "chains", "neutral"),
    [
        (SEKI, ["B9 B8 B7 C7", "D9 D8 D7"], ["C9", "C8"]),
        (SEKI_WITH_EYES, ["B9 D9 B8 C8 D8", "F9 H9 E8 F8 G8 H8"], ["E9"]),
    ],
)
def test_the_stones_of_a_seki_are_alive_and_its_liberties_nobodys(
    new_session: NewSession, diagram: str, turn: int, chains: list[str], neutral: list[str]
) -> None:
    session = set_up(new_session, diagram, turn)
    found = ending_of(session)
    assert names(session, found, "seki") == chains and not found.chains("dead")
    nobodys = found.owners.flatten().eq(0).nonzero().flatten().tolist()
    assert [session.vocabulary.vertex(point) for point in nobodys] == neutral


@pytest.mark.parametrize("own", [1, -1])
def test_a_chain_that_either_may_want_to_fill_is_not_left_alone(own: int) -> None:
    # In the corner; its own colour would be in atari on the last liberty, the other captures.
    colours = [0, 0, 0, -own, -own, 0, own, 0, 0]
    assert not is_left_alone([6], colours, 3)


def test_a_liberty_of_a_seki_is_nobodys_whatever_the_playouts_say(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = set_up(new_session, SEKI)
    liberties = [session.vocabulary.token(vertex) for vertex in ("C9", "C8")]
    owned = ending._owned(session.engine, ending.PLAYOUTS)
    owned.view(-1)[liberties] = 0.9
    monkeypatch.setattr(ending, "_owned", lambda engine, num_playouts: owned)
    assert ending_of(session).owners.flatten()[liberties].tolist() == [0, 0]


def test_a_chain_that_is_killed_from_within_is_in_no_seki(new_session: NewSession) -> None:
    session = set_up(new_session, EYE_OF_THREE)
    found = ending_of(session)
    assert names(session, found, "dead") == ["E9 A8 B8 C8 D8 E8"]
    assert not found.chains("seki") and found.owners.eq(1).all()


FINISHED_MOVES = "D9 E9 D8 E8 D7 E7 D6 E6 D5 E5 D4 E4 D3 E3 D2 E2 D1 E1 G7 B6 pass B2 pass pass"


def test_what_is_shown_after_two_passes_is_the_score_that_the_protocol_answers(
    new_gtp: Callable[..., Table],
) -> None:
    table = new_gtp("moves", num_playouts=20)
    table.play(FINISHED_MOVES)
    assert table.session.is_over and table.ask("final_score") == "W+16.5"
    played = played_out(table.session, 20)
    sign = 1 - 2 * table.session.turn
    assert (played.score, played.score_error) == (-16.5 * sign, 0)
    assert played.win == (1 - sign) / 2 and played.win_interval == (played.win, played.win)
    assert played.ownership[:, :4].eq(1).all() and played.ownership[:, 4:].eq(-1).all()
    assert played_out(table.session, 20, komi=0.5).score == -9.5 * sign
    position = position_map(table.session, 20)
    assert position.facts()[0] == "the game is over, score W+16.5 without dead stones"
    assert "Whose each point is, dead stones taken off:" in lines_of(position, Ink(), 80)
    told = table.ask("kata-raw-nn 0").splitlines()
    assert {"whiteWin 1.000000", "whiteLead 16.500000"} <= set(told)
    owners = table.ask("kata-raw-nn 0").partition("whiteOwnership\n")[2].split()
    assert [float(owner) for owner in owners] == ([-1] * 4 + [1] * 5) * 9
    analysis = table.ask("kata-analyze 1 ownership true").split("ownership ")[1].split()
    assert [float(owner) for owner in analysis] == [-sign * float(owner) for owner in owners]
    # One can go on, and then games are played again.
    table.play("H8", "w" if table.session.turn else "b")
    assert not played_out(table.session, 20).is_over
