"""The eight symmetries of a board: what a position looks like turned and mirrored.

Shapes: B positions, n rows, P = n² points; symmetry s turns by s % 4 quarters, from 4 on mirrored.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

NUM_SYMMETRIES = 8


@functools.cache
def _origins(board_size: int, device: torch.device) -> Tensor:
    """(8, P) int64: which point of the board each point of the turned board was."""
    board = torch.arange(board_size**2).view(board_size, board_size)
    sides = (board, board.flip(1))
    turned = [torch.rot90(side, quarters) for side in sides for quarters in range(4)]
    return torch.stack([each.flatten() for each in turned]).to(device)


@functools.cache
def _places(board_size: int, device: torch.device) -> Tensor:
    """(8, P) int64: which point of the turned board each point of the board becomes."""
    return _origins(board_size, device).argsort(1)


def turned_points(values: Tensor, symmetries: Tensor) -> Tensor:
    """What stands at each point, (B, …, n, n), of positions turned by ``symmetries`` (B,) int64."""
    size = values.shape[-1]
    origins = _origins(size, values.device)[symmetries]
    index = origins.view(len(origins), *[1] * (values.dim() - 3), size**2)
    flat = values.flatten(-2)
    return flat.gather(-1, index.expand(*flat.shape)).view_as(values)


def turned_rows(rows: Tensor, symmetries: Tensor) -> Tensor:
    """Row bitboards (B, …, n) of positions turned by ``symmetries`` (B,) int64; int32."""
    columns = torch.arange(rows.shape[-1], device=rows.device, dtype=torch.int32)
    points = turned_points(rows.int().unsqueeze(-1) >> columns & 1, symmetries)
    return (points << columns).sum(-1, dtype=torch.int32)


def turned_tokens(tokens: Tensor, symmetries: Tensor, board_size: int) -> Tensor:
    """Tokens (B,) int64 of positions turned by ``symmetries``; what is no point stays."""
    places = _places(board_size, tokens.device)
    inside = tokens.clamp(max=board_size**2 - 1)
    return torch.where(tokens < board_size**2, places[symmetries, inside], tokens)


def turned_moves(values: Tensor, symmetries: Tensor, board_size: int) -> Tensor:
    """What is said of every move, (B, P + 1), of positions turned by ``symmetries``; pass stays."""
    points, passes = values[:, :-1], values[:, -1:]
    points = points.gather(1, _origins(board_size, values.device)[symmetries])
    return torch.cat([points, passes], 1)
