"""Random openings: what both players of a match begin with, each of them once with either colour.

Shapes: K openings, L plies of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tessera.go import GPUGoEngine, Rules, get_player
from tessera.go.play import one_thread
from tessera.go.randomness import MOVE, OPENING, below, random_words
from tessera.setting_errors import whole_number

SHORTEST, LONGEST = 4, 8  # plies, if nothing else is asked for


def random_openings(
    numbers: Sequence[int],
    *,
    board_size: int,
    rules: str | Rules,
    seed: int,
    lengths: tuple[int, int] = (SHORTEST, LONGEST),
    player: str = "uniform",
) -> list[tuple[int, ...]]:
    """Openings by their numbers: so many plies of a built-in player, from the empty board.

    An opening is a pure function of (seed, number, lengths, player, rules, board size), on every
    device and however many are asked for. Its length is drawn evenly; it ends early where the
    player would pass. Nobody asks whether it is even: who plays it with both colours gains nothing.

    Args:
        numbers: K, any whole numbers.
        board_size: n.
        rules: which moves are legal.
        seed: any whole number.
        lengths: the least and the most plies, at least 0.
        player: ``uniform`` or ``rules``.

    Returns:
        K openings as tokens, points only.

    Raises:
        SettingError: for an unknown player or lengths that are none.
    """
    chosen = get_player(player)
    least = whole_number("openings", lengths[0], 0)
    most = whole_number("openings", lengths[1], least)
    if not numbers:
        return []
    engine = GPUGoEngine(len(numbers), "cpu", board_size, rules, "torch")
    keys = torch.tensor(list(numbers), dtype=torch.int64)
    words = random_words(seed, keys, 0, OPENING)
    plies = least + below(words, torch.full_like(words, most - least + 1))
    with one_thread():
        for ply in range(min(most, engine.max_moves)):
            drawn = random_words(seed, words, ply, MOVE)
            engine.play_batch(chosen.choose(engine, drawn).moves)
    pass_token, history = engine.vocabulary.pass_token, engine.history.tolist()
    openings = []
    for moves, length in zip(history, plies.tolist(), strict=True):
        opening = moves[: min(length, engine.max_moves)]
        end = opening.index(pass_token) if pass_token in opening else len(opening)
        openings.append(tuple(opening[:end]))
    return openings
