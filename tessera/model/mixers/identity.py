"""No mixing at all: what comes in goes out, and nothing is remembered.

With features that show the board a model of it is a function of the position and the last move
alone, as a search needs it, which meets positions in no order.

Shape suffixes: B games, L positions, H ``d_model``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tessera.model.contract import check_sizes
from tessera.model.mixers.base import Mixer
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState


class IdentityState(NamedTuple):
    """What is remembered of every game.

    Attributes:
        nothing: (B, 0) float32, which only knows how many games there are.
    """

    nothing: Tensor


class IdentityMixer(Mixer):
    """Hands every position on as it is.

    Args:
        d_model: width of a position's vector.

    Raises:
        SettingError: if ``d_model`` is not a whole number of at least 1.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        check_sizes(d_model=d_model)

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See ``Mixer.mix``."""
        return hidden_BLH, ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, LayerState]:
        """See ``Mixer.advance``."""
        return hidden_BLH, self.init_state(len(hidden_BLH), 0, hidden_BLH.device)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> IdentityState:
        """The state of new games; without a device, which no parameter tells, on the CPU."""
        return IdentityState(torch.zeros(batch_size, 0, device=device))

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """See ``Mixer.step_in_place``."""
        return hidden_BH


@dataclass(frozen=True)
class IdentitySettings(PartSettings):
    """``IdentityMixer`` has no settings."""

    part: ClassVar[type[nn.Module]] = IdentityMixer

    def num_parameters(self, d_model: int) -> int:
        """None."""
        return 0
