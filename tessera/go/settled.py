"""Settled points: stones that no attack captures, and the points they enclose, by Benson.

Three definitions make it up, for each colour by itself:

* A *region* of a colour is a connected part of the points without a stone of that colour, at least
  one of them empty. It is *vital* to a chain of the colour if all its empty points are liberties of
  the chain. Where suicide is allowed, all its points, those with enemy stones too, have to touch
  the chain: the opponent can empty such a region and fill it again in another order.
* *Pass-alive* is the largest set of chains such that each has two regions that are vital to it and
  touch no chain of the colour outside of the set. However often the owner passes, the opponent
  cannot capture one of them.
* *Territory* is a region that touches pass-alive chains and no others, and in which at most one
  point, empty or not, touches no stone of the colour. An eye is such a point, so the opponent
  never has two there and whatever stands there is dead.

No territory holds a pass-alive stone of the other colour, so no point is settled for both.

Source: David B. Benson, "Life in the game of Go" (1976), for the chains; KataGo's
``Board::calculateArea`` with ``safeBigTerritories`` off for suicide and the territory.

Shapes: B games, n rows, bitboards (n, B) as in ``bitboard``. K columns are any number of boards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.go.backend import resolve_backend
from tessera.go.bitboard import count_points, flood, neighbours, pack, row_mask, single
from tessera.go.contract import whole_numbers


@dataclass(frozen=True, slots=True)
class Settled:
    """The settled points of B boards, row bitboards (n, B) int32; no point is in two of them.

    Attributes:
        black_stones: black's pass-alive stones.
        white_stones: white's.
        black_territory: points enclosed by black's, empty or with dead white stones.
        white_territory: points enclosed by white's, empty or with dead black stones.
    """

    black_stones: Tensor
    white_stones: Tensor
    black_territory: Tensor
    white_territory: Tensor

    @property
    def black(self) -> Tensor:
        """Every point that is settled as black's, (n, B)."""
        return self.black_stones | self.black_territory

    @property
    def white(self) -> Tensor:
        """Every point that is settled as white's, (n, B)."""
        return self.white_stones | self.white_territory

    @property
    def both(self) -> Tensor:
        """Every settled point, (n, B)."""
        return self.black | self.white


def settled_points(boards: Tensor, suicide: bool = False, backend: str = "auto") -> Settled:
    """The pass-alive stones and the pass-alive territory of both colours on each board.

    It looks at the stones only, so whose turn it is, ko and superko make no difference: they can
    only forbid the opponent more. The owner may pass for ever, but can still give points away by
    filling eyes. Chains have to be captured whole. Stones without liberties may stand on a board,
    but then nothing is promised of it.

    Args:
        boards: (B, 2 or 3, n, n) bool or whole numbers, planes black and white (and empty, which
            is not read), for example ``GPUGoEngine.boards``; what is not 0 is a stone. n is 2 to
            19, and no point holds two stones, which is not looked at.
        suicide: whether a move may take the mover's own stones off the board; with it, fewer
            points are settled.
        backend: "torch", "triton" or "auto", as for the engine; plain torch waits for the device.

    Raises:
        ValueError: if ``boards`` is no such tensor, or the backend cannot run on its device.

    Source: see the module.
    """
    size = boards.shape[-1] if isinstance(boards, Tensor) and boards.dim() else None
    boards = whole_numbers(
        "boards", boards, *((None, planes, size, size) for planes in (2, 3)), or_bool=True
    )
    if not 2 <= boards.shape[-1] <= 19:
        raise ValueError(f"boards must have 2 to 19 rows, got {boards.shape[-1]}.")
    backend = resolve_backend(backend, boards.device)
    return settled_rows(pack(boards[:, 0]), pack(boards[:, 1]), suicide, backend)


def settled_rows(black: Tensor, white: Tensor, suicide: bool, backend: str) -> Settled:
    """The same from row bitboards (n, B); ``backend`` is "torch" or "triton"."""
    if backend == "triton":
        from tessera.go.kernels.settled import pass_alive_of_both

        return Settled(*pass_alive_of_both(black, white, suicide))
    own, opponent = torch.cat([black, white], 1), torch.cat([white, black], 1)
    stones, territory = pass_alive(own, opponent, suicide)
    games = black.shape[1]
    return Settled(stones[:, :games], stones[:, games:], territory[:, :games], territory[:, games:])


def pass_alive(own: Tensor, opponent: Tensor, suicide: bool) -> tuple[Tensor, Tensor]:
    """One colour's pass-alive stones and its territory, each (n, K).

    Args:
        own: (n, K), the stones of the colour.
        opponent: (n, K), those of the other.
        suicide: whether it is allowed.
    """
    not_own = ~own & row_mask(own.shape[0])
    empty = not_own & ~opponent
    regions = flood(empty, not_own)
    alive = _alive(own, regions, regions if suicide else empty)
    return alive, _territory(own, alive, regions)


def _alive(own: Tensor, regions: Tensor, needed: Tensor) -> Tensor:
    """The pass-alive stones (n, K); ``needed`` are the points that a vital region's chain touches.

    Columns of ``chains`` and ``vital`` are chains, not boards.
    """
    # A region with a needed point that touches no chain is vital to none.
    small = regions & ~flood(needed & ~neighbours(own), regions)
    boards, chains = _split_into_chains(flood(neighbours(small), own))
    inside = small[:, boards]
    vital = inside & ~flood(needed[:, boards] & ~neighbours(chains), inside)
    alive = torch.zeros_like(own).index_add_(1, boards, chains)
    while boards.numel():
        healthy = small & ~flood(neighbours(own & ~alive), small)
        vital = vital & healthy[:, boards]
        first_region = flood(_first_point(vital), vital)
        stays = (vital != first_region).any(0)
        if bool(stays.all()):
            break
        boards, chains, vital = boards[stays], chains[:, stays], vital[:, stays]
        # Chains are disjoint, so their sum is their union.
        alive = torch.zeros_like(own).index_add_(1, boards, chains)
    return alive


def _territory(own: Tensor, alive: Tensor, regions: Tensor) -> Tensor:
    """The regions that only pass-alive chains enclose, with one point at most that touches none."""
    enclosed = flood(neighbours(alive), regions) & ~flood(neighbours(own & ~alive), regions)
    inner = enclosed & ~neighbours(own)
    boards = torch.arange(own.shape[1], device=own.device)
    left = inner
    while True:  # one region with inner points of each board at a time; few boards have more
        some = left.any(0).nonzero().squeeze(1)
        if some.numel() == 0:
            return enclosed
        boards, left, inner = boards[some], left[:, some], inner[:, some]
        here = enclosed[:, boards]
        region = flood(_first_point(left), here)
        is_large = count_points(region & inner) > 1
        enclosed.index_copy_(1, boards, here & ~(region * is_large))
        left = left & ~region


def _split_into_chains(stones: Tensor) -> tuple[Tensor, Tensor]:
    """Every chain as a column of its own: which board it is on (C,) int64, and the chain (n, C)."""
    size = stones.shape[0]
    # The first stone of each chain in order of tokens is one of these; a chain may have more.
    starts = stones & ~(stones << 1)
    starts[1:] &= ~stones[:-1]
    columns = torch.arange(size, device=stones.device, dtype=torch.int32).view(-1, 1, 1)
    column, row, boards = (starts >> columns & 1).nonzero().unbind(1)
    seeds = single(row, torch.ones_like(column, dtype=torch.int32) << column.int(), size)
    chains = flood(seeds, stones[:, boards])
    is_first = (_first_point(chains) == seeds).all(0)
    return boards[is_first], chains[:, is_first]


def _first_point(points: Tensor) -> Tensor:
    """The first point of each set in order of tokens, as a set; (n, K)."""
    has_points = points.ne(0)
    is_first = has_points & (has_points.cumsum(0, dtype=torch.int32) == 1)
    return (points & -points) * is_first
