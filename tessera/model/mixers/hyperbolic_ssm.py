"""A state space whose state is a point of the Poincaré ball, moved on by Möbius operations.

Shape suffixes: B games, L positions, H ``d_model``, N ``d_state``.
Source: MUSE phase 8, "HyperbolicSSM". On purpose different: the recurrence itself in place of a
scan that regroups it, and the decay as a diagonal matrix; see siblings.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.hyperbolic import exp_0, log_0
from tessera.model.mixers.base import Mixer
from tessera.model.parts import PartSettings
from tessera.model.scans.mobius import drawn_back, mobius_scan
from tessera.model.state import LayerState

_DT_MIN, _DT_MAX = 1e-3, 0.1  # the first step sizes are spread between them, by their logarithms


class HyperbolicState(NamedTuple):
    """What the mixer remembers of every game.

    Attributes:
        point: (B, N) float32, in the ball; the origin is a new game.
    """

    point: Tensor


class HyperbolicSSMMixer(Mixer):
    """``h_t = (A_t ⊗ h_{t−1}) ⊕ b_t`` in the ball, and ``W (log_0(h_t) ⊙ σ(C_t))`` out of it.

    ``A_t = exp(−Δ_t softplus(a_t))`` and ``b_t = exp_0(norm(B_t) ⊙ Δ_t)``, with a, B, C and the
    step size Δ = softplus(…) linear in the position's vector.

    Args:
        d_model: width of a position's vector.
        d_state: N; None means a quarter of ``d_model``, at least 1.

    Raises:
        SettingError: if a size is not a whole number of at least 1.
    """

    def __init__(self, d_model: int, d_state: int | None = None) -> None:
        super().__init__()
        check_sizes(d_model=d_model, d_state=1 if d_state is None else d_state)
        self.d_state = _usual_state(d_model) if d_state is None else d_state
        self.in_proj = nn.Linear(d_model, 4 * self.d_state)
        self.norm = nn.LayerNorm(self.d_state)
        self.out_proj = nn.Linear(self.d_state, d_model)
        span = math.log(_DT_MAX) - math.log(_DT_MIN)
        first = torch.exp(torch.rand(self.d_state) * span + math.log(_DT_MIN))
        with torch.no_grad():
            # The inverse of softplus.
            self.in_proj.bias[-self.d_state :] = first + torch.log(-torch.expm1(-first))

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors, see ``Mixer.mix``; there is nothing that a watcher might see."""
        return self.advance(hidden_BLH, is_pad_BL)[0], ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, HyperbolicState]:
        """See ``Mixer.advance``."""
        before = self.init_state(len(hidden_BLH), 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, HyperbolicState)
        projected = self.in_proj(hidden_BLH)
        dtype = torch.promote_types(projected.dtype, torch.float32)
        with torch.autocast(hidden_BLH.device.type, enabled=False):
            rate, drive, gate, step = projected.to(dtype).chunk(4, dim=-1)
            dt_BLN = F.softplus(step)
            decay_BLN = torch.exp(-dt_BLN * F.softplus(rate))
            weight, bias = (own.to(dtype) for own in (self.norm.weight, self.norm.bias))
            normed = F.layer_norm(drive, (self.d_state,), weight, bias, self.norm.eps)
            one = normed.new_ones(())
            drive_BLN = drawn_back(exp_0(normed * dt_BLN, one))
            if is_pad_BL is not None:
                decay_BLN = decay_BLN.masked_fill(is_pad_BL[..., None], 1.0)
                drive_BLN = drive_BLN.masked_fill(is_pad_BL[..., None], 0.0)
            points_BLN = mobius_scan(decay_BLN, drive_BLN, before.point.to(dtype))
            leaving = log_0(points_BLN, one) * gate.sigmoid()
        if not torch.is_autocast_enabled(hidden_BLH.device.type):
            leaving = leaving.to(self.out_proj.weight.dtype)
        mixed_BLH = self.out_proj(leaving)
        if is_pad_BL is not None:
            mixed_BLH = mixed_BLH.masked_fill(is_pad_BL[..., None], 0.0)
        return mixed_BLH, HyperbolicState(points_BLN[:, -1].float())

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> HyperbolicState:
        """The state of new games."""
        like = self.norm.weight
        shape = (batch_size, self.d_state)
        return HyperbolicState(like.new_zeros(shape, device=device, dtype=torch.float32))


@dataclass(frozen=True)
class HyperbolicSSMSettings(PartSettings):
    """Settings of ``HyperbolicSSMMixer``.

    Args:
        d_state: numbers of the state; null for a quarter of d_model.
    """

    d_state: int | None = None

    part = HyperbolicSSMMixer

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        n = _usual_state(d_model) if self.d_state is None else self.d_state
        return 4 * n * (d_model + 1) + 2 * n + d_model * (n + 1)


def _usual_state(d_model: int) -> int:
    return max(1, d_model // 4)
