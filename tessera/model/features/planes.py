"""Row bitboards as planes of numbers, and figures that follow from the stones.

Shape suffixes: T positions, S sets of points, N rows of the board.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_PLANES = 9
_REACH = 4  # steps along the lines within which a stone makes a claim


def unpacked(rows: Tensor) -> Tensor:
    """Sets of points (…, N) int32 as (…, N, N) bool."""
    columns = torch.arange(rows.shape[-1], device=rows.device, dtype=torch.int32)
    return (rows.unsqueeze(-1) >> columns & 1).bool()


def nearer(rows_TN: Tensor, others_TN: Tensor) -> Tensor:
    """The points (T, N) that some of ``rows_TN`` are nearer to than all of ``others_TN``.

    In steps along the lines, of which at most four count; stones are not in the way. An estimate
    of who will own a point: its own stones, and what they could reach first.
    """
    claimed_TN = rows_TN & ~others_TN
    for _ in range(_REACH):
        rows_TN, others_TN = _spread(rows_TN), _spread(others_TN)
        claimed_TN = claimed_TN | rows_TN & ~others_TN
    return claimed_TN


def _spread(rows_TN: Tensor) -> Tensor:
    """The points of a set and those beside them."""
    size = rows_TN.shape[-1]
    sides_TN = (rows_TN | rows_TN << 1 | rows_TN >> 1) & (1 << size) - 1
    above_TN, below_TN = torch.zeros_like(rows_TN), torch.zeros_like(rows_TN)
    above_TN[:, :-1], below_TN[:, 1:] = rows_TN[:, 1:], rows_TN[:, :-1]
    return sides_TN | above_TN | below_TN


def board_planes(sets_TSN: Tensor, tokens_T: Tensor, dtype: torch.dtype) -> Tensor:
    """Planes (T, N, N, 9) of positions, seen from the player to move.

    Own stones, the opponent's, empty points (which tells the board from what is beyond it), stones
    in atari, own stones that the last move took, points that only ko or superko forbids, the last
    move; then the territory tendency, 1 where own stones are nearer and -1 where the opponent's
    are, see ``nearer``; and the same everywhere, by how many stones the player is ahead, over N.

    Args:
        sets_TSN: (T, 5, N) int32: own, opponent, atari, taken, forbidden.
        tokens_T: (T,) the last moves; a token that is no point is on none.
        dtype: of the planes.
    """
    own_TN, opponent_TN = sets_TSN[:, 0], sets_TSN[:, 1]
    size = sets_TSN.shape[-1]
    planes_TSNN = unpacked(sets_TSN).to(dtype)
    own_TNN, opponent_TNN = planes_TSNN[:, 0], planes_TSNN[:, 1]
    places = torch.arange(size**2, device=tokens_T.device, dtype=tokens_T.dtype)
    last_TNN = (tokens_T[:, None] == places).view(-1, size, size).to(dtype)
    tendency_TNN = unpacked(nearer(own_TN, opponent_TN)).to(dtype)
    tendency_TNN = tendency_TNN - unpacked(nearer(opponent_TN, own_TN)).to(dtype)
    ahead_T = (own_TNN - opponent_TNN).sum((1, 2), dtype=torch.float32).to(dtype) / size
    ahead_TNN = ahead_T[:, None, None].expand_as(last_TNN)
    more = (1 - own_TNN - opponent_TNN, last_TNN, tendency_TNN, ahead_TNN)
    return torch.cat([planes_TSNN, torch.stack(more, 1)], 1).permute(0, 2, 3, 1)


def triton_board_planes(sets_TSN: Tensor, tokens_T: Tensor, dtype: torch.dtype) -> Tensor:
    """The same as ``board_planes``, in a Triton kernel; planes of zeros make it 16."""
    from tessera.model.kernels.boards_operator import planes_of

    return planes_of(sets_TSN, tokens_T, dtype, _REACH)
