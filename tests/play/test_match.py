"""Matches in this process: who plays what, when games end, and what is counted of them."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tessera.go import RULES, GPUGoEngine, get_player
from tessera.play.contestants import Loss, ModelContestant, Seated, contestant_of
from tessera.play.intervals import wilson
from tessera.play.match import MatchResult, fixtures_of, match_rules, play_match
from tessera.play.match_table import Fixture, MatchTable, PlayedGame, digest_of
from tessera.play.model_player import ModelPlayer
from tessera.play.openings import random_openings
from tessera.play.referee import Verdict, judge
from tessera.play.session import Session
from tessera.vocabulary import Vocabulary
from tests.play.conftest import KINDS, new_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Scripted:
    """Plays given moves, by the number of plies, and notes where it was asked."""

    def __init__(self, name: str, script: dict[int, int], otherwise: int) -> None:
        self.name, self.script, self.otherwise = name, script, otherwise
        self.asked: list[tuple[int, list[bool]]] = []

    def begin(self, engine: GPUGoEngine) -> None:
        self.asked.clear()

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        pass

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        plies = engine.move_number.tolist()
        self.asked.append((max(plies), is_mine.tolist()))
        return torch.tensor([self.script.get(ply, self.otherwise) for ply in plies])


def test_openings_are_the_same_whoever_asks_and_how_many() -> None:
    asked = {"board_size": 9, "rules": match_rules(), "seed": 3}
    many = random_openings(range(40), **asked)
    assert many[7:9] == random_openings([7, 8], **asked)
    assert {len(opening) for opening in many} == {4, 5, 6, 7, 8} and len(set(many)) == 40
    assert many != random_openings(range(40), **{**asked, "seed": 4})
    assert judge([list(opening) for opening in many], 9, RULES["full"]) == [Verdict()] * 40
    even = random_openings(range(20), lengths=(6, 6), player="rules", **asked)
    assert {len(opening) for opening in even} == {6}
    assert random_openings(range(2), lengths=(0, 0), **asked) == [(), ()]


def test_every_opening_is_played_with_both_colours_and_ends_by_the_engines_count() -> None:
    rules = match_rules()
    result = play_match(get_player("uniform"), get_player("rules"), 6, board_size=4, seed=1)
    assert result.names == ("uniform", "rules") and result.num_games == 12
    openings = random_openings(range(6), board_size=4, rules=rules, seed=1)
    for number, (one, other) in enumerate(zip(result.games[::2], result.games[1::2], strict=True)):
        assert one.fixture == Fixture(number, True, openings[number])
        assert other.fixture == Fixture(number, False, openings[number])
        for game in (one, other):
            assert game.moves[: len(openings[number])] == openings[number]
            engine = GPUGoEngine(1, "cpu", 4, rules)
            for token in game.moves:
                assert not engine.is_game_over()
                engine.play_batch(torch.tensor([token]), check=True)
            assert engine.is_game_over() and game.score == float(engine.score())
            assert game.ended == ("passes" if int(engine.passes) == 2 else "limit")
            assert game.black_points == (game.score > 0) + (game.score == 0) / 2
            # The first side chose the even plies where it is black, the odd ones where it is white.
            plies = range(len(openings[number]), len(game.moves))
            of_first = sum(ply % 2 == (not game.fixture.first_is_black) for ply in plies)
            assert game.num_chosen == (of_first, len(plies) - of_first)
    assert result.wins + result.draws + result.losses == 12 and sum(result.pairs) == 6
    again = play_match(get_player("uniform"), get_player("rules"), 6, board_size=4, seed=1)
    assert [game.moves for game in again.games] == [game.moves for game in result.games]
    fewer = play_match(get_player("uniform"), get_player("rules"), 3, board_size=4, seed=1)
    assert [game.moves for game in fewer.games] == [game.moves for game in result.games[:6]]


def test_a_position_that_one_colour_wins_gives_each_side_one_point_of_two() -> None:
    # With so much komi white wins whatever is played.
    result = play_match(
        get_player("rules"), get_player("uniform"), 4, board_size=3, rules=match_rules(komi=50.0)
    )
    assert (result.wins, result.losses) == (4, 4) and result.pairs == (0, 0, 4, 0, 0)
    assert result.black_rate == 0 and result.win_rate == 0.5
    assert {game.score < 0 for game in result.games} == {True}


def test_sides_are_asked_only_where_they_are_to_move() -> None:
    black, white = Scripted("one", {}, 9), Scripted("other", {}, 9)
    result = play_match(black, white, 2, board_size=3, lengths=(0, 0))
    # Both pass, in every game; in the first of a pair the first side begins.
    assert black.asked == [(0, [True, False] * 2), (1, [False, True] * 2)]
    assert white.asked == [(0, [False, True] * 2), (1, [True, False] * 2)]
    assert {game.moves for game in result.games} == {(9, 9)} and result.draws == 0
    assert result.num_duplicates == 3 and result.black_rate == 0
    assert {game.ended for game in result.games} == {"passes"}


def test_reading_a_game_is_part_of_what_moves_take() -> None:
    class Reader(Scripted):
        def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
            time.sleep(0.05)

    passes = 9
    for lengths in ((0, 0), (3, 3)):
        sides = Reader("reader", {}, passes), Scripted("other", {}, passes)
        result = play_match(*sides, 1, board_size=3, lengths=lengths)
        reader, other = result.seconds_per_move
        assert reader is not None and other is not None
        # Of two games at once each has half, and of its own move and the other's.
        assert reader > 0.02 and other < reader


def test_the_move_limit_ends_a_game_and_it_counts_as_it_stands() -> None:
    rules = match_rules(komi=0.5, max_moves=3)
    one, other = Scripted("one", {}, 9), Scripted("other", {0: 4, 1: 0, 2: 8}, 9)
    result = play_match(one, other, 1, board_size=3, rules=rules, lengths=(0, 0))
    assert [game.moves for game in result.games] == [(9, 0, 9), (4, 9, 8)]
    assert [game.ended for game in result.games] == ["limit", "limit"]
    assert [game.score for game in result.games] == [-9.5, 8.5]
    assert (result.losses, result.black_rate) == (2, 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [None, 6])
def test_a_model_plays_the_likeliest_legal_move_of_what_gtp_would_say(
    kind: str, context: int | None
) -> None:
    model = new_model(kind, 4)
    rules = match_rules(max_moves=14)
    side = ModelContestant(model, context=context)
    result = play_match(side, get_player("rules"), 3, board_size=4, rules=rules, lengths=(1, 4))
    for game in result.games:
        session = Session(model, 4, rules, context, "cpu")
        for ply, token in enumerate(game.moves):
            is_own = (ply % 2 == 0) == game.fixture.first_is_black
            if ply >= len(game.fixture.opening) and is_own:
                chances = session.outlook().probabilities
                assert float(chances[token]) == pytest.approx(float(chances.max()), abs=1e-5)
            session.play(token)


def test_a_model_that_left_settled_points_alone_gives_them_no_move() -> None:
    # Black lives with the eyes A1, C1 and E1, which may be filled by the rules.
    vocabulary, game = Vocabulary(5), "A2 A5 B2 B5 C2 C5 D2 D5 E2 E5 B1 A4 D1 pass"
    eyes = [vocabulary.token(vertex) for vertex in ("A1", "C1", "E1")]
    model = new_model("moves", 5)
    with torch.no_grad():
        model.head.bias[eyes] = torch.tensor([90.0, 80.0, 70.0])
    chosen = []
    for skips, context in itertools.product((False, True), (None, 20)):
        side = ModelContestant(model, context=context, skip_settled=skips)
        engine = GPUGoEngine(1, "cpu", 5, match_rules())
        side.begin(engine)
        for token in (vocabulary.eos_token, *map(vocabulary.token, game.split())):
            engine.play_batch(torch.tensor([token]))
            side.see(engine, torch.tensor([token]))
        chosen.append(int(side.moves(engine, torch.tensor([True]), torch.tensor([1]))[0]))
    assert chosen[:2] == [eyes[0]] * 2 and not set(chosen[2:]) & set(eyes)


class Late(Seated):
    """A side whose answers come one at a time, in an order that nobody expects."""

    def __init__(self) -> None:
        super().__init__(get_player("rules"), "late")
        self.chance, self.bell = random.Random(1), threading.Event()

    def ring(self, bell: threading.Event) -> None:
        self.bell = bell

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        chosen = super().moves(engine, is_mine, words)
        place = self.chance.choice(is_mine.nonzero().flatten().tolist())
        late = torch.full_like(chosen, engine.vocabulary.pad_token)
        late[place] = chosen[place]
        self.bell.set()
        return late

    def take_losses(self) -> dict[int, Loss]:
        return {}

    def take_seconds(self) -> dict[int, float]:
        return {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [None, 6])
def test_games_are_the_same_however_many_are_played_at_once_and_whoever_is_ready(
    kind: str, context: int | None
) -> None:
    model, rules, played = new_model(kind, 4), match_rules(max_moves=14), []
    for places in (1, 3):
        sides = (ModelContestant(model, context=context), Late())
        table = MatchTable(sides, places, board_size=4, rules=rules, seed=5, device="cpu")
        fixtures = fixtures_of(range(3), board_size=4, rules=rules, seed=5)
        games = sorted(table.play(fixtures), key=lambda game: game.fixture.game)
        played.append([(game.fixture, game.moves, game.score) for game in games])
    assert len(played[0]) == 6 and played[0] == played[1]


class Slow(Seated):
    """Takes its time, and notes for how many games at once."""

    def __init__(self) -> None:
        super().__init__(get_player("rules"), "slow")
        self.numbers: list[int] = []

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        self.numbers.append(int(is_mine.sum()))
        time.sleep(0.15)
        return super().moves(engine, is_mine, words)


class Prompt(Late):
    """Answers in every game two milliseconds after it was asked there."""

    def __init__(self) -> None:
        super().__init__()
        self.since: dict[int, float] = {}

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        now, mine = time.monotonic(), is_mine.nonzero().flatten().tolist()
        ready = [place for place in mine if now - self.since.get(place, now) >= 0.002]
        for place in mine:
            if place not in self.since:
                self.since[place] = now
                threading.Timer(0.003, self.bell.set).start()
        found = torch.full_like(words, engine.vocabulary.pad_token)
        if ready:
            found[ready] = Seated.moves(self, engine, is_mine, words)[ready]
        for place in ready:
            del self.since[place]
        return found


def test_a_slow_side_waits_for_those_who_answer_at_once() -> None:
    slow = Slow()
    table = MatchTable(
        (slow, Prompt()),
        8,
        board_size=4,
        rules=match_rules(max_moves=16),
        seed=0,
        device="cpu",
    )
    # Half of the games begin with each side, and would never be in one batch by themselves.
    began = time.perf_counter()
    games = list(table.play(fixtures_of(range(4), board_size=4, rules=match_rules(), seed=0)))
    # Of a batch each game has its share.
    of_slow = sum(game.seconds[0] for game in games)
    assert 0.15 * len(slow.numbers) <= of_slow <= time.perf_counter() - began
    assert slow.numbers[0] < 8 and max(slow.numbers) == 8


def test_a_temperature_draws_moves() -> None:
    model = new_model("board", 4)
    sides = [ModelContestant(model, temperature=t) for t in (0.0, 1.0)]
    rules = match_rules(max_moves=12)
    games = [
        play_match(side, get_player("rules"), 2, board_size=4, rules=rules).games for side in sides
    ]
    assert [game.moves for game in games[0]] != [game.moves for game in games[1]]
    assert isinstance(contestant_of(ModelPlayer(model)), ModelContestant)
    with pytest.raises(ValueError, match="temperature must be 0 to 1000, got -1"):
        ModelContestant(model, temperature=-1)


def played(number: int, is_black: bool, points: float, moves: tuple[int, ...]) -> PlayedGame:
    fixture = Fixture(number, is_black, ())
    return PlayedGame(fixture, moves, 0.0, points, digest_of(3, moves))


def test_results_are_counted_by_pairs() -> None:
    games = (
        *(played(0, True, 1, (1,)), played(0, False, 1, (2,))),
        *(played(1, True, 0.5, (1,)), played(1, False, 0, (3,))),
        *(played(2, True, 1, (4,)), played(2, False, 0, (5,))),
        played(3, True, 1, (6,)),
    )
    result = MatchResult(("a", "b"), games)
    assert result.pairs == (0, 1, 1, 0, 1) and result.num_duplicates == 1
    assert digest_of(3, (1, 2)) != digest_of(3, (12,)) and digest_of(3, (1,)) != digest_of(4, (1,))
    assert (result.wins, result.draws, result.losses) == (4, 1, 2)
    assert result.win_rate == pytest.approx(4.5 / 7)
    assert result.win_interval == wilson(4.5 / 7, 7)
    assert result.black_rate == pytest.approx((1 + 0 + 0.5 + 1 + 1 + 1 + 1) / 7)
    assert result.seconds_per_move == (None, None)
    assert result.mean_length == 1 and result.forfeits == (0, 0)
    timed = replace(games[0], seconds=(2.0, 6.0), num_chosen=(4, 3))
    lost = replace(games[5], forfeit="crashed", seconds=(1.0, 3.0), num_chosen=(2, 3))
    known = MatchResult(("a", "b"), (timed, lost))
    assert known.seconds_per_move == (0.5, 1.5) and known.forfeits == (1, 0)
    empty = MatchResult(("a", "b"), ())
    assert empty.win_rate is None and empty.win_interval is None and empty.mean_length is None
    # Wilson's own interval of 8 in 10, and of none in 5.
    assert wilson(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0.0, 5) == pytest.approx((0.0, 0.4344825), abs=1e-6)
