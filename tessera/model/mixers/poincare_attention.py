"""Attention by distances in the Poincaré ball, to the last moves.

Shape suffixes: B games, L positions, M keys, H ``d_model``, K heads, P width of a head, W window.
Source: MUSE phase 7, hyperbolic multi-head attention. On purpose different: a sliding window, and
rotary positions, which are turns about the origin of the ball; see siblings.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.distance_attention import DistanceAttention
from tessera.model.mixers.attention import usual_heads
from tessera.model.mixers.base import Mixer
from tessera.model.mixers.rotary import rotated
from tessera.model.mixers.window import (
    WindowState,
    attend_after,
    attend_in_place,
    attend_within,
    new_window,
)
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState
from tessera.setting_errors import Problem, SettingError

_ONE = math.log(math.e - 1)  # softplus of it is 1


class PoincareAttentionMixer(Mixer):
    """A softmax over ``−β d(q, k)`` to a move and the W − 1 before it, d of points in the ball.

    Queries and keys are tangent vectors ``W x / √P``, turned to their places and mapped into the
    ball of curvature −c. Values are averaged as they are. c and β are learned, one for all heads.

    Args:
        d_model: width of a position's vector.
        num_heads: heads, each of an even width; None means as many as are of width 64, or the next
            fewer that divide ``d_model``.
        window: W.

    Raises:
        SettingError: if a size is not a whole number of at least 1, or the heads do not divide.
    """

    def __init__(self, d_model: int, num_heads: int | None = None, window: int = 64) -> None:
        super().__init__()
        check_sizes(d_model=d_model, num_heads=1 if num_heads is None else num_heads, window=window)
        heads = usual_heads(d_model) if num_heads is None else num_heads
        if d_model % (2 * heads):
            must = f"divide d_model, {d_model}, into even widths"
            raise SettingError(Problem("num_heads", heads, must))
        self.num_heads, self.window = heads, window
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)
        self.curvature = nn.Parameter(torch.zeros(()))  # c is its softplus, as published
        self.sharpness = nn.Parameter(torch.full((), _ONE))  # β is its softplus

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors, see ``Mixer.mix``; there is nothing that a watcher might see."""
        if is_pad_BL is None:
            place = torch.arange(hidden_BLH.shape[1], device=hidden_BLH.device)
        else:
            place = (~is_pad_BL).cumsum(1) - 1
        projected = self._project(hidden_BLH, place)
        mixed_BLH = attend_within(self._attend, *projected, self.window, is_pad_BL)
        return self._leave(mixed_BLH, is_pad_BL), ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, WindowState]:
        """See ``Mixer.advance``."""
        num_games, length, _ = hidden_BLH.shape
        before = self.init_state(num_games, 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, WindowState)
        place_BL = before.length[:, None] + torch.arange(length, device=hidden_BLH.device)
        projected = self._project(hidden_BLH, place_BL)
        mixed_BLH, after = attend_after(self._attend, *projected, before, is_pad_BL)
        return self._leave(mixed_BLH, is_pad_BL), after

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """See ``Mixer.step_in_place``."""
        assert isinstance(state, WindowState)
        place_B1 = state.length.masked_fill(is_new_B, 0)[:, None]
        q_BH, k_BH, v_BH = (each[:, 0] for each in self._project(hidden_BH[:, None], place_B1))
        mixed_BH = attend_in_place(self._attend, q_BH, k_BH, v_BH, state, is_new_B)
        return self._leave(mixed_BH, None)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> WindowState:
        """The state of new games."""
        width = self.out_proj.out_features
        like = self.curvature.new_zeros((), device=device)
        return new_window(like, batch_size, self.window, width)

    def _project(self, hidden_BLH: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tangent vectors of queries and keys, turned to their places, and values; (B, L, H)."""
        d_model, heads = hidden_BLH.shape[-1], self.num_heads
        turning, v_BLH = self.in_proj(hidden_BLH).split([2 * d_model, d_model], dim=-1)
        turned = rotated(turning, place, 2 * heads, (d_model // heads) ** -0.5)
        q_BLH, k_BLH = turned.chunk(2, dim=-1)
        return q_BLH, k_BLH, v_BLH

    def _attend(self, q_BLH: Tensor, k_BMH: Tensor, v_BMH: Tensor, sees_BLM: Tensor) -> Tensor:
        """See ``Attend``."""
        c, beta = F.softplus(self.curvature), F.softplus(self.sharpness)
        return attend_by_distance(q_BLH, k_BMH, v_BMH, sees_BLM, self.num_heads, c, beta)

    def _leave(self, mixed: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        if not torch.is_autocast_enabled(mixed.device.type):
            mixed = mixed.to(self.out_proj.weight.dtype)
        out = self.out_proj(mixed)
        return out if is_pad_BL is None else out.masked_fill(is_pad_BL[..., None], 0.0)


def attend_by_distance(
    q_BLH: Tensor,
    k_BMH: Tensor,
    v_BMH: Tensor,
    sees_BLM: Tensor,
    num_heads: int,
    c: Tensor,
    beta: Tensor,
) -> Tensor:
    """See ``Attend``: of each head a softmax over −β times the distances in the ball.

    In float32 at least, whatever autocast says.

    Args:
        q_BLH, k_BMH: tangent vectors at the origin of the ball.
        v_BMH: values.
        sees_BLM: (B or 1, L, M) bool.
        num_heads: K.
        c, beta: ().
    """
    with torch.autocast(q_BLH.device.type, enabled=False):
        dtype = torch.promote_types(q_BLH.dtype, torch.float32)
        q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q_BLH, k_BMH, v_BMH))
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype, memory_format=torch.contiguous_format)
        mixed: Tensor = DistanceAttention.apply(q, k, v, sees_BLM, c.to(dtype), beta.to(dtype))
        return mixed.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class PoincareAttentionSettings(PartSettings):
    """Settings of ``PoincareAttentionMixer``.

    Args:
        num_heads: heads, each of an even width; null for as many as are of width 64.
        window: moves that each one sees, its own included.
    """

    num_heads: int | None = None
    window: int = 64

    part = PoincareAttentionMixer

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        return 4 * d_model**2 + 2  # and curvature and sharpness
