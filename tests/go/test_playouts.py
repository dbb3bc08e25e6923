"""Playouts are games from the given positions, counted right, and the same however they are cut."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.go import (
    Choice,
    GameLoop,
    GPUGoEngine,
    NotWanted,
    Playouts,
    Rules,
    distribution,
    get_player,
    play_games,
    play_out,
    playouts,
)
from tessera.go.features import BOARD_SETS, board_rows
from tessera.go.randomness import PLAYOUT, random_words
from tests.go.positions import engine_at
from tests.go.states import everything

RULES = ["full", "tromp-taylor", "phase2"]


def half_way(size: int, batch: int, plies: int, rules: str | Rules = "full") -> GPUGoEngine:
    """Positions after the first plies of uniform games."""
    engine = GPUGoEngine(batch, "cpu", size, rules)
    record = play_games("uniform", range(batch), seed=4, board_size=size, rules=rules)
    for moves in record.moves[:, :plies].long().t():
        engine.play_batch(moves)
    return engine


def tensors(played: Playouts) -> dict[str, Tensor]:
    """All that was counted, by name."""
    values = {field.name: getattr(played, field.name) for field in fields(played)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def assert_same(one: Playouts, other: Playouts) -> None:
    assert one.num_games == other.num_games
    for name, tensor in tensors(one).items():
        assert torch.equal(tensor, tensors(other)[name]), name


@pytest.mark.parametrize("player", ["uniform", "rules"])
@pytest.mark.parametrize("rules", [*RULES, Rules(komi=6.0, score="pass_alive", max_moves=20)])
def test_from_the_empty_board_they_are_the_games_of_hashed_numbers(
    player: str, rules: str | Rules
) -> None:
    engine = GPUGoEngine(2, "cpu", 4, rules)
    played = play_out(engine, 50, player=player, seed=9, numbers=torch.tensor([3, -(2**50)]))
    for position, number in enumerate((3, -(2**50))):
        hashed = random_words(9, torch.full((50,), number), torch.arange(50), PLAYOUT)
        record = play_games(player, hashed, seed=9, board_size=4, rules=rules)
        results = record.results.double()
        is_draw = results == 0
        assert int(played.plies[position]) == int(record.lengths.sum())
        assert int(played.wins[position]) == int((results > 0).sum())
        assert int(played.draws[position]) == int(is_draw.sum())
        assert float(played.scores[position]) == pytest.approx(float(results.mean()))
        error = float(results.std()) / math.sqrt(50)
        assert float(played.score_errors[position]) == pytest.approx(error)
        points = (results > 0).double() + is_draw / 2
        assert float(played.win_rates[position]) == pytest.approx(float(points.mean()))
        error = float(points.std()) / math.sqrt(50)
        assert float(played.win_rate_errors[position]) == pytest.approx(error)
        firsts = record.moves[:, 0].long()
        assert torch.equal(played.first_moves[position], firsts.bincount(minlength=17))
        for move in firsts.unique():
            mean = float(results[firsts == move].mean())
            assert float(played.move_scores[position, move]) == pytest.approx(mean)
    assert played.move_scores.isnan().equal(played.first_moves == 0)


def test_the_cases_with_whole_komi_have_draws() -> None:
    rules = Rules(komi=6.0, score="pass_alive", max_moves=20)
    played = play_out(GPUGoEngine(1, "cpu", 4, rules), 200, player="uniform")
    assert 0 < int(played.draws) < 200 - int(played.wins) < 200


@pytest.mark.parametrize("rules", RULES)
def test_however_they_are_cut_the_counts_are_the_same(
    rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = half_way(4, 3, 9, rules)
    whole = play_out(engine, 10, seed=1)
    parts = [play_out(engine, games, seed=1, first=first) for first, games in ((0, 3), (3, 7))]
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, sum(tensors(part)[name] for part in parts)), name
    for chunk in (7, 11):
        monkeypatch.setattr(playouts, "_GAMES_AT_ONCE", chunk)
        assert_same(whole, play_out(engine, 10, seed=1))
    order = torch.tensor([2, 0, 2])
    engine.keep(order)
    again = play_out(engine, 10, seed=1, numbers=order)
    for name, tensor in tensors(again).items():
        assert torch.equal(tensor, tensors(whole)[name][order]), name
    other = play_out(engine, 10, seed=1)
    assert int(other.plies[0]) != int(other.plies[2]), "one position under two numbers"
    assert not torch.equal(play_out(engine, 10, seed=2).plies, other.plies)


def test_long_games_are_played_fewer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = half_way(3, 2, 4)
    whole = play_out(engine, 40)
    held = []
    count = playouts._count

    def note(ends: GPUGoEngine, *given: Any) -> None:
        held.append(ends.num_bytes())
        count(ends, *given)

    monkeypatch.setattr(playouts, "_count", note)
    monkeypatch.setattr(playouts, "_BYTES_AT_ONCE", 10 * engine.num_bytes())
    assert_same(whole, play_out(engine, 40))
    assert max(held) <= 10 * engine.num_bytes() and len(held) >= 4


@pytest.mark.parametrize("player", ["uniform", "rules"])
@pytest.mark.parametrize("size", [2, 5, 9])
def test_counts_fit_together_and_the_engine_stays_as_it_was(size: int, player: str) -> None:
    engine = half_way(size, 4, size**2 // 2)
    before = everything(engine)
    played = play_out(engine, 30, player=player)
    for name, tensor in everything(engine).items():
        assert torch.equal(tensor, before[name]), name
    assert played.first_moves.sum(1).tolist() == [30] * 4
    legal = engine.get_legal_mask()
    assert not played.first_moves[~legal].any()
    assert torch.equal(played.owners.sum((1, 2)), played.areas)
    assert torch.equal(played.first_areas.sum(1), played.areas)
    assert played.ownership.abs().max() <= 1 and played.ownership.shape == (4, size, size)
    areas = played.ownership.sum((1, 2))
    torch.testing.assert_close(areas - engine.rules.komi, played.scores)
    assert ((played.win_rates >= 0) & (played.win_rates <= 1)).all()
    assert ((played.wins >= 0) & (played.draws >= 0)).all()
    assert (played.wins + played.draws <= 30).all()
    assert all(tensor.dtype == torch.int64 for tensor in tensors(played).values())


SETTLED = {"black": (".X. XXX XXX", 1.0, 1.5), "white": (".O. OOO OOO", 0.0, -16.5)}


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("owner", SETTLED)
def test_a_settled_position_is_won_in_every_game(owner: str, turn: int) -> None:
    board, win_rate, score = SETTLED[owner]
    played = play_out(engine_at(board, turn), 20)
    assert played.win_rates.tolist() == [win_rate] and played.win_rate_errors.tolist() == [0.0]
    assert played.scores.tolist() == [score] and played.score_errors.tolist() == [0.0]
    assert (played.ownership == (1 if owner == "black" else -1)).all()
    # Both pass: the one would fill an eye, the other has no legal point.
    assert int(played.plies) == 2 * 20 and int(played.first_moves[0, -1]) == 20


def test_after_a_pass_one_more_ends_the_game() -> None:
    engine = engine_at(".X. XXX XXX", 1)
    engine.play_batch(torch.tensor([9]))
    played = play_out(engine, 8)
    assert int(played.plies) == 8 and played.win_rates.tolist() == [1.0]


@pytest.mark.parametrize("end", ["passes", "max_moves"])
def test_a_position_that_is_over_gives_its_score(end: str) -> None:
    engine = half_way(4, 3, 9, Rules(max_moves=9 if end == "max_moves" else 99))
    if end == "passes":
        for _ in range(2):
            engine.play_batch(torch.full((3,), 16))
    assert engine.is_game_over().all()
    played = play_out(engine, 5)
    assert torch.equal(played.scores, engine.score().double())
    assert torch.equal(played.ownership, engine.ownership().double())
    assert not (played.plies.any() or played.first_moves.any() or played.first_areas.any())
    assert played.move_scores.isnan().all()


@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_one_ply_from_the_limit_each_first_move_has_the_score_after_it(player: str) -> None:
    engine = half_way(5, 3, 14, Rules(max_moves=15))
    games = 4000
    played = play_out(engine, games, player=player)
    assert played.plies.tolist() == [games] * 3
    for move in range(26):
        after = half_way(5, 3, 14, Rules(max_moves=15))
        after.play_batch(torch.full((3,), move))
        seen = played.first_moves[:, move] > 0
        assert torch.equal(played.move_scores[seen, move], after.score().double()[seen])
    expected = distribution(get_player(player), engine).double()
    assert not played.first_moves[expected == 0].any()
    error = (expected * (1 - expected) / games).sqrt()
    assert ((played.first_moves / games - expected).abs() <= 5 * error).all()


def test_superko_and_simple_ko_forbid_what_they_forbid_in_the_game() -> None:
    for rules in ("full", Rules(ko="simple")):
        engine = engine_at(".XO. X.XO .XO. ....", 1, rules)
        token = engine.vocabulary.token
        engine.play_batch(torch.tensor([token("B3")]))  # takes C3, which black must not retake
        played = play_out(engine, 60, player="uniform")
        assert int(played.first_moves[0, token("C3")]) == 0
        forgotten = GPUGoEngine(1, "cpu", 4, rules)
        forgotten.set_position(engine.boards, engine.turn)
        played = play_out(forgotten, 60, player="uniform")
        assert int(played.first_moves[0, token("C3")]) > 0


@pytest.mark.parametrize("rules", [Rules(), Rules(suicide=True), Rules(ko="situational")])
def test_no_playout_repeats_a_position(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = half_way(3, 8, 9, rules)
    ended: list[Tensor] = []
    monkeypatch.setattr(playouts, "_count", lambda ends, *_: ended.append(ends.history))
    play_out(engine, 40, player="uniform")
    history = torch.cat(ended)
    assert len(history) == 8 * 40
    again = GPUGoEngine(len(history), "cpu", 3, rules)
    seen: list[set[bytes]] = [set() for _ in history]
    forbidden, at = 0, BOARD_SETS.index("forbidden")
    for ply in range(history.shape[1] + 1):
        boards, turns, over = again.boards, again.turn.tolist(), again.is_game_over()
        forbidden += int(board_rows(again)[~over, at].count_nonzero())
        for game in (~over).nonzero().flatten().tolist():
            state = boards[game].numpy().tobytes()
            if rules.ko == "situational":
                state += bytes([turns[game]])
            # A pass repeats the board, and nothing forbids it.
            was_stone = ply > 0 and int(history[game, ply - 1]) < 9
            assert not (was_stone and state in seen[game])
            seen[game].add(state)
        if ply < history.shape[1]:
            again.play_batch(history[:, ply].clamp(max=9), check=True)
    assert again.is_game_over().all() and forbidden > 20


class Opening:
    """A built-in player after some given moves."""

    def __init__(self, name: str, moves: list[int]) -> None:
        self.name, self._moves, self._player = name, moves, get_player(name)

    def begin(self, engine: GPUGoEngine) -> None:
        """Nothing is remembered."""

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        ply = int(engine.move_number[0])
        choice = self._player.choose(engine, words)
        if ply >= len(self._moves):
            return choice
        moves = torch.full_like(choice.moves, self._moves[ply])
        return Choice(moves, choice.log_probs, choice.entropies)

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        """Nothing is remembered."""


@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_the_loop_of_games_agrees_within_the_errors(player: str) -> None:
    games, opening = 1500, [12, 7, 11, 13, 8, 6, 17, 2]
    engine = GPUGoEngine(1, "cpu", 5, Rules(komi=2.0))
    for move in opening:
        engine.play_batch(torch.tensor([move]), check=True)
    played = play_out(engine, games, player=player)
    loop = GameLoop(
        Opening(player, opening), games, board_size=5, rules=Rules(komi=2.0), drops_finished=True
    )
    record = loop.play(torch.arange(games))
    results = record.results.double()
    points = (results > 0).double() + (results == 0) / 2
    pairs = [
        (played.scores, played.score_errors, results),
        (played.win_rates, played.win_rate_errors, points),
    ]
    for mean, error, other in pairs:
        others = float(other.std()) / math.sqrt(games)
        assert float(error) == pytest.approx(others, rel=0.15) and others > 0
        both = math.hypot(float(error), others)
        assert abs(float(mean) - float(other.mean())) < 5 * both
    counts = record.moves[:, len(opening)].long().bincount(minlength=26)
    # Two counts of the same expected number differ by a variance of at most their sum.
    difference = (counts - played.first_moves[0]).abs()
    assert (difference <= 5 * (counts + played.first_moves[0]).clamp(min=1).sqrt()).all()


def test_one_game_alone_has_no_error() -> None:
    played = play_out(half_way(4, 2, 5), 1)
    assert played.win_rate_errors.isnan().all() and played.score_errors.isnan().all()
    assert not played.scores.isnan().any()


def test_playouts_that_nobody_wants_any_more_end_within_a_ply() -> None:
    engine, asked = GPUGoEngine(1, "cpu", 5, "full", backend="torch"), []

    def is_wanted() -> bool:
        asked.append(True)
        return len(asked) < 4

    with pytest.raises(NotWanted):
        play_out(engine, 8, is_wanted=is_wanted)
    assert len(asked) == 4
    wanted = play_out(engine, 8, is_wanted=lambda: True)
    assert torch.equal(wanted.areas, play_out(engine, 8).areas)


def test_no_positions_give_no_counts() -> None:
    engine = half_way(3, 2, 2)
    engine.keep(torch.arange(0))
    assert [len(table) for table in tensors(play_out(engine, 3)).values()] == [0] * 8


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"player": "nobody"}, "player must be one of uniform, rules, got nobody"),
    ({"num_games": 0}, "num_games must be at least 1, got 0"),
    ({"num_games": 2.0}, "num_games must be a whole number"),
    ({"first": -1}, "first must be at least 0, got -1"),
    ({"seed": "x"}, "seed must be a whole number"),
    ({"numbers": torch.arange(3)}, r"numbers must be a tensor \(2,\) of whole numbers"),
    ({"numbers": torch.zeros(2)}, r"numbers must be a tensor \(2,\) of whole numbers"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        play_out(GPUGoEngine(2, "cpu", 3), **({"num_games": 3} | arguments))


@pytest.mark.slow
@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_a_thousand_playouts_of_a_9x9_position_take_less_than_a_second(player: str) -> None:
    engine = half_way(9, 1, 40)
    play_out(engine, 10, player=player)
    began = time.process_time()
    play_out(engine, 1000, player=player)
    assert time.process_time() - began < 1
