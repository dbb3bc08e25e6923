"""Phase 7's hybrid: an adaptive-rank state space and attention by distance, gated by a resonance.

Shape suffixes: B games, L positions, H ``d_model``.
Source: MUSE phase 7, hybrid hyperbolic attention. On purpose different: all three parts are causal,
as their own files say; see siblings.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.mixers.adaptive_rank import (
    AdaptiveRankMixer,
    AdaptiveRankSettings,
    AdaptiveRankState,
)
from tessera.model.mixers.base import PenalizedMixer, Penalties
from tessera.model.mixers.bk_core import BKCoreState, GreenFeatures
from tessera.model.mixers.poincare_attention import (
    PoincareAttentionMixer,
    PoincareAttentionSettings,
)
from tessera.model.mixers.window import WindowState
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState


class Phase7State(NamedTuple):
    """What the three parts remember of every game, see their own states.

    Attributes:
        sums, rank_length, inputs: an ``AdaptiveRankState``.
        keys, values, length: a ``WindowState``.
        green: a ``BKCoreState``.
    """

    sums: Tensor
    rank_length: Tensor
    inputs: Tensor
    keys: Tensor
    values: Tensor
    length: Tensor
    green: Tensor

    @property
    def parts(self) -> tuple[AdaptiveRankState, WindowState, BKCoreState]:
        """The same tensors, as the parts take them."""
        return AdaptiveRankState(*self[:3]), WindowState(*self[3:6]), BKCoreState(self.green)


class Phase7HybridMixer(PenalizedMixer):
    """``norm(s · local + (1 − s) · global)`` with the share ``s_t = σ(w |Im g_t|)``.

    Global is an ``AdaptiveRankMixer``, local a ``PoincareAttentionMixer``, and g the left Green's
    function of one chain, see ``GreenFeatures``; w is a number that begins at 1.

    Args:
        d_model: width of a position's vector.
        max_rank, min_rank, warmup_steps, penalty: of the global part.
        num_heads, window: of the local part.

    Raises:
        SettingError: with a problem for every setting that is out of range.
    """

    def __init__(
        self,
        d_model: int,
        max_rank: int = 32,
        min_rank: int = 4,
        warmup_steps: int = 1000,
        penalty: float = 0.001,
        num_heads: int | None = None,
        window: int = 64,
    ) -> None:
        super().__init__()
        self.ranks = AdaptiveRankMixer(
            d_model, max_rank, min_rank, warmup_steps=warmup_steps, penalty=penalty
        )
        self.attention = PoincareAttentionMixer(d_model, num_heads, window)
        self.chain = GreenFeatures(d_model, 1)
        self.resonance = nn.Parameter(torch.ones(()))
        self.norm = nn.LayerNorm(d_model)
        self.penalties = self.ranks.penalties

    def at_step(self, step: int, layer: int) -> None:
        """Open the ranks of this step."""
        self.ranks.at_step(step, layer)

    def mix_penalized(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], Penalties]]:
        """See ``Mixer.mix_penalized``: with the effective rank of the global part."""
        far_BLH, (seen, penalties) = self.ranks.mix_penalized(hidden_BLH, is_pad_BL)
        near_BLH, _ = self.attention.mix(hidden_BLH, is_pad_BL)
        green = self.chain(hidden_BLH, is_pad_BL, None)
        return self._joined(far_BLH, near_BLH, green, is_pad_BL), (seen, penalties)

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, Phase7State]:
        """See ``Mixer.advance``."""
        num_games = len(hidden_BLH)
        before = self.init_state(num_games, 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, Phase7State)
        ranks, window, chain = before.parts
        far_BLH, ranks = self.ranks.advance(hidden_BLH, is_pad_BL, ranks)
        near_BLH, window = self.attention.advance(hidden_BLH, is_pad_BL, window)
        green = self.chain(hidden_BLH, is_pad_BL, chain)
        after = Phase7State(*ranks, *window, *self.chain.state_of(green))
        return self._joined(far_BLH, near_BLH, green, is_pad_BL), after

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """See ``Mixer.step_in_place``."""
        assert isinstance(state, Phase7State)
        ranks, window, chain = state.parts
        far_BH = self.ranks.step_in_place(hidden_BH, ranks, is_new_B)
        near_BH = self.attention.step_in_place(hidden_BH, window, is_new_B)
        chain.green.masked_fill_(is_new_B[:, None, None], 0)
        green = self.chain(hidden_BH[:, None], None, chain)
        chain.green.copy_(self.chain.state_of(green).green)
        return self._joined(far_BH, near_BH, green[:, 0], None)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> Phase7State:
        """The state of new games."""
        ranks = self.ranks.init_state(batch_size, max_moves, device)
        window = self.attention.init_state(batch_size, max_moves, device)
        return Phase7State(*ranks, *window, *self.chain.init_state(batch_size, device))

    def _joined(self, far: Tensor, near: Tensor, green: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        """What leaves the mixer (…, H), zero at PAD.

        Args:
            far, near: of the global and of the local part, (…, H).
            green: (…, 1) complex.
            is_pad_BL: (B, L) bool, True at PAD; None means there is none.
        """
        dtype = torch.promote_types(far.dtype, torch.float32)
        with torch.autocast(far.device.type, enabled=False):
            share = (self.resonance.to(dtype) * green.imag.abs()).sigmoid()
            joined = torch.lerp(far.to(dtype), near.to(dtype), share)
            weight, bias = (own.to(dtype) for own in (self.norm.weight, self.norm.bias))
            out = F.layer_norm(joined, weight.shape, weight, bias, self.norm.eps).to(far.dtype)
        return out if is_pad_BL is None else out.masked_fill(is_pad_BL[..., None], 0.0)


@dataclass(frozen=True)
class Phase7HybridSettings(PartSettings):
    """Settings of ``Phase7HybridMixer``.

    Args:
        max_rank: numbers that the global part's state has.
        min_rank: those of them that are open when the training begins.
        warmup_steps: steps in which the open ranks grow from min_rank to all.
        penalty: nats that the mean gate costs beside the loss of the moves.
        num_heads: heads of the local part, each of an even width; null for as many as are of 64.
        window: moves that each one sees in the local part, its own included.
    """

    max_rank: int = 32
    min_rank: int = 4
    warmup_steps: int = 1000
    penalty: float = 0.001
    num_heads: int | None = None
    window: int = 64

    part, free = Phase7HybridMixer, ("warmup_steps", "penalty")

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        far = AdaptiveRankSettings(self.max_rank, self.min_rank).num_parameters(d_model)
        near = PoincareAttentionSettings().num_parameters(d_model)
        # The chain, the number w, and the norm.
        return far + near + d_model + 2 + 1 + 2 * d_model
