"""Turned boards: all eight are different, and everything of a position turns along."""

from __future__ import annotations

import torch

from tessera.go import GPUGoEngine
from tessera.go.features import board_rows
from tessera.go.symmetries import (
    NUM_SYMMETRIES,
    turned_moves,
    turned_points,
    turned_rows,
    turned_tokens,
)

SIZE = 4
ALL = torch.arange(NUM_SYMMETRIES)


def played(moves: list[torch.Tensor]) -> GPUGoEngine:
    engine = GPUGoEngine(NUM_SYMMETRIES, "cpu", SIZE)
    for tokens in moves:
        engine.play_batch(tokens)
    return engine


def test_a_turned_game_is_the_game_turned() -> None:
    # The corner's stone is taken; the last move is a pass.
    moves = [torch.full_like(ALL, token) for token in (0, 1, 15, 4, 6, SIZE**2)]
    plain = played(moves)
    turned = played([turned_tokens(tokens, ALL, SIZE) for tokens in moves])
    assert plain.captured.sum() > 0
    assert torch.equal(turned_rows(board_rows(plain), ALL), board_rows(turned))
    legal = turned_moves(plain.get_legal_mask().float(), ALL, SIZE)
    assert torch.equal(legal.bool(), turned.get_legal_mask())
    assert torch.equal(turned_points(plain.ownership(), ALL), turned.ownership())


def test_all_eight_are_different_and_neighbours_stay_neighbours() -> None:
    board = torch.arange(SIZE**2).view(1, SIZE, SIZE).expand(NUM_SYMMETRIES, -1, -1)
    turned = turned_points(board, ALL)
    assert len({tuple(each.flatten().tolist()) for each in turned}) == NUM_SYMMETRIES
    rows, columns = turned // SIZE, turned % SIZE
    steps = (rows.diff(dim=2).abs() + columns.diff(dim=2).abs()).flatten()
    assert steps.eq(1).all()


def test_what_is_no_point_stays_what_it_is() -> None:
    tokens = torch.full_like(ALL, SIZE**2 + 2)
    assert torch.equal(turned_tokens(tokens, ALL, SIZE), tokens)
