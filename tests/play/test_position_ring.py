"""The ring of positions: the newest stay, and the ends of games are told to the right ones."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go.bitboard import unpack
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


def test_all_that_is_known_of_a_position_is_turned_together() -> None:
    ring = PositionRing(2, POINTS, SIZE, 100, torch.device("cpu"))
    points, one = torch.arange(POINTS), torch.eye(POINTS)
    rows = torch.zeros(POINTS, 5, SIZE, dtype=torch.int64)
    for point in range(POINTS):  # a stone, where the move was and is, and whose point it will be
        rows[point, :, point // SIZE] = 1 << point % SIZE
    weights = torch.cat([one, torch.zeros(POINTS, 1)], 1)
    known = {"wins": points / 8, "scores": points, "owners": 127 * one.view(-1, SIZE, SIZE)}
    for turn in (0, 1):
        ring.write(
            **{"tokens": points, "rows": rows, "turns": torch.full((POINTS,), turn)},
            **{"weights": weights, "actions": points, "values": points / 8 * (1 - 2 * turn)},
            **known,
        )
    found = drawn(ring, 2, 2, 400)
    assert torch.equal(found.weights.argmax(1), found.actions)
    assert torch.equal(found.tokens, found.actions)
    assert torch.equal(found.owners.flatten(1), one[found.actions])
    assert torch.equal(unpack(found.rows[:, 0].t()).flatten(1).float(), one[found.actions])
    # What has no place stays as it is: the other turns of an edge are edges.
    corners, edges = ({0, 2, 6, 8}, {1, 3, 5, 7})
    for places in (corners, edges):
        drawn_there = found.scores[[int(each) in places for each in found.actions]]
        assert set(drawn_there.int().tolist()) == places
    is_white = found.rows[:, 5].eq(2**SIZE - 1).all(1)
    moved = found.scores > 0
    assert torch.equal(is_white[moved], (found.values < 0)[moved]) and is_white[moved].any()
