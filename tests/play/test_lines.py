"""Lines of one game beside each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tessera.go import IllegalMoveError
from tessera.play import lines
from tessera.play.lines import Lines
from tessera.play.session import Session

NewSession = Callable[..., Session]


def tokens(session: Session, text: str) -> list[int]:
    return [session.vocabulary.token(vertex) for vertex in text.split()]


def count_steps(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many moves each reading of the model takes, as they come."""
    read, found = session.model.read_on, list[int]()

    def counted(tokens, state, tables):
        found.append(tokens.shape[1])
        return read(tokens, state, tables)

    monkeypatch.setattr(session.model, "read_on", counted)
    return found


def test_a_line_that_goes_on_costs_its_new_moves_alone(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session()
    steps, kept = count_steps(session, monkeypatch), Lines(session)
    for text in ("", "C3", "C3 B2", "C3 B2 D4", "C3 B2", "C3 A1", "C3 B2 D4"):
        kept.session_at(tokens(session, text)).outlook()
    assert steps == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["moves", "board"])
def test_every_line_is_a_game_of_its_own(new_session: NewSession, kind: str) -> None:
    session = new_session(kind)
    kept = Lines(session)
    texts = ["C3 B2 D4", "C3 A1", "", "C3 B2 pass pass E5", "A1"]
    found = [kept.session_at(tokens(session, text)) for text in [*texts, *texts]]
    for text, line in zip([*texts, *texts], found, strict=True):
        alone = new_session(kind)
        for token in tokens(session, text):
            alone.play(token)
        assert line.moves == alone.moves
        assert line.stones.tolist() == alone.stones.tolist()
        chances, expected = line.outlook().probabilities, alone.outlook().probabilities
        assert chances.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    found[0].play(tokens(session, "E1")[0])
    assert kept.session_at(tokens(session, texts[0])).moves == tokens(session, texts[0])


def test_an_illegal_move_says_which_one_it_is(new_session: NewSession) -> None:
    session = new_session()
    kept = Lines(session)
    for _ in range(2):
        with pytest.raises(IllegalMoveError, match=r"^move 3: C3 is occupied\.$"):
            kept.session_at(tokens(session, "C3 B2 C3"))


def test_only_so_many_positions_are_kept(
    new_session: NewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_MOST_KEPT", 3)
    session = new_session()
    steps, kept = count_steps(session, monkeypatch), Lines(session)
    for text in ("A1", "B1", "A1", "C1", "D1", "A1", "B1"):
        kept.session_at(tokens(session, text)).outlook()
    # The last one is that of B1, which nobody had asked for the longest.
    assert steps == [2, 2, 2, 2, 2]
