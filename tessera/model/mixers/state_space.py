"""What Mamba and its like share: a convolution and its window, a scan's state, one step.

Shape suffixes: B games, L positions, H ``d_model``, D ``d_inner``, N ``d_state``, W ``d_conv - 1``,
E what the convolution sees.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tessera.model.backend import Scan, ScanName
from tessera.model.convolution import causal_convolution, last_inputs, triton_convolution
from tessera.model.mixers.base import Mixer
from tessera.model.parts import PartSettings
from tessera.model.scans.selective import SelectiveScan
from tessera.model.state import LayerState

# Step sizes at the start are log-uniform in this range, as in the paper.
_DT_MIN, _DT_MAX = 1e-3, 1e-1


class StateSpaceState(NamedTuple):
    """What a state-space mixer remembers of every game.

    Attributes:
        conv: inputs of the convolution at the last ``d_conv - 1`` moves, oldest first, zeros before
            the first move; (B, W, E) float32, E of Mamba ``d_inner``, of Mamba-2
            ``d_inner + 2 * d_state``.
        ssm: state of the scan, (B, D, N) float32; of Mamba-2 head by head.
    """

    conv: Tensor
    ssm: Tensor


def initial_dt_bias(count: int) -> Tensor:
    """Step sizes (count,) drawn log-uniformly, as the softplus of what is returned."""
    span = math.log(_DT_MAX) - math.log(_DT_MIN)
    dt = torch.exp(torch.rand(count) * span + math.log(_DT_MIN))
    return dt + torch.log(-torch.expm1(-dt))


class StateSpaceMixer(Mixer):
    """All but the arithmetic of one of them; its last SSM state is what a watcher sees.

    Attributes:
        d_inner: channels.
        d_state: states of each channel.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "D")
    d_inner: int
    d_state: int
    conv1d: nn.Conv1d
    scan: Scan

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Mark the parameters of a copy, of deepcopy or pickle, too."""
        super().__setstate__(state)
        self.mark_parameters()

    def mark_parameters(self) -> None:
        """Mark the parameters for optimizers of others, as mamba_ssm does."""
        for name in self.no_weight_decay:
            getattr(self, name)._no_weight_decay = True

    @abstractmethod
    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: StateSpaceState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mixed vectors, what the convolution saw, and the last SSM state."""

    @abstractmethod
    def _step(self, hidden_BH: Tensor, own: StateSpaceState, is_new_B: Tensor) -> Tensor:
        """``step_in_place`` by Triton, which reads and writes the state once."""

    def _convolve(self, x_BLE: Tensor, before_BWE: Tensor | None) -> Tensor:
        """The causal convolution through silu, by Triton's kernel on a GPU that has Triton."""
        assert self.conv1d.bias is not None
        arguments = (x_BLE, self.conv1d.weight.squeeze(1), self.conv1d.bias, before_BWE)
        if self.scan.steps_in_kernel(x_BLE):
            return triton_convolution(*arguments)
        return causal_convolution(*arguments)

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors and the last SSM state, alone in a tuple; see ``Mixer.mix``."""
        mixed_BLH, _, ssm_BDN = self._mix(hidden_BLH, is_pad_BL, None)
        return mixed_BLH, (ssm_BDN,)

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, StateSpaceState]:
        """See ``Mixer.advance``; PAD before the moves harms what the convolution saw only."""
        assert state is None or isinstance(state, StateSpaceState)
        mixed_BLH, x_BLD, ssm_BDN = self._mix(hidden_BLH, is_pad_BL, state)
        width = self.conv1d.kernel_size[0] - 1
        conv_BWD = last_inputs(x_BLD, width, is_pad_BL, state.conv if state else None)
        return mixed_BLH, StateSpaceState(conv_BWD, ssm_BDN)

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """See ``Mixer.step_in_place``; on a GPU with Triton the state is read and written once."""
        if self.scan.steps_in_kernel(hidden_BH):
            assert isinstance(state, StateSpaceState)
            return self._step(hidden_BH, state, is_new_B)
        return super().step_in_place(hidden_BH, state, is_new_B)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> StateSpaceState:
        """The state of new games; it does not grow with them."""
        zeros = self.conv1d.weight.new_zeros((), device=device, dtype=torch.float32)
        width = self.conv1d.kernel_size[0] - 1
        return StateSpaceState(
            zeros.new_zeros(batch_size, width, self.conv1d.in_channels),
            zeros.new_zeros(batch_size, self.d_inner, self.d_state),
        )

    def watched(self, state: LayerState) -> tuple[Tensor, ...]:
        """The SSM state (B, D, N)."""
        assert isinstance(state, StateSpaceState)
        return (state.ssm,)


@dataclass(frozen=True)
class SelectiveSettings(PartSettings):
    """What the mixers around the selective scan are told: those of Mamba, and of its kin."""

    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    scan: ScanName = "auto"

    free = ("scan",)

    def check_on(self, device: torch.device) -> None:
        """Look at the scan."""
        SelectiveScan.choose_for(self.scan, device)
