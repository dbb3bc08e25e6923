"""All that an engine holds of its games, to be compared to the bit, and tokens from anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.go.branching import _PER_GAME
from tessera.go.randomness import WINDOW, below, random_words

# What 8, 16 or 32 bits make a token of, and what is just outside of the board.
WILD = [2**32 + 3, 2 - 2**32, 2**32, 65546, 65536, 256 + 1, -1, -(2**63), 2**63 - 1, 32768, -32768]


def everything(engine: GPUGoEngine) -> dict[str, Tensor]:
    """Copies of every tensor that belongs to the games, by name, with the game axis first."""
    position = engine.position
    sets = {"own": position.own, "opponent": position.opponent, "atari": position.atari}
    held = {name: rows.t() for name, rows in sets.items()}
    held |= {name: getattr(engine, name) for name in _PER_GAME}
    if engine.superko is not None:
        own_lost, opponent_lost, *others = engine.superko.per_game_tensors()
        for nth, tensor in enumerate((own_lost.t(), opponent_lost.t(), *others)):
            held[f"superko {nth}"] = tensor
    return {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in held.items()
    }


def hostile_moves(size: int, games: int, ply: int, seed: int, device: str = "cpu") -> Tensor:
    """A token (B,) int64 of each game: points, whether or not they are free, passes and wild ones.

    Every wild token comes up in turn, in another game each ply.
    """
    numbers = torch.arange(games, device=device)
    words = random_words(seed, numbers, ply, WINDOW)
    moves = below(words, torch.full_like(numbers, size**2))
    is_pass = below(random_words(seed + 1, numbers, ply, WINDOW), torch.full_like(numbers, 12)) == 0
    wild = [*WILD, size**2 + 1, size**2 + 2]
    is_wild = (numbers + ply) % max(3, games // 16) == 0
    return torch.where(is_pass, size**2, moves).masked_fill(is_wild, wild[ply % len(wild)])
