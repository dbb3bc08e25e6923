"""The gated delta rule as a mixer: a memory that can overwrite, and undo, what it holds.

Shape suffixes: B games, L positions, H ``d_model``, K heads, N width of a key, P width of a value,
D ``K · P``, R writes of a position, E what the convolution sees, ``K · N + R · K · (N + P)``, W
``d_conv - 1``.
Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (arXiv:2412.06464), figure 1, without
the scale of the queries, which the norm takes out again; Grazzi et al. (arXiv:2411.12537) for β up
to 2; Siems et al., "DeltaProduct" (arXiv:2502.10297) for several writes of a position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.mixers.state_space import StateSpaceMixer, StateSpaceState, initial_dt_bias
from tessera.model.parts import PartSettings
from tessera.model.scans.delta import DeltaScan, delta_step_in_place

DeltaScanName = Literal["auto", "triton", "torch"]

# Decay rates at the start are uniform in this range, as in Mamba-2.
_A_MIN, _A_MAX = 1.0, 16.0
_NORM_EPS = 1e-5


class GatedDeltaMixer(StateSpaceMixer):
    """Mixes positions by the gated delta rule: d_model in, d_model out.

    Every head keeps a matrix, to which a position says under which keys it shall hold which values
    instead of those that it holds there. ``d_inner`` and ``d_state`` are the sides of all heads'
    matrices on top of one another, ``K · P`` and ``N``.

    Args:
        d_model: width of a position's vector.
        num_heads: K; None means as many as are of width 64, at least one.
        key_dim: N.
        value_dim: P.
        d_conv: positions the short convolution sees, its own included.
        negative: whether a transition may have an eigenvalue down to -1, and so undo; if not, down
            to 0.
        writes: keys that a position writes one after another; each more makes the sequence longer.
        scan: ``auto``, ``triton`` or ``torch``, see ``DeltaScan``.

    Raises:
        SettingError: if a size is not a whole number of at least 1; if ``scan`` is unknown.
    """

    no_weight_decay = ("dt_bias", "A_log")

    def __init__(
        self,
        d_model: int,
        num_heads: int | None = None,
        key_dim: int = 64,
        value_dim: int = 64,
        d_conv: int = 4,
        negative: bool = True,
        writes: int = 1,
        scan: DeltaScanName = "auto",
    ) -> None:
        super().__init__()
        sizes = {"key_dim": key_dim, "value_dim": value_dim, "d_conv": d_conv, "writes": writes}
        check_sizes(d_model=d_model, num_heads=1 if num_heads is None else num_heads, **sizes)
        self.num_heads = _usual_heads(d_model) if num_heads is None else num_heads
        self.value_dim, self.writes = value_dim, writes
        self.d_inner, self.d_state = self.num_heads * value_dim, key_dim
        self.most_beta = 2.0 if negative else 1.0

        conv_width = self.num_heads * (key_dim + writes * (key_dim + value_dim))
        in_width = self.d_inner + conv_width + self.num_heads * (1 + writes)
        self.in_proj = nn.Linear(d_model, in_width, bias=False)
        self.conv1d = nn.Conv1d(
            conv_width, conv_width, d_conv, groups=conv_width, padding=d_conv - 1
        )
        self.dt_bias = nn.Parameter(initial_dt_bias(self.num_heads))
        rates = torch.empty(self.num_heads, dtype=torch.float32).uniform_(_A_MIN, _A_MAX)
        self.A_log = nn.Parameter(rates.log())
        self.norm_weight = nn.Parameter(torch.ones(value_dim))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.scan = DeltaScan(scan)
        self.mark_parameters()

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: StateSpaceState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if is_pad_BL is not None:
            # Zero already; but the norm of zero enlarges a gradient that nobody needs.
            hidden_BLH = hidden_BLH.masked_fill(is_pad_BL[..., None], 0.0)
        z_BLD, x_BLE, gates = self._project(hidden_BLH)
        q, k, v = self._split(self._convolve(x_BLE, before.conv if before else None))
        fade, beta = self._fade_and_beta(gates)
        if is_pad_BL is not None:
            fade, beta = (x.masked_fill(is_pad_BL[..., None], 0.0) for x in (fade, beta))
        length, writes = hidden_BLH.shape[1], self.writes
        if writes > 1:
            # A position is that many of the scan, asked at the last, faded at the first.
            q = F.pad(q.unsqueeze(2), (0, 0, 0, 0, writes - 1, 0)).flatten(1, 2)
            fade = F.pad(fade.unsqueeze(2), (0, 0, 0, writes - 1)).flatten(1, 2)
        k, v = (x.unflatten(2, (writes, -1)).flatten(1, 2) for x in (k, v))
        beta = beta.view(len(beta), length * writes, -1)
        state = before.ssm.unflatten(1, (self.num_heads, -1)) if before else None
        o, last = self.scan(q, k, v, fade, beta, state)
        y_BLD = self._gated(o[:, writes - 1 :: writes], z_BLD)
        # At PAD z is zero, and so is silu(z): nothing leaves the mixer there.
        return self.out_proj(y_BLD), x_BLE, last.flatten(1, 2)

    def _step(self, hidden_BH: Tensor, own: StateSpaceState, is_new_B: Tensor) -> Tensor:
        from tessera.model.kernels.step import conv_step

        assert self.conv1d.bias is not None
        z_BD, x_BE, gates = self._project(hidden_BH)
        x_BE = conv_step(x_BE, own.conv, self.conv1d.weight, self.conv1d.bias, is_new_B)
        q_BKN, k, v = self._split(x_BE)
        fade_BK, beta = self._fade_and_beta(gates)
        state = own.ssm.view(len(own.ssm), self.num_heads, self.value_dim, self.d_state)
        k, v, beta = (x.unflatten(1, (self.writes, -1)) for x in (k, v, beta))
        o_BKP = delta_step_in_place(q_BKN, k, v, fade_BK, beta, state, is_new_B)
        return self.out_proj(self._gated(o_BKP.to(z_BD.dtype), z_BD))

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gate (…, D), what the convolution sees (…, E), and raw fades and βs (…, K + R K)."""
        sizes = [self.d_inner, self.conv1d.in_channels, self.num_heads * (1 + self.writes)]
        z, x, gates = self.in_proj(hidden).split(sizes, dim=-1)
        return z, x, gates

    def _split(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (…, K, N), keys (…, R K, N) and values (…, R K, P)."""
        keys = self.num_heads * self.d_state
        sizes = [keys, self.writes * keys, self.writes * self.d_inner]
        q, k, v = convolved.split(sizes, dim=-1)
        q, k = (x.unflatten(-1, (-1, self.d_state)) for x in (q, k))
        return q, k, v.unflatten(-1, (-1, self.value_dim))

    def _fade_and_beta(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of α (…, K), and β (…, R K), at least float32."""
        dtype = torch.promote_types(gates.dtype, torch.float32)
        raw_fade, raw_beta = gates.to(dtype).tensor_split([self.num_heads], dim=-1)
        step = F.softplus(raw_fade + self.dt_bias.to(dtype))
        return -torch.exp(self.A_log.to(dtype)) * step, self.most_beta * raw_beta.sigmoid()

    def _gated(self, o: Tensor, z: Tensor) -> Tensor:
        """What was read (…, K, P), head by head normalised, times silu(z); (…, D) as z."""
        dtype = torch.promote_types(o.dtype, torch.float32)
        with torch.autocast(o.device.type, enabled=False):
            weight_P = self.norm_weight.to(dtype)
            normed = F.rms_norm(o.to(dtype), weight_P.shape, weight_P, _NORM_EPS)
            return (normed.flatten(-2) * F.silu(z.to(dtype))).to(z.dtype)


def _usual_heads(d_model: int) -> int:
    return max(1, d_model // 64)


@dataclass(frozen=True)
class GatedDeltaSettings(PartSettings):
    """Settings of ``GatedDeltaMixer``.

    Args:
        num_heads: heads; null for as many as are of width 64.
        key_dim: width of a key.
        value_dim: width of a value.
        d_conv: positions the short convolution sees, its own included.
        negative: whether transitions have eigenvalues from -1 to 1, and not from 0 to 1.
        writes: keys that a position writes, one after another.
        scan: auto, triton or torch.
    """

    num_heads: int | None = None
    key_dim: int = 64
    value_dim: int = 64
    d_conv: int = 4
    negative: bool = True
    writes: int = 1
    scan: DeltaScanName = "auto"

    part, free = GatedDeltaMixer, ("scan",)

    def check_on(self, device: torch.device) -> None:
        """Look at the scan."""
        DeltaScan.choose_for(self.scan, device)

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        num_heads = self.num_heads or _usual_heads(d_model)
        d_inner = num_heads * self.value_dim
        convolved = num_heads * (self.key_dim + self.writes * (self.key_dim + self.value_dim))
        gates = num_heads * (1 + self.writes)
        projections = d_model * (2 * d_inner + convolved + gates)
        # A and the bias of dt; the norm.
        return projections + convolved * (self.d_conv + 1) + 2 * num_heads + self.value_dim
