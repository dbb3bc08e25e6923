"""What is settled stays, whatever the opponent plays while the owner passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules, play_games, settled_points
from tessera.go.settled import pass_alive
from tests.go.capturable import SmallBoard, capturable

FOUR = pytest.param(4, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])


def rows_of(board: SmallBoard, points: Tensor) -> Tensor:
    """Row bitboards (n, B) of boards that are one number each."""
    n = board.size
    return torch.stack([points >> (n * row) & ((1 << n) - 1) for row in range(n)]).int()


def as_numbers(board: SmallBoard, rows: Tensor) -> Tensor:
    """The boards as one number each again."""
    n = board.size
    return sum((rows[row] << (n * row) for row in range(n)), torch.zeros_like(rows[0]))


@pytest.mark.parametrize("suicide", [False, True])
@pytest.mark.parametrize("size", [2, 3, FOUR])
def test_settled_stones_are_exactly_those_that_no_play_captures(size: int, suicide: bool) -> None:
    board = SmallBoard(size)
    can_be_captured = capturable(board, suicide)
    positions = settled = 0
    for own, foe in board.positions():
        stones, _ = pass_alive(rows_of(board, own), rows_of(board, foe), suicide)
        stones = as_numbers(board, stones)
        assert torch.equal(stones, own & ~can_be_captured[board.code(own, foe)])
        positions, settled = positions + len(own), settled + int(board.counts[stones].sum())
    assert positions == {2: 57, 3: 12_675, 4: 24_318_165}[size]
    assert settled > 0


@pytest.mark.parametrize("suicide", [False, True])
@pytest.mark.parametrize("size", [2, 3, FOUR])
def test_no_move_of_the_opponent_unsettles_a_point(size: int, suicide: bool) -> None:
    board = SmallBoard(size)
    moves = 0
    for positions in board.positions():
        found = pass_alive(*(rows_of(board, points) for points in positions), suicide)
        own_points = as_numbers(board, found[0] | found[1])
        some = own_points != 0
        own, foe = (points[some] for points in positions)
        stones, territory = (as_numbers(board, rows)[some] for rows in found)
        for games, left, after in board.moves(own, foe, suicide):
            rows = rows_of(board, left), rows_of(board, after)
            then = [as_numbers(board, points) for points in pass_alive(*rows, suicide)]
            assert not (stones[games] & ~then[0]).any()
            assert not (territory[games] & ~then[1]).any()
            # Nor does the opponent get a settled stone or point of its own in there.
            theirs = pass_alive(*rows[::-1], suicide)
            assert not (
                (stones | territory)[games] & as_numbers(board, theirs[0] | theirs[1])
            ).any()
            moves += len(games)
    # On 2×2 there are two stones, corner to corner, and without suicide no move at all.
    assert moves > 0 or (size == 2 and not suicide)


POSITIONAL, SUICIDE = Rules(), Rules(suicide=True)
SIMPLE_SUICIDE = Rules(ko="simple", suicide=True)


@pytest.mark.parametrize(
    ("games", "plies", "rules"),
    [
        (48, 50, POSITIONAL),
        (48, 50, SUICIDE),
        *(
            pytest.param(8192, 200, rules, marks=pytest.mark.slow)
            for rules in (POSITIONAL, SUICIDE, SIMPLE_SUICIDE)
        ),
    ],
)
def test_random_attacks_on_9x9_take_no_settled_point(games: int, plies: int, rules: Rules) -> None:
    record = play_games("uniform", range(games), seed=1, board_size=9, rules=rules)
    engine = GPUGoEngine(games, "cpu", 9, rules)
    for ply, moves in enumerate(record.moves.long().t()):
        stops = ply > record.lengths * (0.4 + 0.6 * torch.arange(games) / games)
        engine.play_batch(torch.where(stops, engine.vocabulary.pad_token, moves))
    attack = GPUGoEngine(games, "cpu", 9, Rules(rules.ko, rules.suicide, max_moves=2 * plies))
    owner = torch.arange(games) % 2
    attack.set_position(engine.boards, 1 - owner)
    generator = torch.Generator().manual_seed(0)

    def held() -> tuple[Tensor, Tensor]:
        """The owners' settled stones and territory."""
        found, black = attack.settled_points(), owner == 0
        return (
            torch.where(black, found.black_stones, found.white_stones),
            torch.where(black, found.black_territory, found.white_territory),
        )

    before, captures = held(), 0
    assert sum(int(rows.ne(0).any(0).sum()) for rows in before) > games / 2
    for _ in range(plies):
        legal = attack.get_legal_mask()
        legal[:, -1] &= legal.sum(1) == 1  # a pass only where there is nothing else
        attack.play_batch(torch.multinomial(legal.float(), 1, generator=generator).squeeze(1))
        captures += int(attack.last_captures.sum())
        attack.play_batch(torch.full((games,), attack.vocabulary.pass_token))
        now = held()
        for rows, same in zip(before, now, strict=True):
            assert not (rows & ~same).any()
        before = now
    assert captures > games  # the attacks were not idle


def test_stones_next_to_the_settled_ones_do_get_captured() -> None:
    # The attack of these tests finds what there is: one eye is not enough.
    board = SmallBoard(3)
    own, foe = torch.tensor([0b111_101_111]), torch.tensor([0])
    assert capturable(board, suicide=False)[board.code(own, foe)].item() == 0b111_101_111
    boards = torch.ones(1, 2, 3, 3, dtype=torch.bool)
    boards[:, 0, 1, 1], boards[:, 1] = False, False
    assert not settled_points(boards).black.any()
