"""A game that a person follows with a model: rules, undo, and what the model says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tessera.go import GPUGoEngine, IllegalMoveError
from tessera.model.outcome import Outcome
from tessera.play.reading import tables_of
from tessera.play.replays import Replays
from tessera.play.session import Outlook, Session
from tests.play.conftest import KINDS, OWNERS, new_model

NewSession = Callable[..., Session]


def play(session: Session, text: str) -> Session:
    for vertex in text.split():
        session.play(session.vocabulary.token(vertex))
    return session


def looks(session: Session) -> tuple[object, ...]:
    """What a person can see of a session, but for its outlook."""
    mask = session.engine.get_legal_mask()[0].tolist()
    return session.moves, session.turn, session.is_over, session.stones.tolist(), mask


def whole(session: Session, kind: str) -> tuple[Tensor, Outcome | None]:
    """Probabilities of the legal moves and the outcome of the same game, read at once.

    As ``tessera predict`` does, by other entry points of the model.
    """
    model = new_model(kind, session.board_size)
    tokens = torch.tensor([[session.vocabulary.eos_token, *session.moves]])
    tables = tables_of(model, tokens[:, 1:], session.board_size, session.rules)
    length = min(session.context or tokens.shape[1], tokens.shape[1])
    if model.features is not None:
        tables = model.features.last(tables, length)
    with torch.no_grad():
        logits = model(tokens[:, -length:], None, tables)[0, -1]
        outcome = None
        if model.outcome is not None:
            said = model.outlook(tokens[:, -length:], tables)[1]
            outcome = Outcome(*(None if each is None else each[0, -1] for each in said))
    legal = session.engine.get_legal_mask()[0]
    return logits[: len(legal)].masked_fill(~legal, -torch.inf).softmax(0), outcome


GAME = "B3 C3 A2 D2 B1 C1 C2 B2 E5 pass C2 A5 D4 pass"


def test_a_game_that_is_copied_has_a_model_of_its_own_and_the_same_outlook(
    new_session: NewSession,
) -> None:
    session = play(new_session(), "B3 C3 A2")
    other = copy.deepcopy(session)
    assert other.model is not session.model
    assert other._replays is Replays.of(other.model) is not Replays.of(session.model)
    assert torch.equal(other.outlook().probabilities, session.outlook().probabilities)


@pytest.mark.parametrize("kind", [*KINDS, OWNERS])
@pytest.mark.parametrize("context", [None, 4])
def test_outlooks_are_those_of_the_whole_game(
    new_session: NewSession, kind: str, context: int | None
) -> None:
    session = new_session(kind, context=context)
    for vertex in ["", *GAME.split()]:
        play(session, vertex)
        outlook = session.outlook()
        chances, outcome = whole(session, kind)
        torch.testing.assert_close(outlook.probabilities, chances, atol=1e-5, rtol=1e-4)
        assert (outlook.win is None) is (outcome is None) is (outlook.score is None)
        assert (outlook.ownership is not None) is (kind == OWNERS)
        if outcome is not None:
            assert outlook.win == pytest.approx(float(outcome.win), abs=1e-5)
            assert outlook.score == pytest.approx(float(outcome.score), abs=1e-4)
            if outcome.ownership is not None:
                # The model speaks of the player to move, a session of black.
                of_black = outcome.ownership if session.turn == 0 else -outcome.ownership
                torch.testing.assert_close(outlook.ownership, of_black, atol=1e-5, rtol=1e-4)
                assert outlook.ownership.abs().max() > 0.01, "or a sign would not be seen"


def test_a_position_that_was_set_up_is_owned_as_its_player_to_move_has_it(
    new_session: NewSession,
) -> None:
    boards = torch.zeros(2, 5, 5, dtype=torch.bool)
    boards[0, 2, 2] = boards[1, 3, 3] = True
    session = new_session(OWNERS)
    found = []
    for turn, planes in ((0, boards), (1, boards.flip(0))):  # the same, with the colours exchanged
        session.set_position(planes, turn)
        found.append(session.outlook().ownership)
    black, white = found
    assert black is not None and white is not None and black.abs().max() > 0.01
    torch.testing.assert_close(white, -black)


@pytest.mark.parametrize("kind", KINDS)
def test_moves_that_nobody_asked_about_are_read_later(new_session: NewSession, kind: str) -> None:
    session = play(new_session(kind), GAME)
    chances, _ = whole(session, kind)
    torch.testing.assert_close(session.outlook().probabilities, chances, atol=1e-5, rtol=1e-4)


def test_an_outlook_is_over_legal_moves_alone(new_session: NewSession) -> None:
    session = play(new_session(), "A2 B2 B1")  # A1 is suicide for white
    outlook = session.outlook()
    assert outlook.probabilities.dtype == torch.float32 and outlook.legal.dtype == torch.bool
    assert float(outlook.probabilities.sum()) == pytest.approx(1, abs=1e-6)
    illegal = {session.vocabulary.token(vertex) for vertex in ("A2", "B2", "B1", "A1")}
    assert set((~outlook.legal).nonzero().flatten().tolist()) == illegal
    assert not outlook.probabilities[~outlook.legal].any()
    assert (outlook.probabilities[outlook.legal] > 0).all()
    assert 0 < outlook.legal_mass < 1
    assert session.outlook() is outlook  # nothing is computed twice


@pytest.mark.parametrize("context", [None, 4])
def test_undo_goes_back_to_the_start_by_what_was_kept(
    new_session: NewSession, context: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session("board", context=context)
    seen: list[tuple[tuple[object, ...], Outlook]] = []
    for vertex in GAME.split():
        seen.append((looks(session), session.outlook()))
        play(session, vertex)
    for name in ("read_on", "forward", "outlook"):
        monkeypatch.setattr(type(session.model), name, None)  # the model is not asked again
    for before, outlook in reversed(seen):
        assert session.undo()
        assert looks(session) == before and session.outlook() is outlook
    assert not session.undo() and not session.moves


def test_after_undo_another_line_is_followed(new_session: NewSession) -> None:
    session = play(new_session("landmarks"), "C3 C2 D2")
    session.outlook()
    session.undo()
    play(session, "E1 A1")
    other = play(new_session("landmarks"), "C3 C2 E1 A1").outlook()
    torch.testing.assert_close(session.outlook().probabilities, other.probabilities)


@pytest.mark.parametrize(
    ("before", "move", "reason"),
    [
        ("C3", "C3", "C3 is occupied."),
        ("A2 B2 B1", "A1", "A1 is suicide, which the model's rules forbid."),
        (
            "B3 C3 A2 D2 B1 C1 C2 B2",
            "C2",
            "C2 repeats a position, which the model's rules forbid (ko positional).",
        ),
    ],
)
def test_an_illegal_move_is_refused_with_its_reason_and_changes_nothing(
    new_session: NewSession, before: str, move: str, reason: str
) -> None:
    session = play(new_session(), before)
    seen, outlook = looks(session), session.outlook()
    with pytest.raises(IllegalMoveError) as error:
        play(session, move)
    assert str(error.value) == reason
    assert looks(session) == seen and session.outlook() is outlook


def test_simple_ko_says_what_is_retaken(new_session: NewSession) -> None:
    session = play(new_session(rules="full", ko="simple"), "B3 C3 A2 D2 B1 C1 C2 B2")
    with pytest.raises(IllegalMoveError, match="C2 retakes a ko at once"):
        play(session, "C2")


@pytest.mark.parametrize("token", [-1, 26, 10**30])
def test_what_is_no_move_is_refused(new_session: NewSession, token: int) -> None:
    with pytest.raises(IllegalMoveError):
        new_session().play(token)


def test_a_move_has_a_name_or_a_token(new_session: NewSession) -> None:
    session = new_session()
    for move in ("c3", "PASS", 0):
        session.play(move)
    assert session.moves == [12, 25, 0]
    with pytest.raises(ValueError, match="vertex must be A1 to E5 or pass, got 'Q16'"):
        session.play("Q16")
    with pytest.raises(IllegalMoveError, match="C3 is occupied"):
        session.play("C3")
    assert session.moves == [12, 25, 0]


def test_a_model_of_games_without_settled_points_gives_them_nothing(
    new_session: NewSession,
) -> None:
    # Black lives with the eyes A1, C1 and E1, which may be filled by the rules.
    game = "A2 A5 B2 B5 C2 C5 D2 D5 E2 E5 B1 A4 D1"
    plain = play(new_session(), f"{game} pass")
    eyes = [plain.vocabulary.token(vertex) for vertex in ("A1", "C1", "E1")]
    assert (plain.outlook().probabilities[eyes] > 0).all()
    other = Session(plain.model, 5, plain.rules, None, "cpu", skip_settled=True)
    outlook = play(other, f"{game} pass").outlook()
    assert outlook.legal[eyes].all() and not outlook.probabilities[eyes].any()
    assert float(outlook.probabilities.sum()) == pytest.approx(1, abs=1e-6)
    rest = plain.outlook().probabilities.clone()
    rest[eyes] = 0
    torch.testing.assert_close(outlook.probabilities, rest / rest.sum())


def test_superko_is_kept(new_session: NewSession) -> None:
    game = "A1 B2 B1 A2 A1 B1"  # black takes three stones now, and the first position is back
    with pytest.raises(IllegalMoveError, match="A1 repeats a position"):
        play(play(new_session(board_size=2), game), "A1")
    session = play(new_session(board_size=2, ko="simple"), f"{game} A1")
    assert int((session.stones != 0).sum()) == 1


def test_a_game_goes_on_after_two_passes(new_session: NewSession) -> None:
    session = play(new_session("board"), "C3 pass pass")
    assert session.is_over and session.turn == 1
    assert session.outlook().probabilities.sum() == pytest.approx(1)
    play(session, "pass")
    assert session.is_over and len(session.moves) == 4
    play(session, "C4 D4")
    assert not session.is_over and int((session.stones != 0).sum()) == 3
    assert session.outlook().probabilities.sum() == pytest.approx(1)
    for _ in range(6):
        assert session.undo()
    assert not session.moves and not session.stones.any()


def test_a_game_is_longer_than_those_of_training(new_session: NewSession) -> None:
    session = new_session(board_size=2, max_moves=4)
    play(session, "pass " * 300)
    assert len(session.moves) == 300
    session.outlook()
    play(session, "pass " * 100)
    with pytest.raises(IllegalMoveError, match="the game is over after 400 moves"):
        play(session, "pass")


def test_old_states_are_let_go_and_undo_still_works(new_session: NewSession) -> None:
    session = new_session("blocks")
    for _ in range(100):
        play(session, "pass")
        session.outlook()
    kept = [at for at, each in enumerate(session._positions) if each.state is not None]
    assert kept[:3] == [16, 32, 37] and len(kept) == 66
    for _ in range(80):
        session.undo()
    play(session, "C3")
    chances, _ = whole(session, "blocks")
    torch.testing.assert_close(session.outlook().probabilities, chances, atol=1e-5, rtol=1e-4)


def test_a_position_can_be_set(new_session: NewSession) -> None:
    session = play(new_session("board"), "C3 C4")
    boards = torch.zeros(2, 5, 5, dtype=torch.int64)
    boards[0, 1, 1] = boards[1, 3, 3] = 1
    session.set_position(boards, 1)
    assert not session.has_history and session.turn == 1 and not session.moves
    assert torch.equal(session.stones, boards[0] - boards[1])
    empty = new_session("board").outlook()
    assert not torch.allclose(session.outlook().probabilities, empty.probabilities, atol=1e-3)
    play(session, "A1 A2")
    session.outlook()
    assert session.undo() and session.undo() and not session.undo()
    session.clear()
    assert session.has_history and not session.stones.any()
    assert session.outlook().win == pytest.approx(empty.win)


def test_what_is_set_up_for_white_is_what_black_would_see_in_other_colours(
    new_session: NewSession,
) -> None:
    boards = torch.zeros(2, 5, 5, dtype=torch.int64)
    boards[0, 1, 1] = boards[0, 2, 1] = boards[1, 3, 3] = 1
    session = new_session("board")
    session.set_position(boards, 0)
    black = session.outlook()
    session.set_position(boards.flip(0), 1)
    white = session.outlook()
    assert black.win is not None and abs(black.win - 0.5) > 1e-3
    assert (white.win, white.score) == pytest.approx((black.win, black.score))
    torch.testing.assert_close(white.probabilities, black.probabilities)


def test_a_score_is_of_the_player_to_move_as_the_model_says_it(new_session: NewSession) -> None:
    session = new_session("board")
    for vertex in ("C3", "D3"):
        play(session, vertex)
        tokens = torch.tensor([[session.vocabulary.eos_token, *session.moves]])
        tables = tables_of(session.model, tokens[:, 1:], 5, session.rules)
        with torch.no_grad():
            score = float(session.model.outlook(tokens, tables)[1].score[0, -1])
        assert abs(score) > 1e-3 and session.outlook().score == pytest.approx(score, abs=1e-4)


def test_a_mark_knows_whether_the_moves_before_were_known(new_session: NewSession) -> None:
    session = new_session("board")
    known = session.mark()
    session.set_position(torch.zeros(2, 5, 5, dtype=torch.int64), 1)
    set_up = session.mark()
    session.go_back(known)
    assert session.has_history
    session.go_back(set_up)
    assert not session.has_history and session.turn == 1


def test_a_position_with_a_dead_chain_is_refused(new_session: NewSession) -> None:
    session = play(new_session(), "C3")
    seen = looks(session)
    boards = torch.zeros(2, 5, 5, dtype=torch.int64)
    boards[0, 0, 0] = boards[1, 0, 1] = boards[1, 1, 0] = 1
    for turn in (0, 1):
        with pytest.raises(ValueError, match="without liberties"):
            session.set_position(boards, turn)
    boards[0, 0, 1] = 1
    with pytest.raises(ValueError, match="one point"):
        session.set_position(boards, 0)
    assert looks(session) == seen and session.has_history


def test_a_model_that_says_nothing_finite_is_an_error(new_session: NewSession) -> None:
    session = new_session()
    with torch.no_grad():
        next(session.model.head.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        session.outlook()


def test_the_engine_goes_on_where_two_passes_had_ended_games() -> None:
    engine = GPUGoEngine(2, "cpu", 5)
    for moves in ([25, 3], [25, 25]):
        engine.play_batch(torch.tensor(moves))
    assert engine.is_game_over().tolist() == [True, False]
    engine.go_on()
    assert engine.is_game_over().tolist() == [False, False] and engine.passes.tolist() == [1, 1]
    engine.play_batch(torch.tensor([25, 25]))
    assert engine.is_game_over().tolist() == [True, True]
