"""Causal softmax attention with rotary positions; with a dense feed-forward layer the Transformer.

Shape suffixes: B games, L positions, M positions of the state, H ``d_model``, K heads, P width of a
head.
Source: Vaswani et al., "Attention is all you need" (arXiv:1706.03762), section 3.2, without biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.mixers.base import Mixer
from tessera.model.mixers.rotary import rotated
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState
from tessera.setting_errors import Problem, SettingError

_USUAL_WIDTH = 64  # of a head


class AttentionState(NamedTuple):
    """What attention remembers of every game: all of it.

    Attributes:
        keys: (B, M, H) float32, rotated, a move at its place; what lies beyond the length counts
            for nothing.
        values: (B, M, H) float32.
        length: (B,) int64, moves so far.
    """

    keys: Tensor
    values: Tensor
    length: Tensor


class AttentionMixer(Mixer):
    """Mixes positions by a softmax over all moves up to each: d_model in, d_model out.

    PAD is left out of the sequence: nobody sees it, and it counts as no position.

    Args:
        d_model: width of a position's vector.
        num_heads: heads, each of an even width; None means as many as are of width 64, or the next
            fewer that divide ``d_model``.

    Raises:
        SettingError: if a size is not a whole number of at least 1, or the heads do not divide.
    """

    def __init__(self, d_model: int, num_heads: int | None = None) -> None:
        super().__init__()
        check_sizes(d_model=d_model, num_heads=1 if num_heads is None else num_heads)
        heads = usual_heads(d_model) if num_heads is None else num_heads
        if d_model % (2 * heads):
            must = f"divide d_model, {d_model}, into even widths"
            raise SettingError(Problem("num_heads", heads, must))
        self.num_heads = heads
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors, see ``Mixer.mix``; there is nothing that a watcher might see."""
        length = hidden_BLH.shape[1]
        place_L = torch.arange(length, device=hidden_BLH.device)
        if is_pad_BL is None:
            q_BLH, k_BLH, v_BLH = self._project(hidden_BLH, place_L)
            return self._attend(q_BLH, k_BLH, v_BLH, None), ()
        # PAD sees itself, because a softmax over nothing is no number.
        is_itself = place_L[:, None] == place_L
        sees = (place_L[:, None] >= place_L) & ~is_pad_BL[:, None, :] | is_itself
        place_BL = (~is_pad_BL).cumsum(1) - 1
        q_BLH, k_BLH, v_BLH = self._project(hidden_BLH, place_BL)
        return self._attend(q_BLH, k_BLH, v_BLH, sees).masked_fill(is_pad_BL[..., None], 0.0), ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, AttentionState]:
        """See ``Mixer.advance``; the state grows by as many moves as there are positions."""
        num_games, length, _ = hidden_BLH.shape
        before = self.init_state(num_games, 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, AttentionState)
        place_BL = before.length[:, None] + torch.arange(length, device=hidden_BLH.device)
        q_BLH, k_BLH, v_BLH = self._project(hidden_BLH, place_BL)
        if is_pad_BL is not None:
            # PAD comes after the moves, so its places are beyond the length, and zero there.
            k_BLH, v_BLH = (x.masked_fill(is_pad_BL[..., None], 0.0) for x in (k_BLH, v_BLH))
        at_BLH = place_BL[..., None].expand(k_BLH.shape)
        keys_BMH, values_BMH = (
            F.pad(old, (0, 0, 0, length)).scatter(1, at_BLH, new.to(old.dtype))
            for old, new in ((before.keys, k_BLH), (before.values, v_BLH))
        )
        sees = torch.arange(keys_BMH.shape[1], device=place_BL.device) <= place_BL[..., None]
        mixed_BLH = self._attend(q_BLH, keys_BMH, values_BMH, sees)
        if is_pad_BL is None:
            return mixed_BLH, AttentionState(keys_BMH, values_BMH, before.length + length)
        num_moves_B = (~is_pad_BL).sum(1)
        after = AttentionState(keys_BMH, values_BMH, before.length + num_moves_B)
        return mixed_BLH.masked_fill(is_pad_BL[..., None], 0.0), after

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """See ``Mixer.step_in_place``.

        Raises:
            ValueError: if the state has no room for one more move; on a GPU, where looking would
                wait for it, torch's own assertion ends the process.
        """
        assert isinstance(state, AttentionState)
        state.length.masked_fill_(is_new_B, 0)
        room = state.keys.shape[1]
        if room == 0 or (not hidden_BH.is_cuda and int(state.length.max()) >= room):
            raise ValueError(f"state must hold the longest game, got room for {room} moves.")
        place_B1 = state.length[:, None]
        q_BLH, k_BLH, v_BLH = self._project(hidden_BH[:, None], place_B1)
        at_BLH = place_B1[..., None].expand(k_BLH.shape)
        state.keys.scatter_(1, at_BLH, k_BLH.to(state.keys.dtype))
        state.values.scatter_(1, at_BLH, v_BLH.to(state.values.dtype))
        sees = torch.arange(room, device=place_B1.device) <= place_B1[..., None]
        mixed_BLH = self._attend(q_BLH, state.keys, state.values, sees)
        state.length.add_(1)
        return mixed_BLH[:, 0]

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> AttentionState:
        """The state of new games, with room for so many moves of each."""
        zeros = self.out_proj.weight.new_zeros((), device=device, dtype=torch.float32)
        width = self.out_proj.out_features
        return AttentionState(
            zeros.new_zeros(batch_size, max_moves, width),
            zeros.new_zeros(batch_size, max_moves, width),
            zeros.new_zeros(batch_size, dtype=torch.int64),
        )

    def _project(self, hidden_BLH: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, rotated to their places (L,) or (B, L), and values; each (B, L, H)."""
        q_BLH, k_BLH, v_BLH = self.in_proj(hidden_BLH).chunk(3, dim=-1)
        q_BLH, k_BLH = (rotated(x, place, self.num_heads) for x in (q_BLH, k_BLH))
        return q_BLH, k_BLH, v_BLH

    def _attend(self, q_BLH: Tensor, k_BMH: Tensor, v_BMH: Tensor, sees: Tensor | None) -> Tensor:
        """The mixed vectors (B, L, H).

        Args:
            q_BLH, k_BMH, v_BMH: rotated queries and keys, and values.
            sees: (B, L, M) bool, True where a query sees a key; None means each all up to its own.
        """
        q, k, v = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2).to(v_BMH.dtype)
            for x in (q_BLH, k_BMH, v_BMH)
        )
        mask = None if sees is None else sees.unsqueeze(1)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=sees is None)
        mixed_BLH = mixed.transpose(1, 2).flatten(2)
        if not torch.is_autocast_enabled(mixed.device.type):
            mixed_BLH = mixed_BLH.to(self.out_proj.weight.dtype)
        return self.out_proj(mixed_BLH)


@dataclass(frozen=True)
class AttentionSettings(PartSettings):
    """Settings of ``AttentionMixer``.

    Args:
        num_heads: heads, each of an even width; null for as many as are of width 64.
    """

    num_heads: int | None = None

    part = AttentionMixer

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        return 4 * d_model**2


def usual_heads(d_model: int) -> int:
    """The number of heads that leaves each a width of 64, or the next fewer that divides."""
    heads = max(1, d_model // _USUAL_WIDTH)
    while heads > 1 and d_model % (2 * heads):
        heads -= 1
    return heads
