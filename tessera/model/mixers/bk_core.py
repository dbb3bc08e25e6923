"""BK-Core: each position gets the left Green's function of a chain whose sites are the moves.

Shape suffixes: B games, L positions, H ``d_model``, K chains.
Source: MUSE phases 3 and 7, "ResNet-BK". On purpose different: causal, an exact gradient, a learned
width η, and as many chains as wanted; see siblings.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.mixers.base import Mixer
from tessera.model.parts import PartSettings
from tessera.model.scans.resolvent import left_green
from tessera.model.state import LayerState

_SITE = -2.0  # of the discrete Laplacian, whose neighbours are joined by 1
_POTENTIAL = 3.0  # the most that a move adds to it, either way
# The least η: no feature is beyond 1 / η = 10, where the published ones are cut off.
_WIDTH = 0.1
_INITIAL_WIDTH = math.log1p(math.e) + 1e-6  # as published


class BKCoreState(NamedTuple):
    """What BK-Core remembers of every game.

    Attributes:
        green: (B, K, 2) float32, real and imaginary part of the last Green's function.
    """

    green: Tensor


class GreenFeatures(nn.Module):
    """``g_t = 1 / (a_t − iη − g_{t−1})`` with ``a_t = −2 + clamp(w x_t, ±3)``, of K chains.

    Args:
        d_model: width of a position's vector.
        num_chains: K, each with its own w and η.
    """

    def __init__(self, d_model: int, num_chains: int) -> None:
        super().__init__()
        self.potential = nn.Linear(d_model, num_chains)
        start = math.log(math.expm1(_INITIAL_WIDTH - _WIDTH))
        self.width = nn.Parameter(torch.full((num_chains,), start))

    def forward(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: BKCoreState | None
    ) -> Tensor:
        """G (B, L, K), complex in at least float32; at PAD as before it.

        Args:
            hidden_BLH: (B, L, H).
            is_pad_BL: (B, L) bool, True at PAD; None means there is none.
            before: the state before the first position; None means the start of a game.
        """
        potential = self.potential(hidden_BLH)
        dtype = torch.promote_types(potential.dtype, torch.float32)
        with torch.autocast(hidden_BLH.device.type, enabled=False):
            sites = _SITE + potential.to(dtype).clamp(-_POTENTIAL, _POTENTIAL)
            width = (_WIDTH + F.softplus(self.width)).to(dtype)
            alpha = torch.complex(sites, -width.expand_as(sites))
            last = None if before is None else torch.view_as_complex(before.green)
            is_pad = None if is_pad_BL is None else is_pad_BL[..., None].expand(alpha.shape)
            return left_green(alpha, torch.ones_like(alpha), last, is_pad)

    def state_of(self, green: Tensor) -> BKCoreState:
        """What to go on from after g (B, L, K)."""
        return BKCoreState(torch.view_as_real(green[:, -1]).float())

    def init_state(self, batch_size: int, device: torch.device | str | None) -> BKCoreState:
        """The state of new games: no site is before the first."""
        shape = (batch_size, len(self.width), 2)
        return BKCoreState(self.width.new_zeros(shape, device=device, dtype=torch.float32))


class BKCoreMixer(Mixer):
    """A linear layer over real and imaginary parts of the chains' Green's functions.

    Args:
        d_model: width of a position's vector.
        num_chains: K; published is 1.

    Raises:
        SettingError: if a size is not a whole number of at least 1.
    """

    def __init__(self, d_model: int, num_chains: int = 1) -> None:
        super().__init__()
        check_sizes(d_model=d_model, num_chains=num_chains)
        self.features = GreenFeatures(d_model, num_chains)
        self.out_proj = nn.Linear(2 * num_chains, d_model)

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors, see ``Mixer.mix``; there is nothing that a watcher might see."""
        return self._mix(hidden_BLH, is_pad_BL, None)[0], ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, BKCoreState]:
        """See ``Mixer.advance``."""
        assert state is None or isinstance(state, BKCoreState)
        mixed_BLH, green = self._mix(hidden_BLH, is_pad_BL, state)
        return mixed_BLH, self.features.state_of(green)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> BKCoreState:
        """The state of new games."""
        return self.features.init_state(batch_size, device)

    def _mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None, before: BKCoreState | None
    ) -> tuple[Tensor, Tensor]:
        """The mixed vectors and g of every position."""
        green = self.features(hidden_BLH, is_pad_BL, before)
        parts = torch.cat([green.real, green.imag], -1)
        if not torch.is_autocast_enabled(parts.device.type):
            parts = parts.to(self.out_proj.weight.dtype)
        mixed_BLH = self.out_proj(parts)
        if is_pad_BL is not None:
            mixed_BLH = mixed_BLH.masked_fill(is_pad_BL[..., None], 0.0)
        return mixed_BLH, green


@dataclass(frozen=True)
class BKCoreSettings(PartSettings):
    """Settings of ``BKCoreMixer``.

    Args:
        num_chains: chains of which each position gets two numbers.
    """

    num_chains: int = 1

    part = BKCoreMixer

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        k = self.num_chains
        return (d_model + 1) * k + k + (2 * k + 1) * d_model
