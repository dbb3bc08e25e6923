"""What holds for every game and every set of points, searched for counterexamples."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tessera.go import GPUGoEngine, Rules, distribution, get_player, play_games
from tessera.go import bitboard as bb

sizes = st.integers(2, 19)
small_sizes = st.integers(2, 6)
seeds = st.integers(0, 2**62)
PLAYERS = ["uniform", "rules"]
FIELDS = ("moves", "log_probs", "entropies", "captures", "legal")


def random_points(size: int, boards: int, seed: int, share: float = 0.5) -> Tensor:
    """(boards, n, n) bool, each point set with probability ``share``."""
    generator = torch.Generator().manual_seed(seed % 2**60)
    return torch.rand(boards, size, size, generator=generator) < share


def random_stones(size: int, boards: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of points (boards, n, n), whose density varies from board to board."""
    shares = torch.rand(boards, 1, 1, generator=torch.Generator().manual_seed(seed % 2**59))
    generator = torch.Generator().manual_seed(seed % 2**60)
    occupied = torch.rand(boards, size, size, generator=generator) < shares
    black = random_points(size, boards, seed + 1)
    return occupied & black, occupied & ~black


# Bitboards.


@settings(deadline=None, max_examples=25)
@given(size=sizes, boards=st.integers(1, 9), seed=seeds, share=st.sampled_from([0.0, 0.3, 1.0]))
def test_unpacking_a_packed_board_gives_it_back(
    size: int, boards: int, seed: int, share: float
) -> None:
    dense = random_points(size, boards, seed, share)
    rows = bb.pack(dense)
    assert rows.shape == (size, boards) and rows.dtype == torch.int32
    assert torch.equal(bb.unpack(rows), dense)
    assert int(rows[0, 0]) == sum(1 << column for column in range(size) if dense[0, 0, column])
    assert bb.popcount(rows).sum(0).tolist() == dense.sum((1, 2)).tolist()


@settings(deadline=None, max_examples=25)
@given(size=sizes, seed=seeds)
def test_points_are_numbered_in_the_order_of_tokens(size: int, seed: int) -> None:
    dense = random_points(size, 1, seed)
    tokens = dense.flatten().nonzero().flatten()
    rows = bb.pack(dense).expand(-1, len(tokens))
    row, column = bb.nth_point(rows, torch.arange(len(tokens)))
    assert torch.equal(row * size + column, tokens)


def chains(stones: list[list[bool]]) -> list[set[tuple[int, int]]]:
    """The connected parts of a board's stones, by walking."""
    left = {(r, c) for r, row in enumerate(stones) for c, stone in enumerate(row) if stone}
    result = []
    while left:
        chain, todo = set(), [left.pop()]
        while todo:
            r, c = todo.pop()
            chain.add((r, c))
            for beside in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if beside in left:
                    left.remove(beside)
                    todo.append(beside)
        result.append(chain)
    return result


def chain_liberties(chain: set[tuple[int, int]], empty: list[list[bool]]) -> int:
    """How many empty points a chain touches."""
    touched = {(r + d, c) for r, c in chain for d in (-1, 1)}
    touched |= {(r, c + d) for r, c in chain for d in (-1, 1)}
    inside = range(len(empty))
    return sum(r in inside and c in inside and empty[r][c] for r, c in touched)


@settings(deadline=None, max_examples=25)
@given(size=sizes, seed=seeds)
def test_liberties_of_chains_are_as_many_as_a_walk_finds(size: int, seed: int) -> None:
    boards = 6
    black, white = random_stones(size, boards, seed)
    empty = ~(black | white)
    rows, empty_rows = bb.pack(black), bb.pack(empty)
    dead = bb.unpack(bb.without_liberties(rows, empty_rows))
    atari = bb.unpack(bb.in_atari(rows, empty_rows))
    for board in range(boards):
        expected = {0: set(), 1: set()}
        for chain in chains(black[board].tolist()):
            count = chain_liberties(chain, empty[board].tolist())
            if count < 2:
                expected[count] |= chain
        assert {tuple(point) for point in dead[board].nonzero().tolist()} == expected[0]
        assert {tuple(point) for point in atari[board].nonzero().tolist()} == expected[1]


@settings(deadline=None, max_examples=25)
@given(size=sizes, seed=seeds)
def test_a_flood_fills_the_seeded_chains_and_no_others(size: int, seed: int) -> None:
    stones = random_points(size, 4, seed, 0.6)
    seed_points = random_points(size, 4, seed + 1, 0.1)
    filled = bb.unpack(bb.flood(bb.pack(seed_points), bb.pack(stones)))
    for board in range(4):
        seeded = {tuple(point) for point in (seed_points & stones)[board].nonzero().tolist()}
        touched = [chain for chain in chains(stones[board].tolist()) if chain & seeded]
        expected = set().union(*touched) if touched else set()
        assert {tuple(point) for point in filled[board].nonzero().tolist()} == expected


# Games.


@pytest.mark.parametrize("player", PLAYERS)
@settings(deadline=None, max_examples=4)
@given(size=small_sizes, seed=seeds, ko=st.sampled_from(["simple", "positional", "situational"]))
def test_a_game_is_the_same_in_whatever_batch_it_is_played(
    player: str, size: int, seed: int, ko: str
) -> None:
    def games(numbers: range | Tensor):
        rules = Rules(ko=ko)
        return play_games(player, numbers, seed=seed, board_size=size, rules=rules, needs=["legal"])

    together = games(range(100, 112))
    shuffled = torch.tensor(random.Random(seed).sample(range(100, 112), 5))
    for other in (games(shuffled), games(shuffled[:1])):
        for game, number in enumerate(other.numbers.tolist()):
            same = number - 100
            plies = int(together.lengths[same])
            assert int(other.lengths[game]) == plies
            assert float(other.results[game]) == float(together.results[same])
            for name in FIELDS:
                here, there = getattr(other, name), getattr(together, name)
                assert torch.equal(here[game, :plies], there[same, :plies]), name


def test_games_with_other_numbers_seeds_or_players_are_other_games() -> None:
    def moves(player: str, seed: int, number: int) -> list[int]:
        numbers = range(number, number + 1)
        return play_games(player, numbers, seed=seed, board_size=5).moves[0, :12].tolist()

    variants = [("uniform", 0, 0), ("uniform", 0, 1), ("uniform", 1, 0), ("rules", 0, 0)]
    assert len({tuple(moves(*variant)) for variant in variants}) == len(variants)


@settings(deadline=None, max_examples=8)
@given(size=small_sizes, seed=seeds, capture=st.sampled_from(["chains", "single"]))
def test_stones_played_are_on_the_board_or_captured(size: int, seed: int, capture: str) -> None:
    engine = GPUGoEngine(8, "cpu", size, Rules(capture=capture))
    generator = torch.Generator().manual_seed(seed)
    placed = torch.zeros(8, dtype=torch.int64)
    while not engine.is_game_over().all():
        legal = engine.get_legal_mask().float() + 1e-9
        legal[:, -1] *= 0.01
        moves = torch.multinomial(legal, 1, generator=generator).squeeze(1)
        moves[~engine.get_legal_mask().gather(1, moves.unsqueeze(1)).squeeze(1)] = size**2
        placed += (moves < size**2) & ~engine.is_game_over()
        engine.play_batch(moves)
        boards = engine.boards
        assert torch.equal(boards[:, :2].sum((1, 2, 3)) + engine.captured.sum(1), placed)
        assert boards.sum(1).eq(1).all()
        assert torch.equal(
            engine.move_number, engine.history.ne(engine.vocabulary.pad_token).sum(1)
        )


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("rules", ["full", "phase2", "tromp-taylor"])
def test_a_record_can_be_played_again_and_says_what_happened(player: str, rules: str) -> None:
    record = play_games(player, range(10), seed=5, board_size=5, rules=rules, needs=["legal"])
    engine = GPUGoEngine(10, "cpu", 5, rules)
    for ply in range(record.moves.shape[1]):
        going = ply < record.lengths
        assert torch.equal(going, ~engine.is_game_over())
        legal = bb.unpack(record.legal[:, ply].t().contiguous()).flatten(1)
        assert torch.equal(engine.get_legal_mask()[going, :-1], legal[going])
        moves = record.moves[:, ply].long()
        chances = distribution(get_player(player), engine).double()
        chosen = chances.gather(1, moves.clamp(max=25).unsqueeze(1)).squeeze(1)
        assert torch.allclose(chosen.log()[going], record.log_probs[going, ply].double(), atol=1e-5)
        entropies = torch.special.entr(chances).sum(1)
        assert torch.allclose(entropies[going], record.entropies[going, ply].double(), atol=1e-5)
        assert chances[:, :-1][~engine.get_legal_mask()[:, :-1] & going.unsqueeze(1)].eq(0).all()
        before = engine.captured.sum(1)
        engine.play_batch(torch.where(going, moves, 0), check=True)
        taken = engine.captured.sum(1) - before
        assert torch.equal(taken[going], record.captures[going, ply].long())
    assert engine.is_game_over().all()
    assert torch.equal(engine.score(), record.results)
    beyond = torch.arange(record.moves.shape[1]) >= record.lengths.unsqueeze(1)
    assert record.moves[beyond].eq(engine.vocabulary.pad_token).all()
    for name in ("log_probs", "entropies", "captures", "legal"):
        assert not getattr(record, name)[beyond].any()


@pytest.mark.parametrize("player", PLAYERS)
def test_no_player_fills_its_own_true_eye_or_passes_before_it_must(player: str) -> None:
    games, size = 12, 6
    record = play_games(player, range(games), seed=1, board_size=size)
    engine = GPUGoEngine(games, "cpu", size)
    num_eyes = num_passes = 0
    for ply in range(record.moves.shape[1]):
        moves = record.moves[:, ply].tolist()
        boards, turn, legal = engine.boards.tolist(), engine.turn.tolist(), engine.get_legal_mask()
        for game in (ply < record.lengths).nonzero().flatten().tolist():
            eyes = true_eyes(boards[game][turn[game]], boards[game][1 - turn[game]])
            num_eyes += len(eyes)
            if moves[game] == size**2:
                num_passes += 1
                assert set(legal[game, :-1].nonzero().flatten().tolist()) <= eyes
            else:
                assert moves[game] not in eyes
        engine.play_batch(record.moves[:, ply].long().clamp(max=size**2))
    assert num_eyes > 100
    assert num_passes >= games


def true_eyes(own: list[list[bool]], enemy: list[list[bool]]) -> set[int]:
    """Tokens of empty points with own stones on all sides and few enemies on the diagonals."""
    size = len(own)

    def there(board: list[list[bool]], points: list[tuple[int, int]]) -> list[bool]:
        return [board[r][c] for r, c in points if 0 <= r < size and 0 <= c < size]

    eyes = set()
    for r, c in ((r, c) for r in range(size) for c in range(size)):
        sides = there(own, [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)])
        corners = there(enemy, [(r + a, c + b) for a in (-1, 1) for b in (-1, 1)])
        may_be_enemies = 1 if len(corners) == 4 else 0
        if not (own[r][c] or enemy[r][c]) and all(sides) and sum(corners) <= may_be_enemies:
            eyes.add(r * size + c)
    return eyes


def test_uniform_games_end_by_themselves_near_110_plies_on_9x9() -> None:
    record = play_games("uniform", range(400), seed=0, board_size=9)
    assert 104 < record.lengths.float().mean() < 117
    assert (record.lengths < Rules().move_limit(9)).float().mean() > 0.9


@settings(deadline=None, max_examples=6)
@given(size=st.integers(2, 6), seed=seeds, suicide=st.booleans())
def test_turning_the_board_turns_the_legal_moves(size: int, seed: int, suicide: bool) -> None:
    black, white = random_stones(size, 64, seed)
    boards = torch.stack([black, white], 1)
    turn = torch.arange(64) % 2
    rules = Rules(suicide=suicide)

    def legal(planes: Tensor, mover: Tensor) -> Tensor:
        engine = GPUGoEngine(len(planes), "cpu", size, rules)
        engine.set_position(planes, mover)
        engine.capture_stones()
        engine.set_position(engine.boards, 1 - mover)
        engine.capture_stones()
        return engine.get_legal_mask()[:, :-1].view(-1, size, size)

    plain = legal(boards, turn)
    assert torch.equal(legal(boards.rot90(1, (2, 3)), turn), plain.rot90(1, (1, 2)))
    assert torch.equal(legal(boards.transpose(2, 3), turn), plain.transpose(1, 2))
    assert torch.equal(legal(boards.flip(1), 1 - turn), plain)
