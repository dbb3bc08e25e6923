"""Tangent-space attention: linear attention whose output is shrunk into a ball, or one by distance.

Shape suffixes: B games, L positions, M keys, H ``d_model``, K heads, P width of a head, W window.
Source: MUSE phase 8, tangent-space linear attention. On purpose different: causal in all modes,
the mode is a setting, and the hybrid has no jump; see siblings.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.hyperbolic import norms
from tessera.model.mixers.attention import usual_heads
from tessera.model.mixers.base import Mixer
from tessera.model.mixers.poincare_attention import attend_by_distance
from tessera.model.mixers.window import (
    WindowState,
    attend_after,
    attend_in_place,
    attend_within,
    new_window,
)
from tessera.model.parts import PartSettings
from tessera.model.scans.linear_attention import linear_attention
from tessera.model.state import LayerState
from tessera.setting_errors import Problem, SettingError, number, one_of, problems_of

Mode = Literal["linear", "exact", "hybrid"]

_LEAST_SUM = 1e-6  # of weights, by which a position is divided
_LEAST_CURVATURE = 1e-8
_LONGEST = 15.0  # of a vector that is mapped into the ball, as published
# The hybrid is linear up to the first curvature and exact from the second on.
_LINEAR, _EXACT = 0.1, 1.0
_ALLOWED = {
    "mode": one_of("linear", "exact", "hybrid"),
    "curvature": number("more than 0", lambda x: 0 < x < math.inf),
}


class TangentAttentionState(NamedTuple):
    """What the mixer remembers of every game. What its mode has no use for is empty.

    Attributes:
        sums: (B, K, P, P + 1) float32, of keys' features times values, and of the features.
        keys: (B, W, H) float32, see ``WindowState``.
        values: (B, W, H) float32.
        length: (B,) int64, moves so far.
    """

    sums: Tensor
    keys: Tensor
    values: Tensor
    length: Tensor


class TangentAttentionMixer(Mixer):
    """Causal attention, then ``tanh(√c n) / (√c n)`` of what leaves it, n its length, at most 15.

    Args:
        d_model: width of a position's vector.
        num_heads: heads; None means as many as are of width 64, or the next fewer that divide.
        mode: ``linear``: weights ``φ(q)·φ(k)``, φ = elu + 1, to all moves so far. ``exact``: a
            softmax over the distances of q / √P and k / √P in the ball, to the last ``window``
            moves. ``hybrid``: the sum of both, the exact one's share ``(c − 0.1) / 0.9``, 0 to 1.
        curvature: c at the start; it is learned, as the absolute value of a number.
        window: W, of the modes exact and hybrid.

    Raises:
        SettingError: if a size is not a whole number of at least 1, or the heads do not divide; if
            the mode is unknown or the curvature not more than 0.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int | None = None,
        mode: Mode = "linear",
        curvature: float = 0.01,
        window: int = 1024,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, num_heads=1 if num_heads is None else num_heads, window=window)
        heads = usual_heads(d_model) if num_heads is None else num_heads
        problems = problems_of(SimpleNamespace(mode=mode, curvature=curvature), _ALLOWED)
        if d_model % heads:
            problems.append(Problem("num_heads", heads, f"divide d_model, {d_model}"))
        if problems:
            raise SettingError(*problems)
        self.num_heads, self.mode, self.window = heads, mode, window
        self.in_proj = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.curvature = nn.Parameter(torch.tensor(float(curvature)))

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors, see ``Mixer.mix``; there is nothing that a watcher might see."""
        q_BLH, k_BLH, v_BLH = self._project(hidden_BLH)
        linear = exact = None
        if self.mode != "exact":
            none = self.init_state(len(hidden_BLH), 0, hidden_BLH.device).sums
            linear, _ = self._linear(q_BLH, k_BLH, v_BLH, is_pad_BL, none)
        if self.mode != "linear":
            exact = attend_within(self._attend, q_BLH, k_BLH, v_BLH, self.window, is_pad_BL)
        return self._leave(linear, exact, is_pad_BL), ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, TangentAttentionState]:
        """See ``Mixer.advance``."""
        num_games = len(hidden_BLH)
        before = self.init_state(num_games, 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, TangentAttentionState)
        sums, keys, values, length = before
        q_BLH, k_BLH, v_BLH = self._project(hidden_BLH)
        linear = exact = None
        if self.mode != "exact":
            linear, sums = self._linear(q_BLH, k_BLH, v_BLH, is_pad_BL, sums)
        if self.mode != "linear":
            window = WindowState(keys, values, length)
            exact, (keys, values, length) = attend_after(
                self._attend, q_BLH, k_BLH, v_BLH, window, is_pad_BL
            )
        after = TangentAttentionState(sums.float(), keys, values, length)
        return self._leave(linear, exact, is_pad_BL), after

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """See ``Mixer.step_in_place``."""
        assert isinstance(state, TangentAttentionState)
        q_BH, k_BH, v_BH = self._project(hidden_BH)
        linear = exact = None
        if self.mode != "exact":
            state.sums.masked_fill_(is_new_B[:, None, None, None], 0)
            q_BLH, k_BLH, v_BLH = (x[:, None] for x in (q_BH, k_BH, v_BH))
            found, sums = self._linear(q_BLH, k_BLH, v_BLH, None, state.sums)
            state.sums.copy_(sums)
            linear = found[:, 0]
        if self.mode != "linear":
            window = WindowState(state.keys, state.values, state.length)
            exact = attend_in_place(self._attend, q_BH, k_BH, v_BH, window, is_new_B)
        return self._leave(linear, exact, None)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> TangentAttentionState:
        """The state of new games."""
        width = self.out_proj.out_features // self.num_heads
        heads = 0 if self.mode == "exact" else self.num_heads
        like = self.curvature.new_zeros((), device=device, dtype=torch.float32)
        window = 0 if self.mode == "linear" else self.window
        own = new_window(like, batch_size, window, self.out_proj.out_features)
        return TangentAttentionState(like.new_zeros(batch_size, heads, width, width + 1), *own)

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (…, H) each."""
        q, k, v = self.in_proj(hidden).chunk(3, dim=-1)
        return q, k, v

    def _linear(
        self,
        q_BLH: Tensor,
        k_BLH: Tensor,
        v_BLH: Tensor,
        is_pad_BL: Tensor | None,
        before: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The means (B, L, H) of the values by the weights φ(q)·φ(k), and the sums after them."""
        with torch.autocast(q_BLH.device.type, enabled=False):
            dtype = torch.promote_types(q_BLH.dtype, torch.float32)
            q, k, v = (
                x.to(dtype).unflatten(-1, (self.num_heads, -1)) for x in (q_BLH, k_BLH, v_BLH)
            )
            k = F.elu(k) + 1
            if is_pad_BL is not None:
                k = k.masked_fill(is_pad_BL[..., None, None], 0.0)
            with_one = F.pad(v, (0, 1), value=1.0)
            found, after = linear_attention(F.elu(q) + 1, k, with_one, before.to(dtype))
            total, weight = found.split([v.shape[-1], 1], -1)
            return (total / weight.clamp(min=_LEAST_SUM)).flatten(2), after

    def _attend(self, q_BLH: Tensor, k_BMH: Tensor, v_BMH: Tensor, sees_BLM: Tensor) -> Tensor:
        """See ``Attend``."""
        scale = (q_BLH.shape[-1] // self.num_heads) ** -0.5
        q_BLH, k_BMH = scale * q_BLH, scale * k_BMH
        c = self.c()
        one = torch.ones_like(c)
        return attend_by_distance(q_BLH, k_BMH, v_BMH, sees_BLM, self.num_heads, c, one)

    def _leave(
        self, linear: Tensor | None, exact: Tensor | None, is_pad_BL: Tensor | None
    ) -> Tensor:
        """What leaves the mixer (…, H), of what there is of both, zero at PAD."""
        if linear is None or exact is None:
            mixed = exact if linear is None else linear
        else:
            share = ((self.c() - _LINEAR) / (_EXACT - _LINEAR)).clamp(0, 1)
            mixed = torch.lerp(linear, exact, share.to(linear.dtype))
        assert mixed is not None
        if not torch.is_autocast_enabled(mixed.device.type):
            mixed = mixed.to(self.out_proj.weight.dtype)
        out = self.out_proj(mixed)
        with torch.autocast(out.device.type, enabled=False):
            dtype = torch.promote_types(out.dtype, torch.float32)
            out_f = out.to(dtype)
            reach = self.c().to(dtype).sqrt() * norms(out_f).clamp(max=_LONGEST)
            reach = reach.clamp(min=_LEAST_CURVATURE)
            out = (out_f * (reach.tanh() / reach)).to(out.dtype)
        return out if is_pad_BL is None else out.masked_fill(is_pad_BL[..., None], 0.0)

    def c(self) -> Tensor:
        """The curvature, () float32, more than 0."""
        return self.curvature.float().abs().clamp(min=_LEAST_CURVATURE)


@dataclass(frozen=True)
class TangentAttentionSettings(PartSettings):
    """Settings of ``TangentAttentionMixer``.

    Args:
        num_heads: heads; null for as many as are of width 64.
        mode: linear, exact or hybrid.
        curvature: at the start; it is learned.
        window: moves that each one sees in the modes exact and hybrid, its own included.
    """

    num_heads: int | None = None
    mode: Mode = "linear"
    curvature: float = 0.01
    window: int = 1024

    part, free = TangentAttentionMixer, ("curvature",)

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        return 4 * (d_model + 1) * d_model + 1
