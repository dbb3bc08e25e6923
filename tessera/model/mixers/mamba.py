"""The Mamba mixer, with the parameters of ``mamba_ssm.Mamba`` and a state that can be carried.

Shape suffixes: B games, L positions, H ``d_model``, D ``d_inner``, N ``d_state``, W ``d_conv - 1``;
E ``2 * d_inner``.
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
from tessera.model.scans.selective import SelectiveScan
from tessera.model.selective_mixing import mix_channels, triton_mixing


class MambaMixer(StateSpaceMixer):
    """Mixes positions with one selective state space: d_model in, d_model out.

    Parameters have the names, shapes, initial distribution and order of drawing of
    ``mamba_ssm.Mamba``, so a state_dict moves both ways. On purpose different: PAD is left out of
    the sequence, and the state can be given and is returned.

    Args:
        d_model: width of a position's vector.
        d_state: states of each channel.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of ``d_model``.
        scan: ``auto``, ``triton``, ``mamba_ssm`` or ``torch``, see ``SelectiveScan``.

    Raises:
        SettingError: if a size is not a whole number of at least 1; if ``scan`` is unknown or not
            installed.
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
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1
        )
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(self.d_inner))
        # S4D-real: the states of a channel decay at the rates 1, 2, …, d_state.
        rates = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(rates.log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.scan = SelectiveScan(scan)
        self.mark_parameters()

    def mark_parameters(self) -> None:
        """Mark also the bias that nobody shall draw again."""
        super().mark_parameters()
        self.dt_proj.bias._no_reinit = True  # type: ignore[attr-defined]

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: StateSpaceState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        xz_BLE = self.in_proj(hidden_BLH)
        assert self.conv1d.bias is not None
        arguments = (
            xz_BLE,
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            -torch.exp(self.A_log.float()),
            self.D,
            self.dt_proj.bias,
            before.conv if before else None,
            before.ssm if before else None,
            is_pad_BL,
        )
        if self.scan.choose(xz_BLE) == "triton":
            y_BLD, ssm_BDN = triton_mixing(*arguments)
        else:
            y_BLD, ssm_BDN = mix_channels(*arguments, scan=self.scan)
        # At PAD z is zero, and so is silu(z): nothing leaves the mixer there.
        return self.out_proj(y_BLD), xz_BLE[..., : self.d_inner], ssm_BDN

    def _step(self, hidden_BH: Tensor, own: StateSpaceState, is_new_B: Tensor) -> Tensor:
        from tessera.model.kernels.step import conv_step, scan_step

        assert self.conv1d.bias is not None
        x_BD, z_BD = self.in_proj(hidden_BH).chunk(2, dim=-1)
        x_BD = conv_step(x_BD, own.conv, self.conv1d.weight, self.conv1d.bias, is_new_B)
        sizes = [self.dt_rank, self.d_state, self.d_state]
        dt_BR, B_BN, C_BN = self.x_proj(x_BD).split(sizes, dim=-1)
        dt_BD = F.linear(dt_BR, self.dt_proj.weight)
        A_DN = -torch.exp(self.A_log.float())
        bias_D = self.dt_proj.bias
        y_BD = scan_step(x_BD, dt_BD, A_DN, B_BN, C_BN, self.D, z_BD, bias_D, own.ssm, is_new_B)
        return self.out_proj(y_BD)


@dataclass(frozen=True)
class MambaSettings(SelectiveSettings):
    """Settings of ``MambaMixer``.

    Args:
        d_state: states of each channel.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of d_model.
        scan: auto, triton, mamba_ssm or torch.
    """

    part = MambaMixer

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        d_inner, dt_rank = self.expand * d_model, math.ceil(d_model / 16)
        projections = 3 * d_model + 2 * dt_rank + 2 * self.d_state
        # Beside them the convolution, its bias, and that of dt; A and D.
        return d_inner * (projections + self.d_conv + 2 + self.d_state + 1)
