"""The Mamba mixer, with the parameters of ``mamba_ssm.Mamba`` and a state that can be carried.

Shape suffixes: B games, L positions, H ``d_model``, D ``d_inner``, N ``d_state``, W ``d_conv - 1``;
E ``2 * d_inner``.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import size_problems
from tessera.model.convolution import last_inputs
from tessera.model.mixing import mix_channels, triton_mixing
from tessera.model.scan import ScanName, SelectiveScan
from tessera.model.state import LastState, LayerState

# Step sizes at the start are log-uniform in this range, as in the paper.
_DT_MIN, _DT_MAX = 1e-3, 1e-1


def initial_dt_bias(count: int) -> Tensor:
    """Step sizes (count,) drawn log-uniformly, as the softplus of what is returned."""
    span = math.log(_DT_MAX) - math.log(_DT_MIN)
    dt = torch.exp(torch.rand(count) * span + math.log(_DT_MIN))
    return dt + torch.log(-torch.expm1(-dt))


class Mixer(nn.Module):
    """What ``MambaMixer`` and ``Mamba2Mixer`` share: all but their arithmetic.

    Attributes:
        d_inner: channels.
        d_state: states of each channel.
        no_weight_decay: names of own parameters that weight decay must leave alone. They hold for
            every copy, while a mark on a parameter, as mamba_ssm makes it, stays behind.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "D")
    d_inner: int
    d_state: int
    conv1d: nn.Conv1d
    last_state: LastState

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Mark the parameters of a copy, of deepcopy or pickle, too."""
        super().__setstate__(state)
        self.mark_parameters()

    def mark_parameters(self) -> None:
        """Mark the parameters for optimizers of others, as mamba_ssm does."""
        for name in self.no_weight_decay:
            getattr(self, name)._no_weight_decay = True

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: LayerState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mixed vectors, what the convolution saw, and the last SSM state."""
        raise NotImplementedError

    def _steps_in_kernel(self, hidden_BH: Tensor) -> bool:
        """Whether ``_step`` can take a step where these vectors are."""
        raise NotImplementedError

    def _step(self, hidden_BH: Tensor, own: LayerState, is_new_B: Tensor) -> Tensor:
        """``step_in_place`` by Triton, which reads and writes the state once."""
        raise NotImplementedError

    def forward(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Tensor:
        """The mixed vectors (B, L, H) of sequences that start from an empty state.

        Args:
            hidden_BLH: (B, L, H), zero at PAD.
            is_pad_BL: (B, L) bool, True at PAD, which may stand at either end of a row; None means
                there is none.
        """
        mixed_BLH, states = self.mix(hidden_BLH, is_pad_BL)
        self.show(states)
        return mixed_BLH

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What ``forward`` returns, and the last SSM state, alone in a tuple; nobody is shown it.

        Without a side effect, so that torch.compile may take it as a whole.
        """
        mixed_BLH, _, ssm_BDN = self._mix(hidden_BLH, is_pad_BL, None)
        return mixed_BLH, (ssm_BDN,)

    def show(self, states: tuple[Tensor, ...]) -> None:
        """Pass the last SSM state on to the hooks of ``MambaStateCapture``."""
        self.last_state(states[0])

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        layers: tuple[LayerState, ...] | None = None,
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """The mixed vectors (B, L, H), zero at PAD, and the state after them.

        Args:
            hidden_BLH: (B, L, H), zero at PAD.
            is_pad_BL: (B, L) bool, True at PAD, after the moves of its row; None means there is
                none. PAD before the moves is harmless to the vectors and to the SSM state only.
            layers: this mixer's state before the first position, alone in a tuple; None means the
                start of a game.
        """
        before = layers[0] if layers else None
        mixed_BLH, x_BLD, ssm_BDN = self._mix(hidden_BLH, is_pad_BL, before)
        self.show((ssm_BDN,))
        width = self.conv1d.kernel_size[0] - 1
        conv_BWD = last_inputs(x_BLD, width, is_pad_BL, before.conv if before else None)
        return mixed_BLH, (LayerState(conv_BWD, ssm_BDN),)

    def step_in_place(
        self, hidden_BH: Tensor, layers: tuple[LayerState, ...], is_new_B: Tensor
    ) -> Tensor:
        """The mixed vectors (B, H) of one more token in each game; ``layers`` are moved on.

        Without gradients. On a GPU with Triton the state is read and written once.

        Args:
            hidden_BH: (B, H).
            layers: this mixer's state, alone in a tuple, changed in place.
            is_new_B: (B,) bool, True where a game begins with this token.
        """
        (own,) = layers
        if self._steps_in_kernel(hidden_BH):
            return self._step(hidden_BH, own, is_new_B)
        mask = is_new_B[:, None, None]
        before = LayerState(own.conv.masked_fill(mask, 0), own.ssm.masked_fill(mask, 0))
        mixed_BLH, (after,) = self.advance(hidden_BH[:, None], None, (before,))
        own.conv.copy_(after.conv)
        own.ssm.copy_(after.ssm)
        return mixed_BLH[:, 0]

    def init_layers(
        self, batch_size: int, device: torch.device | str | None = None
    ) -> tuple[LayerState, ...]:
        """The state of new games, alone in a tuple; ``device`` None is that of the parameters."""
        zeros = self.conv1d.weight.new_zeros((), device=device, dtype=torch.float32)
        width = self.conv1d.kernel_size[0] - 1
        return (
            LayerState(
                zeros.new_zeros(batch_size, width, self.conv1d.in_channels),
                zeros.new_zeros(batch_size, self.d_inner, self.d_state),
            ),
        )


class MambaMixer(Mixer):
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
        ValueError: if a size is not a whole number of at least 1; if ``scan`` is unknown or not
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
        problems = size_problems(d_model=d_model, d_state=d_state, d_conv=d_conv, expand=expand)
        if problems:
            raise ValueError("\n".join(problems))
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1
        )
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self._init_dt()
        # S4D-real: the states of a channel decay at the rates 1, 2, …, d_state.
        rates = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(rates.log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.scan = SelectiveScan(scan)
        self.last_state = LastState()
        self.mark_parameters()

    def _init_dt(self) -> None:
        """Draw step sizes log-uniformly and store them through the inverse of softplus."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(self.d_inner))

    def mark_parameters(self) -> None:
        """Mark also the bias that nobody shall draw again."""
        super().mark_parameters()
        self.dt_proj.bias._no_reinit = True  # type: ignore[attr-defined]

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: LayerState | None
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

    def _steps_in_kernel(self, hidden_BH: Tensor) -> bool:
        return self.scan.steps_in_kernel(hidden_BH)

    def _step(self, hidden_BH: Tensor, own: LayerState, is_new_B: Tensor) -> Tensor:
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
