"""The ring of positions: the newest stay, and the ends of games are told to the right ones."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go.randomness import SAMPLE, random_words
from tessera.play.position_ring import PositionRing, Positions

SIZE, SLOTS, ROWS = 3, 4, 5
POINTS = SIZE**2


def found(number: int) -> dict[str, Tensor]:
    """What is written at row ``number``: everything tells the row and the slot."""
    slots = torch.arange(SLOTS)
    weights = torch.zeros(SLOTS, POINTS + 1)
    weights[:, number % POINTS] = 1
    return {
        "tokens": slots,
        "rows": (slots[:, None, None] + number).expand(SLOTS, 5, SIZE) % 8,
        "turns": torch.full_like(slots, number % 2),
        "weights": weights,
        "actions": torch.full_like(slots, number % POINTS),
        "values": slots / 8,
    }


def ring_of(rows: int) -> PositionRing:
    ring = PositionRing(ROWS, SLOTS, SIZE, 100, torch.device("cpu"))
    for number in range(rows):
        ring.write(**found(number))
    return ring


def drawn(ring: PositionRing, written: int, window: int, count: int = 200) -> Positions:
    words = random_words(0, torch.arange(count), 0, SAMPLE)
    return ring.sample(words, written, window)


def test_ends_are_told_to_the_positions_of_their_game_and_seen_from_the_mover() -> None:
    ring = ring_of(4)
    over = torch.tensor([True, False, True, False])
    owners = torch.zeros(SLOTS, SIZE, SIZE, dtype=torch.int64)
    owners[:, 0] = 1
    score = torch.tensor([3.0, 9.0, -2.0, 9.0])
    ended = ring.end(over, torch.tensor([2, 0, 0, 0]), score, owners)
    wins = ring.tensors["wins"][:4]
    assert wins[:2, 0].isnan().all() and wins[:, [1, 3]].isnan().all()
    assert wins[2:, 0].tolist() == [1, 0]  # black moves in even rows
    assert wins[:, 2].tolist() == [0, 1, 0, 1]
    assert ring.tensors["scores"][:4, 2].tolist() == [-2, 2, -2, 2]
    assert ring.tensors["owners"][3, 0, 0].tolist() == [-127] * SIZE
    assert ended.is_own.sum() == 6


def test_a_game_longer_than_the_ring_is_told_to_what_is_left_of_it() -> None:
    ring = ring_of(7)
    none = torch.zeros(SLOTS, SIZE, SIZE)
    ring.end(torch.ones(SLOTS).bool(), torch.zeros(SLOTS).long(), torch.ones(SLOTS), none)
    assert ring.tensors["wins"].isfinite().all()
    ring.write(**found(7))
    assert ring.tensors["wins"][7 % ROWS].isnan().all()
    assert ring.tensors["wins"].isfinite().sum() == (ROWS - 1) * SLOTS


def test_only_the_newest_rows_are_drawn_each_of_them_and_all_turns() -> None:
    ring = ring_of(7)
    positions = drawn(ring, 7, 2)
    # What was played tells the row, wherever it was turned to: 5 and 6 are no corners.
    assert positions.weights.sum(1).eq(1).all()
    assert torch.equal(positions.weights.argmax(1), positions.actions)
    places = set(positions.actions.tolist())
    assert places == {1, 3, 5, 7} | {0, 2, 6, 8}  # turned from 5, an edge, and from 6, a corner
    assert set((positions.values * 8).tolist()) == {0, 1, 2, 3}
    assert torch.equal(drawn(ring, 7, 2).rows, positions.rows)


def test_the_colour_is_told_and_unknown_ends_stay_unknown() -> None:
    ring = ring_of(2)
    positions = drawn(ring, 2, 2)
    white = positions.rows[:, 5, 0] == 7
    assert white.any() and not white.all()
    assert positions.wins.isnan().all() and positions.owners.eq(0).all()
