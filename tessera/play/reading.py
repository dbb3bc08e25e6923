"""What a model with features is given of games that are known by their moves, or being played.

Shapes: G games, T plies, B games that are being played.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.features import FEATURES, replayed
from tessera.model import GameModel


def tables_of(
    model: GameModel,
    moves: Tensor,
    board_size: int,
    rules: str | Rules,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """The tables of the model's features for whole games; none for a model without.

    Args:
        model: whose features are asked for, on the device where the tables will live.
        moves: (G, T) int64 tokens, PAD beyond a game's end.
        board_size: n.
        rules: by which the games were played.
        start: from which boards (G, 2, n, n), and whose turn it was (G,); None for the empty board.

    Returns:
        Tables of T + 1 positions: the one from the start, and that after each ply.

    Raises:
        SettingError: if there is no such table.
    """
    if model.features is None:
        return ()
    rows = replayed(model.features.table, moves, board_size, rules, model.device, start)
    return model.features.begun(rows)


def reader_of(model: GameModel) -> Callable[[GPUGoEngine], tuple[Tensor, ...]]:
    """A function that reads the model's tables, (B, …), off an engine's games as they stand.

    Raises:
        ValueError: if there is no such table.
    """
    features = model.features
    if features is None:
        return lambda engine: ()
    if features.table not in FEATURES:
        known = ", ".join(FEATURES)
        raise ValueError(f"features must read one of the tables {known}, got {features.table}.")
    read = FEATURES[features.table].read
    return lambda engine: features.begun(read(engine))
