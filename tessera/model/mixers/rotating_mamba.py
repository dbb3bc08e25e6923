"""Mamba with states that turn: transitions that can undo, in the scan that Mamba has.

Shape suffixes: B games, L positions, H ``d_model``, D ``d_inner``, N ``d_state``, M ``N / 2``, W
``d_conv - 1``; E ``2 * d_inner``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.backend import ScanName
from tessera.model.contract import check_sizes
from tessera.model.mixers.state_space import (
    SelectiveSettings,
    StateSpaceMixer,
    StateSpaceState,
    initial_dt_bias,
)
from tessera.model.scans.rotating import rotating_scan, turned
from tessera.model.scans.selective import SelectiveScan
from tessera.setting_errors import Problem, SettingError


class RotatingMambaMixer(StateSpaceMixer):
    """Mixes positions with one selective state space that turns: d_model in, d_model out.

    Mamba, but the states of a channel are pairs of one decay, and each position says by which angle
    a pair is turned, in all channels alike, before its own input enters.

    Args:
        d_model: width of a position's vector.
        d_state: states of each channel, an even number.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of ``d_model``.
        scan: ``auto``, ``triton``, ``mamba_ssm`` or ``torch``, see ``SelectiveScan``.

    Raises:
        SettingError: if a size is not a whole number of at least 1, or ``d_state`` is odd; if
            ``scan`` is unknown or not installed.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        scan: ScanName = "auto",
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, d_state=d_state, d_conv=d_conv, expand=expand)
        if d_state % 2:
            raise SettingError(Problem("d_state", d_state, "be even, for its states are pairs"))
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1
        )
        num_selected = self.dt_rank + 2 * d_state + d_state // 2
        self.x_proj = nn.Linear(self.d_inner, num_selected, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(self.d_inner))
        rates = torch.arange(1, d_state // 2 + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(rates.log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.scan = SelectiveScan(scan)
        self.mark_parameters()

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: StateSpaceState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x_BLD, z_BLD = self.in_proj(hidden_BLH).chunk(2, dim=-1)
        convolved_BLD = self._convolve(x_BLD, before.conv if before else None)
        dt_BLD, B_BLN, C_BLN, angle_BLM = self._select(convolved_BLD)
        y_BLD, ssm_BDN = rotating_scan(
            convolved_BLD,
            dt_BLD,
            -torch.exp(self.A_log.float()),
            angle_BLM,
            B_BLN,
            C_BLN,
            self.D,
            z_BLD,
            self.dt_proj.bias,
            before.ssm if before else None,
            is_pad_BL,
            scan=self.scan,
        )
        # At PAD z is zero, and so is silu(z): nothing leaves the mixer there.
        return self.out_proj(y_BLD), x_BLD, ssm_BDN

    def _step(self, hidden_BH: Tensor, own: StateSpaceState, is_new_B: Tensor) -> Tensor:
        from tessera.model.kernels.step import conv_step, scan_step

        assert self.conv1d.bias is not None
        x_BD, z_BD = self.in_proj(hidden_BH).chunk(2, dim=-1)
        x_BD = conv_step(x_BD, own.conv, self.conv1d.weight, self.conv1d.bias, is_new_B)
        dt_BD, B_BN, C_BN, angle_BM = self._select(x_BD)
        own.ssm.copy_(turned(own.ssm, angle_BM.to(own.ssm.dtype).unsqueeze(1)))
        A_DM = -torch.exp(self.A_log.float())
        A_DN = torch.cat((A_DM, A_DM), dim=1)
        bias_D = self.dt_proj.bias
        y_BD = scan_step(x_BD, dt_BD, A_DN, B_BN, C_BN, self.D, z_BD, bias_D, own.ssm, is_new_B)
        return self.out_proj(y_BD)

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw step sizes (…, D), B and C (…, N), and angles (…, M), at least float32."""
        sizes = [self.dt_rank, self.d_state, self.d_state, self.d_state // 2]
        dt, enters, leaves, raw = self.x_proj(x).split(sizes, dim=-1)
        angle = math.pi * raw.to(torch.promote_types(raw.dtype, torch.float32)).tanh()
        return F.linear(dt, self.dt_proj.weight), enters, leaves, angle


@dataclass(frozen=True)
class RotatingMambaSettings(SelectiveSettings):
    """Settings of ``RotatingMambaMixer``.

    Args:
        d_state: states of each channel, an even number.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of d_model.
        scan: auto, triton, mamba_ssm or torch.
    """

    part = RotatingMambaMixer

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        d_inner, dt_rank = self.expand * d_model, math.ceil(d_model / 16)
        num_pairs = self.d_state // 2
        projections = 3 * d_model + 2 * dt_rank + 5 * num_pairs
        # Beside them the convolution, its bias, and that of dt; A and D.
        return d_inner * (projections + self.d_conv + 2 + num_pairs + 1)
