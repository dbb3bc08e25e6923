"""The Mamba-2 mixer, with the parameters of ``mamba_ssm.Mamba2`` and a state that can be carried.

Shape suffixes: B games, L positions, H ``d_model``, K heads, D ``d_inner``, N ``d_state``, E what
the convolution sees, ``D + 2 N``, W ``d_conv - 1``.
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
from tessera.model.scans.dual import DualScan
from tessera.model.scans.selective import frozen
from tessera.setting_errors import Problem, SettingError

DualScanName = Literal["auto", "mamba_ssm", "torch"]

_MOST_HEADDIM = 64  # mamba_ssm's, with which its kernels are fastest

# Decay rates at the start are uniform in this range, as in mamba_ssm.
_A_MIN, _A_MAX = 1.0, 16.0


class RMSNormGated(nn.Module):
    """Divides by the root of the mean square, after gating; mamba_ssm's with one group.

    Args:
        width: of the vectors.
        eps: added to the mean square.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, y: Tensor, z: Tensor | None) -> Tensor:
        """``y · silu(z)`` normalised, in the dtype of y; zero where z is.

        Args:
            y: (…, width).
            z: gate before silu; None where y is gated already.
        """
        dtype = torch.promote_types(y.dtype, torch.float32)
        with torch.autocast(y.device.type, enabled=False):
            gated = y.to(dtype) if z is None else y.to(dtype) * F.silu(z.to(dtype))
            return F.rms_norm(gated, self.weight.shape, self.weight.to(dtype), self.eps).to(y.dtype)


class Mamba2Mixer(StateSpaceMixer):
    """Mixes positions with one state space a head: d_model in, d_model out.

    Parameters have the names, shapes, initial distribution and order of drawing of
    ``mamba_ssm.Mamba2`` with one group, so a state_dict moves both ways. On purpose different: PAD
    is left out of the sequence, and the state can be given and is returned.

    Args:
        d_model: width of a position's vector.
        d_state: states of each channel. As small as Mamba-1's unless said otherwise; Mamba-2 is
            usually run with 64 or 128.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of ``d_model``.
        scan: ``auto``, ``mamba_ssm`` or ``torch``, see ``DualScan``.
        headdim: channels of a head; None means the largest of 64, 32, 16, … that divides
            ``expand * d_model``.

    Raises:
        SettingError: if a size is not a whole number of at least 1, or ``headdim`` does not divide;
            if ``scan`` is ``triton``, unknown or not installed.
    """

    no_weight_decay = ("dt_bias", "A_log", "D")

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        scan: DualScanName = "auto",
        headdim: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"d_state": d_state, "d_conv": d_conv, "expand": expand}
        check_sizes(d_model=d_model, **sizes, headdim=1 if headdim is None else headdim)
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.headdim = _largest_headdim(self.d_inner) if headdim is None else headdim
        if self.d_inner % self.headdim:
            raise SettingError(Problem("headdim", headdim, f"divide d_inner, {self.d_inner}"))
        self.num_heads = self.d_inner // self.headdim

        conv_width = self.d_inner + 2 * d_state
        in_width = self.d_inner + conv_width + self.num_heads
        self.in_proj = nn.Linear(d_model, in_width, bias=False)
        self.conv1d = nn.Conv1d(
            conv_width, conv_width, d_conv, groups=conv_width, padding=d_conv - 1
        )
        self.dt_bias = nn.Parameter(initial_dt_bias(self.num_heads))
        rates = torch.empty(self.num_heads, dtype=torch.float32).uniform_(_A_MIN, _A_MAX)
        self.A_log = nn.Parameter(rates.log())
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.norm = RMSNormGated(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.scan = DualScan(scan)
        self.mark_parameters()

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: StateSpaceState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if is_pad_BL is not None:
            # Zero already. But the norm of zero enlarges its gradient three hundred times, twice in
            # a block, and many blocks would make it infinite where nobody needs it.
            hidden_BLH = hidden_BLH.masked_fill(is_pad_BL[..., None], 0.0)
        z_BLD, x_BLE, dt_BLK = self._project(hidden_BLH)
        convolved_BLE = self._convolve(x_BLE, before.conv if before else None)
        x_BLD, B_BLN, C_BLN = self._split(convolved_BLE)
        y_BLD, ssm_BDN = self.scan(
            x_BLD,
            frozen(dt_BLK, is_pad_BL),
            -torch.exp(self.A_log.float()),
            B_BLN,
            C_BLN,
            self.D,
            self.dt_bias,
            before.ssm if before else None,
        )
        # At PAD z is zero, and so is silu(z) and its norm: nothing leaves the mixer there.
        return self.out_proj(self.norm(y_BLD, z_BLD)), x_BLE, ssm_BDN

    def _step(self, hidden_BH: Tensor, own: StateSpaceState, is_new_B: Tensor) -> Tensor:
        from tessera.model.kernels.step import conv_step, scan_step

        assert self.conv1d.bias is not None
        z_BD, x_BE, dt_BK = self._project(hidden_BH)
        x_BE = conv_step(x_BE, own.conv, self.conv1d.weight, self.conv1d.bias, is_new_B)
        x_BD, B_BN, C_BN = self._split(x_BE)
        # Mamba-1's step is the same one, with a Δ, an A and a D of its own for every channel.
        A_D = self._for_each_channel(-torch.exp(self.A_log.float()))
        y_BD = scan_step(
            x_BD.contiguous(),
            self._for_each_channel(dt_BK),
            A_D[:, None].expand(-1, self.d_state).contiguous(),
            B_BN,
            C_BN,
            self._for_each_channel(self.D),
            z_BD,
            self._for_each_channel(self.dt_bias),
            own.ssm,
            is_new_B,
        )
        return self.out_proj(self.norm(y_BD, None))

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gate (…, D), what the convolution sees (…, E), and raw step sizes (…, K)."""
        sizes = [self.d_inner, self.conv1d.in_channels, self.num_heads]
        z, x, dt = self.in_proj(hidden).split(sizes, dim=-1)
        return z, x, dt

    def _split(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The paper's x (…, D), B (…, N) and C (…, N), out of the convolution's output."""
        x, enters, leaves = convolved.split([self.d_inner, self.d_state, self.d_state], dim=-1)
        return x, enters, leaves

    def _for_each_channel(self, values: Tensor) -> Tensor:
        """Numbers of the heads (…, K) as numbers of their channels (…, D), contiguous."""
        return values.unsqueeze(-1).expand(*values.shape, self.headdim).flatten(-2).contiguous()


def _largest_headdim(d_inner: int) -> int:
    """The largest of 64, 32, 16, … that divides ``d_inner``."""
    headdim = _MOST_HEADDIM
    while d_inner % headdim:
        headdim //= 2
    return headdim


@dataclass(frozen=True)
class Mamba2Settings(PartSettings):
    """Settings of ``Mamba2Mixer``.

    Args:
        d_state: states of each channel; usually 64 or 128.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of d_model.
        scan: auto, mamba_ssm or torch.
        headdim: channels of a head; null for the largest of 64, 32, 16, … that divides all.
    """

    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    scan: DualScanName = "auto"
    headdim: int | None = None

    part, free = Mamba2Mixer, ("scan",)

    def check_on(self, device: torch.device) -> None:
        """Look at the scan."""
        DualScan.choose_for(self.scan, device)

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        d_inner = self.expand * d_model
        convolved = d_inner + 2 * self.d_state
        num_heads = d_inner // (self.headdim or _largest_headdim(d_inner))
        projections = d_model * (2 * d_inner + convolved + num_heads)
        # A, D and the bias of dt; the gated norm.
        return projections + convolved * (self.d_conv + 1) + 3 * num_heads + d_inner
