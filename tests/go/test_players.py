"""The built-in players: their distributions, their records, and how their games end."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.go import GPUGoEngine, distribution, get_player, play_games
from tessera.go.engine import BLACK
from tessera.go.randomness import MOVE, random_words
from tessera.vocabulary import Vocabulary

SIZE = 9
GO9 = Vocabulary(SIZE)


def engine_after(moves: str, size: int = SIZE) -> GPUGoEngine:
    """One game after these vertices, black first."""
    engine = GPUGoEngine(1, "cpu", size)
    for vertex in moves.split():
        engine.play_batch(torch.tensor([Vocabulary(size).token(vertex)]), check=True)
    return engine


def weight_ratio(engine: GPUGoEngine, vertex: str, other: str) -> float:
    """How many times as likely the rule-based player plays the first vertex as the second."""
    probabilities = distribution(get_player("rules"), engine)[0]
    vocabulary = engine.vocabulary
    return float(probabilities[vocabulary.token(vertex)] / probabilities[vocabulary.token(other)])


@pytest.mark.parametrize("player", ["uniform", "rules"])
@pytest.mark.parametrize("rules", ["full", "tromp-taylor", "phase2"])
def test_record_holds_the_exact_probabilities_of_the_distribution(player: str, rules: str) -> None:
    record = play_games(player, range(8), seed=3, board_size=5, rules=rules)
    engine = GPUGoEngine(8, "cpu", 5, rules)
    for ply in range(record.moves.shape[1]):
        going = ply < record.lengths
        probabilities = distribution(get_player(player), engine).double()
        assert torch.allclose(probabilities.sum(1), torch.ones(8).double(), atol=1e-6)
        moves = torch.where(going, record.moves[:, ply].long(), engine.vocabulary.pass_token)
        played = probabilities.gather(1, moves.unsqueeze(1)).squeeze(1).log()
        entropies = torch.special.entr(probabilities).sum(1)
        assert torch.allclose(record.log_probs[:, ply].double()[going], played[going], atol=1e-5)
        assert torch.allclose(record.entropies[:, ply].double()[going], entropies[going], atol=1e-5)
        legal = engine.get_legal_mask()
        assert not bool((probabilities > 0)[going].logical_and(~legal[going]).any())
        engine.play_batch(moves, check=True)
    assert bool(engine.is_game_over().all())
    assert torch.equal(engine.score(), record.results)


@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_draws_follow_the_distribution(player: str) -> None:
    engine = GPUGoEngine(1, "cpu", 5)
    for vertex in ("C3", "D3", "C2", "D2", "C4"):
        engine.play_batch(torch.tensor([Vocabulary(5).token(vertex)]))
    num_draws = 20_000
    many = GPUGoEngine(num_draws, "cpu", 5)
    many.set_position(
        engine.boards.expand(num_draws, -1, -1, -1), engine.turn.expand(num_draws).contiguous()
    )
    words = random_words(0, torch.arange(num_draws), 0, MOVE)
    expected = distribution(get_player(player), many)[0]
    moves = get_player(player).choose(many, words).moves
    seen = moves.bincount(minlength=26) / num_draws
    chi_square = (seen - expected).square() / expected.clamp(min=1e-12) * num_draws
    assert float(seen[expected == 0].sum()) == 0
    # 25 points: the 99.9th percentile of chi-square with 24 degrees of freedom is 51.2.
    assert float(chi_square[expected > 0].sum()) < 51.2


def test_uniform_games_end_by_themselves_near_110_plies_on_9x9() -> None:
    record = play_games("uniform", range(256), seed=0, board_size=9)
    lengths = record.lengths.float()
    assert 106 < lengths.mean() < 116
    assert (lengths < 2 * SIZE**2).float().mean() > 0.98
    passes = record.moves == GO9.pass_token
    last_two = torch.stack([record.lengths - 1, record.lengths - 2], 1).long()
    ended = lengths < 2 * SIZE**2
    assert bool(passes.gather(1, last_two)[ended].all())


def test_a_pass_is_played_only_when_nothing_else_is_left() -> None:
    record = play_games("uniform", range(32), seed=5, board_size=5, needs=["legal"])
    passes = record.moves == 25
    assert bool((record.entropies[passes] == 0).all())
    assert bool((record.log_probs[passes] == 0).all())
    opening = record.entropies[:, 0]
    assert torch.allclose(opening, torch.full_like(opening, math.log(25)))


def test_games_do_not_depend_on_the_batch_they_are_played_in() -> None:
    together = play_games("rules", range(100, 140), seed=7, board_size=7)
    alone = play_games("rules", torch.tensor([139, 117]), seed=7, board_size=7)
    for index, number in enumerate((39, 17)):
        length = int(alone.lengths[index])
        assert int(together.lengths[number]) == length
        assert torch.equal(together.moves[number, :length], alone.moves[index, :length])
        assert together.results[number] == alone.results[index]
    other_seed = play_games("rules", range(100, 140), seed=8, board_size=7)
    assert not torch.equal(other_seed.moves[:, :20], together.moves[:, :20])


def test_captures_in_the_record_are_the_stones_that_left_the_board() -> None:
    record = play_games("rules", range(16), seed=2, board_size=7)
    engine = GPUGoEngine(16, "cpu", 7)
    for ply in range(record.moves.shape[1]):
        engine.play_batch(record.moves[:, ply].long())
    assert torch.equal(record.captures.sum(1), engine.captured.sum(1))
    stones = engine.boards[:, :2].flatten(1).sum(1)
    placed = (record.moves < 49).sum(1)
    assert torch.equal(placed - record.captures.sum(1), stones)


def test_capturing_weighs_sixteen_times_as_much() -> None:
    # White's A1 has its last liberty at B1; B1 and J4 are both on the first line.
    engine = engine_after("A2 A1 E5 H8")
    assert engine.turn[0] == BLACK
    assert weight_ratio(engine, "B1", "J4") == pytest.approx(16)


def test_moves_around_the_last_move_weigh_eight_times_as_much() -> None:
    engine = engine_after("C3 G7")
    assert weight_ratio(engine, "G6", "E3") == pytest.approx(8)
    assert weight_ratio(engine, "H8", "E3") == pytest.approx(8)
    assert weight_ratio(engine, "G5", "E3") == pytest.approx(1)


def test_early_first_line_moves_weigh_an_eighth() -> None:
    engine = engine_after("C3 G7")
    assert weight_ratio(engine, "A5", "C5") == pytest.approx(1 / 8)
    late = engine_after("C3 G7 C4 G6 C5 G5 D3 H7 D4 H6 D5 H5 E3 J7 E4 J6 E5 J5 B3 J8")
    assert late.move_number[0] == 20
    assert weight_ratio(late, "A7", "C7") == pytest.approx(1)


def test_rescuing_weighs_more_only_where_the_chain_gets_room() -> None:
    # Black's E5 is in atari at E4, where it gets out; E4 is also no shape and away from B2.
    engine = engine_after("E5 E6 B8 D5 H8 F5 H2 B2")
    assert weight_ratio(engine, "E4", "G6") == pytest.approx(16)


def test_self_atari_weighs_a_sixteenth() -> None:
    # White stones at A2 and B1 leave A1 without an empty neighbour; C1 has one.
    engine = engine_after("E5 B2 E6 C2 E7 D1 G3 H8")
    # C1 is next to C2 and D1 (white): its only empty neighbour is B1.
    ratio = weight_ratio(engine, "C1", "E1")
    assert ratio == pytest.approx(1 / 16)


def test_hane_and_cut_weigh_eight_times_as_much() -> None:
    # Black D5 and white E5 stand side by side: E4 and E6 are hane.
    engine = engine_after("D5 E5 A9 J9")
    assert weight_ratio(engine, "E4", "G3") == pytest.approx(8)
    assert weight_ratio(engine, "E6", "G3") == pytest.approx(8)
    # Black D5, white E5 and D4: E4 cuts them.
    engine = engine_after("D5 E5 A9 D4 H9 J1")
    assert weight_ratio(engine, "E4", "G3") == pytest.approx(8)


def test_no_own_true_eye_is_filled() -> None:
    record = play_games("uniform", range(64), seed=1, board_size=6)
    engine = GPUGoEngine(64, "cpu", 6)
    filled = 0
    for ply in range(record.moves.shape[1]):
        planes = engine.boards
        moves = record.moves[:, ply].long()
        for game in range(64):
            token = int(moves[game])
            if token < 36 and _is_true_eye(
                planes[game, int(engine.turn[game])], planes[game], token
            ):
                filled += 1
        engine.play_batch(moves)
    assert filled == 0


def _is_true_eye(own: torch.Tensor, planes: torch.Tensor, token: int) -> bool:
    size = own.shape[0]
    row, column = divmod(token, size)
    inside = lambda r, c: 0 <= r < size and 0 <= c < size  # noqa: E731
    beside = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    if not all(own[r, c] for r, c in beside if inside(r, c)):
        return False
    corners = [(row + r, column + c) for r in (-1, 1) for c in (-1, 1)]
    enemies = sum(bool(not own[r, c] and not planes[2, r, c]) for r, c in corners if inside(r, c))
    on_edge = any(not inside(r, c) for r, c in corners)
    return enemies == 0 if on_edge else enemies <= 1


def test_unknown_player_is_named() -> None:
    with pytest.raises(ValueError, match="player must be one of uniform, rules, got gnugo"):
        play_games("gnugo", range(1), seed=0, board_size=5)
    with pytest.raises(ValueError, match="at least one game"):
        play_games("uniform", range(0), seed=0, board_size=5)
