"""What landmarks say of a game, against plain loops; and that a window knows what was before it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.model.features.landmarks import LandmarkFeatures
from tessera.vocabulary import Vocabulary

SIZE, LENGTH = 4, 11
WORDS = Vocabulary(SIZE)
TAKEN, FORBIDDEN, LARGE_ATARI = range(3)


def game(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens (1, L) and rows (1, L, 3, n) in which each point is often an event."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(1, LENGTH, 3, SIZE, SIZE, generator=generator) < 0.15
    tokens = torch.randint(SIZE**2 + 1, (1, LENGTH), generator=generator)
    return tokens, packed(points)


def packed(points: Tensor) -> Tensor:
    return (points.int() << torch.arange(SIZE, dtype=torch.int32)).sum(-1).int()


def encoded(features: LandmarkFeatures, tables: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
    """The map (B, L, n, n, C)."""
    features.check(tables, tokens)
    (_, planes), _ = features.encode(tables, tokens, tokens == WORDS.pad_token, None)
    assert planes is not None
    return planes.unflatten(0, tokens.shape)


@pytest.mark.parametrize("seed", range(3))
def test_a_map_holds_the_events_their_counts_by_colour_and_where_a_ko_was_closed(seed: int) -> None:
    features = LandmarkFeatures(8, WORDS.size)
    tokens, rows = game(seed)
    found = encoded(features, features.begun(rows), tokens)[0]
    counts = {(mover, kind): torch.zeros(SIZE**2) for mover in (0, 1) for kind in range(3)}
    num_closed = 0
    for ply, token in enumerate(tokens[0].tolist()):
        mover = ply % 2
        had_ko = (counts[0, FORBIDDEN] + counts[1, FORBIDDEN]) > 0  # before this position
        events = (rows[0, ply, ..., None] >> torch.arange(SIZE) & 1).flatten(1).float()
        for kind in range(3):
            counts[mover, kind] = counts[mover, kind] + events[kind]
        last = torch.arange(SIZE**2) == token
        closed = last & had_ko
        num_closed += int(closed.sum())
        own = [counts[mover, kind] for kind in range(3)]
        other = [counts[1 - mover, kind] for kind in range(3)]
        planes = [*events, *own, *other, closed.float(), last.float()]
        assert torch.equal(found[ply].flatten(0, 1).t(), torch.stack(planes)), ply
    assert num_closed


def test_five_stones_taken_at_once_are_many_and_nothing_else_is() -> None:
    features = LandmarkFeatures(1, WORDS.size)
    with torch.no_grad():
        features.up.weight.zero_()
        features.up.weight[0, -1] = 1  # of the flag alone
    points = torch.zeros(1, 6, 3, SIZE**2, dtype=torch.bool)
    for at, (kind, stones) in enumerate(
        [(TAKEN, 4), (TAKEN, 5), (FORBIDDEN, 9), (LARGE_ATARI, 9), (TAKEN, 9), (TAKEN, 0)]
    ):
        points[0, at, kind, :stones] = True
    tables = features.begun(packed(points.unflatten(-1, (SIZE, SIZE))))
    tokens = torch.full((1, 6), WORDS.pass_token)
    (added, _), _ = features.encode(tables, tokens, tokens == WORDS.pad_token, None)
    assert added.flatten().tolist() == [0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("length", [1, 2, 5, LENGTH])
def test_a_window_sees_what_the_whole_game_does(length: int) -> None:
    features = LandmarkFeatures(8, WORDS.size)
    tokens, rows = game()
    tables = features.begun(rows)
    whole = encoded(features, tables, tokens)[0]
    closed = 3 * 3  # the plane of kos that were closed: counts of what was before tell it
    assert whole[..., closed].any()
    last = encoded(features, features.last(tables, length), tokens[:, -length:])[0]
    assert torch.equal(last, whole[-length:])
    windows = encoded(features, features.windows(tables, length), tokens[0].unfold(0, length, 1))
    for start, window in enumerate(windows):
        assert torch.equal(window, whole[start : start + length]), start
