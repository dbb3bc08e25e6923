"""Positions for tests: games as vertices, boards as letters, and boards made of chance."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go.engine import GPUGoEngine
from tessera.go.rules import Rules


def play(engine: GPUGoEngine, *vertices: str) -> None:
    """Play one move after the other, checked, the same in every game of the batch."""
    for vertex in vertices:
        token = engine.vocabulary.token(vertex)
        engine.play_batch(torch.full((engine.batch_size,), token), check=True)


def is_legal(engine: GPUGoEngine, vertex: str, game: int = 0) -> bool:
    """Whether the mask of one game allows a vertex."""
    return bool(engine.get_legal_mask()[game, engine.vocabulary.token(vertex)])


def planes(picture: str) -> Tensor:
    """(1, 3, n, n) bool of a board drawn with X (black), O (white) and dots, top row first."""
    rows = [list(row) for row in picture.split()]
    return torch.tensor([[[[c == s for c in row] for row in rows] for s in "XO."]])


def picture(engine: GPUGoEngine, game: int = 0) -> str:
    """One game's board drawn with X, O and dots, rows separated by a blank."""
    board = engine.boards[game].int()
    letters = (board[0] + 2 * board[1]).tolist()
    return " ".join("".join(".XO"[stone] for stone in row) for row in letters)


def engine_at(board: str, turn: int = 0, rules: str | Rules = "full") -> GPUGoEngine:
    """One game on the CPU that starts from a drawn board."""
    dense = planes(board)
    engine = GPUGoEngine(1, device="cpu", board_size=dense.shape[-1], rules=rules)
    engine.set_position(dense, torch.tensor([turn]))
    return engine


def grown_boards(size: int, boards: int, seed: int) -> Tensor:
    """(boards, 2, n, n) bool: patches of either colour with gaps and strangers in them."""
    generator = torch.Generator().manual_seed(seed % 2**60)

    def noise(*shape: int) -> Tensor:
        return torch.rand(boards, *shape, generator=generator)

    field = torch.nn.functional.interpolate(noise(1, 4, 4), (size, size), mode="bilinear")[:, 0]
    is_black = (field < 0.5) ^ (noise(size, size) < noise(1, 1) * 0.1)
    has_stone = noise(size, size) < 0.5 + noise(1, 1) * 0.4
    return torch.stack([has_stone & is_black, has_stone & ~is_black], 1)
