"""Attention to the last moves alone: linear work in training, and a state that does not grow.

Shape suffixes: B games, L positions, M keys, H width of keys and values, W moves of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

# Mixed values (N, L, H) of queries (N, L, H), keys and values (N, M, H), and of which query sees
# which key (N or 1, L, M) bool; each sees one at least.
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class WindowState(NamedTuple):
    """The last moves of every game: the one at ply p lies at the place p modulo W.

    Attributes:
        keys: (B, W, H) float32.
        values: (B, W, H) float32.
        length: (B,) int64, moves so far; what was never written counts for nothing.
    """

    keys: Tensor
    values: Tensor
    length: Tensor


def new_window(like: Tensor, batch_size: int, window: int, width: int) -> WindowState:
    """The state of new games, on the device of a tensor."""
    zeros = like.new_zeros(batch_size, window, width, dtype=torch.float32)
    return WindowState(zeros, zeros.clone(), like.new_zeros(batch_size, dtype=torch.int64))


def attend_within(
    attend: Attend,
    q_BLH: Tensor,
    k_BLH: Tensor,
    v_BLH: Tensor,
    window: int,
    is_pad_BL: Tensor | None,
) -> Tensor:
    """The mixed values of whole games, each position's of itself and the W − 1 moves before it.

    In blocks of W queries, which see the keys of their own block and of the one before.

    Args:
        attend: how.
        q_BLH, k_BLH, v_BLH: (B, L, H).
        window: W.
        is_pad_BL: (B, L) bool, True at PAD, at either end of a row; None means there is none.
    """
    num_games, length, _ = q_BLH.shape
    if is_pad_BL is None:
        is_pad_BL = torch.zeros(1, length, dtype=torch.bool, device=q_BLH.device)
    place_L = torch.arange(length, device=q_BLH.device)
    if length <= 2 * window:
        sees = _sees(place_L, place_L, ~is_pad_BL, window)
        return attend(q_BLH, k_BLH, v_BLH, sees)
    more = -length % window

    def blocks(x: Tensor) -> Tensor:
        """(B, blocks, W, …)."""
        return F.pad(x, (0, 0, 0, more)).unflatten(1, (-1, window))

    def with_those_before(x: Tensor) -> Tensor:
        """(B, blocks, 2 W, …): nothing before the first block."""
        return torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1], x], 2)

    is_key_BL1 = with_those_before(blocks((~is_pad_BL)[..., None].to(torch.uint8)))
    place_W = torch.arange(window, device=q_BLH.device)
    sees = _sees(
        place_W + window,
        torch.arange(2 * window, device=q_BLH.device),
        is_key_BL1[..., 0].bool().flatten(0, 1),
        window,
    )
    keys, values = (with_those_before(blocks(x)).flatten(0, 1) for x in (k_BLH, v_BLH))
    if len(is_pad_BL) == 1 and num_games > 1:
        sees = sees.repeat(num_games, 1, 1)
    mixed = attend(blocks(q_BLH).flatten(0, 1), keys, values, sees)
    return mixed.unflatten(0, (num_games, -1)).flatten(1, 2)[:, :length]


def attend_after(
    attend: Attend,
    q_BLH: Tensor,
    k_BLH: Tensor,
    v_BLH: Tensor,
    before: WindowState,
    is_pad_BL: Tensor | None,
) -> tuple[Tensor, WindowState]:
    """As ``attend_within``, of games that go on, and the state after them.

    Args:
        attend, q_BLH, k_BLH, v_BLH: as there.
        before: the state before the first position.
        is_pad_BL: (B, L) bool, True at PAD, after the moves of its row; None means there is none.
    """
    length, window = q_BLH.shape[1], before.keys.shape[1]
    begin_B1 = before.length[:, None]
    place_BL = begin_B1 + torch.arange(length, device=q_BLH.device)
    held_BW = _held(begin_B1, window)
    is_move_BL = torch.ones_like(place_BL, dtype=torch.bool) if is_pad_BL is None else ~is_pad_BL
    keys, values = (
        torch.cat([old.to(new.dtype), new], 1)
        for old, new in ((before.keys, k_BLH), (before.values, v_BLH))
    )
    sees = _sees(
        place_BL,
        torch.cat([held_BW, place_BL], 1),
        torch.cat([held_BW >= 0, is_move_BL], 1),
        window,
    )
    mixed_BLH = attend(q_BLH, keys, values, sees)
    after_B = before.length + is_move_BL.sum(1)
    # What each place holds now: of the moves that came, or as before.
    came_BW = _held(after_B[:, None], window) - begin_B1
    index = torch.where(came_BW >= 0, came_BW + window, torch.arange(window, device=came_BW.device))
    game_B1 = torch.arange(len(index), device=index.device)[:, None]
    return mixed_BLH, WindowState(
        keys[game_B1, index].float(), values[game_B1, index].float(), after_B
    )


def attend_in_place(
    attend: Attend, q_BH: Tensor, k_BH: Tensor, v_BH: Tensor, state: WindowState, is_new_B: Tensor
) -> Tensor:
    """The mixed values (B, H) of one more move in each game; ``state`` is moved on.

    Args:
        attend: how.
        q_BH, k_BH, v_BH: (B, H).
        state: changed in place; of new games its length is 0 already.
        is_new_B: (B,) bool, True where a game begins with this move.
    """
    window = state.keys.shape[1]
    state.length.masked_fill_(is_new_B, 0)
    at_B1H = (state.length % window)[:, None, None].expand(-1, 1, k_BH.shape[1])
    for held, new in ((state.keys, k_BH), (state.values, v_BH)):
        held.scatter_(1, at_B1H, new[:, None].to(held.dtype))
    sees = torch.arange(window, device=k_BH.device) <= state.length[:, None]
    mixed = attend(q_BH[:, None], state.keys, state.values, sees[:, None])
    state.length.add_(1)
    return mixed[:, 0]


def _sees(query: Tensor, key: Tensor, is_key: Tensor, window: int) -> Tensor:
    """Which queries see which keys, (N, L, M) bool, of places (L,) or (N, L), and (M,) or (N, M).

    PAD, which is seen by nobody, sees whatever lies at its own place: a softmax over nothing is no
    number.
    """
    back = query[..., :, None] - key[..., None, :]
    return (back >= 0) & (back < window) & is_key[:, None, :] | (back == 0)


def _held(length_B1: Tensor, window: int) -> Tensor:
    """The ply (B, W) of the move at each place after so many moves; negative where none is."""
    last = length_B1 - 1
    places = torch.arange(window, device=length_B1.device)
    return last - (last - places) % window
