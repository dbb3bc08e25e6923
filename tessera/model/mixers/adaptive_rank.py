"""An adaptive-rank state space: a running sum of gated vectors, and a convolution of three moves.

Shape suffixes: B games, L positions, H ``d_model``, R ranks, W positions that the convolution sees
beside its own.
Source: MUSE phase 1, "AR-SSM". On purpose different: causal, the sum in float32, or the mean in its
place if asked for, and the gates' penalty is in the loss; see siblings.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.convolution import last_inputs
from tessera.model.mixers.base import PenalizedMixer, Penalties, Penalty
from tessera.model.mixers.noise import logistic_noise
from tessera.model.parts import PartSettings
from tessera.model.scans.sums import running_sums
from tessera.model.state import LayerState
from tessera.setting_errors import Problem, SettingError, number, one_of, problems_of, whole

Gate = Literal["soft", "straight_through", "gumbel"]

_TAPS = 3  # of the convolution
_INITIAL_GAIN = 0.02  # of the matrices U and V, as published
_ALLOWED = {
    "gate": one_of("soft", "straight_through", "gumbel"),
    "temperature": number("more than 0", lambda x: 0 < x < math.inf),
    "warmup_steps": whole(0),
    "penalty": number("at least 0", lambda x: 0 <= x < math.inf),
}


class AdaptiveRankState(NamedTuple):
    """What the mixer remembers of every game.

    Attributes:
        sums: (B, R) float32, of the gated vectors so far.
        length: (B,) int64, moves so far.
        inputs: (B, W, H) float32, the last moves' vectors, oldest first.
    """

    sums: Tensor
    length: Tensor
    inputs: Tensor


class AdaptiveRankMixer(PenalizedMixer):
    """``conv(x)_t + O(s_t ⊙ v_t)``, s_t the sum of u up to t, u and v gated by g: ``u = g ⊙ U x``.

    The gates ``g = σ(W₂ relu(W₁ x))`` are between 0 and 1, one of each rank at each position. Their
    sum is the *effective rank*. It is logged, and costs; no computation is saved by it.

    Args:
        d_model: width of a position's vector.
        max_rank: R.
        min_rank: ranks that are open when the training begins.
        gate: ``soft``: g as it is. ``straight_through``: 1 where g is at least ½ and else 0, with
            the gradient of g. ``gumbel``: soft, in training with logistic noise that depends on
            nothing but the step, the layer, the row and the position.
        temperature: of the gate gumbel: what logits and noise are divided by.
        warmup_steps: steps in which the open ranks grow from ``min_rank`` to all; 0 for at once.
        penalty: nats that the mean gate costs, at most so much.
        average: divide the sums by the number of moves, so that they do not grow with the game.

    Raises:
        SettingError: with a problem for every setting that is out of range.
    """

    rank: Tensor
    seed: Tensor

    def __init__(
        self,
        d_model: int,
        max_rank: int = 32,
        min_rank: int = 4,
        gate: Gate = "soft",
        temperature: float = 1.0,
        warmup_steps: int = 1000,
        penalty: float = 0.001,
        average: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, max_rank=max_rank, min_rank=min_rank)
        own = SimpleNamespace(
            gate=gate, temperature=temperature, warmup_steps=warmup_steps, penalty=penalty
        )
        problems = problems_of(own, _ALLOWED)
        if min_rank > max_rank:
            problems.append(Problem("min_rank", min_rank, f"be at most max_rank, {max_rank}"))
        if problems:
            raise SettingError(*problems)
        self.max_rank, self.min_rank, self.gate, self.temperature = (
            *(max_rank, min_rank),
            *(gate, temperature),
        )
        self.warmup_steps, self.average = warmup_steps, average
        self.penalties = (Penalty("effective_rank", penalty / max_rank),)
        width = _gate_width(d_model, min_rank)
        self.gate_in = nn.Linear(d_model, width)
        self.gate_out = nn.Linear(width, max_rank)
        self.u_proj = nn.Linear(d_model, max_rank, bias=False)
        self.v_proj = nn.Linear(d_model, max_rank, bias=False)
        self.taps = nn.Parameter(0.02 * torch.randn(d_model, _TAPS))  # the oldest position's first
        self.out_proj = nn.Linear(max_rank, d_model)
        for layer in (self.gate_in, self.gate_out, self.u_proj, self.v_proj, self.out_proj):
            gain = _INITIAL_GAIN if layer.bias is None else 1.0
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        # What a graph reads has to be a tensor. Ranks that are open; a checkpoint keeps it.
        self.register_buffer("rank", torch.tensor(float(max_rank)))
        self.register_buffer("seed", torch.tensor(0), persistent=False)
        self._is_told = False

    def at_step(self, step: int, layer: int) -> None:
        """Open the ranks of this step, and let its noise be another one than before."""
        self.rank.fill_(self.rank_at(step))
        self.seed.fill_(step * 1_000 + layer)
        self._is_told = True

    def rank_at(self, step: int) -> int:
        """How many ranks are open at a step of the training, from 0."""
        done = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return self.min_rank + int((self.max_rank - self.min_rank) * done)

    def mix_penalized(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], Penalties]]:
        """See ``Mixer.mix_penalized``: with the effective rank."""
        noise = None
        if self.gate == "gumbel" and self.training and self._is_told:
            shape = (*hidden_BLH.shape[:2], self.max_rank)
            noise = logistic_noise(self.seed, shape)
        mixed_BLH, gates_BLR, _ = self._mix(hidden_BLH, is_pad_BL, None, noise)
        return mixed_BLH, ((), (gates_BLR.sum(-1),))

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, AdaptiveRankState]:
        """See ``Mixer.advance``."""
        num_games = len(hidden_BLH)
        before = self.init_state(num_games, 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, AdaptiveRankState)
        mixed_BLH, _, after = self._mix(hidden_BLH, is_pad_BL, before, None)
        return mixed_BLH, after

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> AdaptiveRankState:
        """The state of new games."""
        zeros = self.taps.new_zeros((), device=device, dtype=torch.float32)
        return AdaptiveRankState(
            zeros.new_zeros(batch_size, self.max_rank),
            zeros.new_zeros(batch_size, dtype=torch.int64),
            zeros.new_zeros(batch_size, _TAPS - 1, len(self.taps)),
        )

    def gates(self, hidden: Tensor, noise: Tensor | None = None) -> Tensor:
        """The gates (…, R) of vectors (…, H), at least float32, those of closed ranks zero.

        Not rounded by autocast: what is near the threshold would jump.

        Args:
            hidden: (…, H).
            noise: (…, R), added to the logits.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            inner = self.gate_in(hidden.to(self.gate_in.weight.dtype)).relu()
            logits = self.gate_out(inner)
            if self.gate == "gumbel":
                logits = (logits if noise is None else logits + noise) / self.temperature
            gates = logits.sigmoid()
            if self.gate == "straight_through":
                # Its value is exactly 0 or 1.
                gates = (gates >= 0.5).to(gates.dtype) + (gates - gates.detach())
            is_open_R = torch.arange(self.max_rank, device=hidden.device) < self.rank
            return gates * is_open_R

    def _mix(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None,
        before: AdaptiveRankState | None,
        noise: Tensor | None,
    ) -> tuple[Tensor, Tensor, AdaptiveRankState]:
        """The mixed vectors, the gates (B, L, R), zero at PAD, and the state after them."""
        if is_pad_BL is not None:
            hidden_BLH = hidden_BLH.masked_fill(is_pad_BL[..., None], 0.0)
        length = hidden_BLH.shape[1]
        gates_BLR = self.gates(hidden_BLH, noise)
        # In one product: what is mixed is read, and its gradient made, once.
        both = torch.cat([self.u_proj.weight, self.v_proj.weight])
        u_BLR, v_BLR = F.linear(hidden_BLH, both).chunk(2, -1)
        u_BLR, v_BLR = gates_BLR * u_BLR, gates_BLR * v_BLR  # zero at PAD, so is the sum's growth
        sums_BLR = running_sums(u_BLR)
        if is_pad_BL is None:
            count_BL = torch.arange(1, length + 1, device=hidden_BLH.device)[None]
        else:
            count_BL = (~is_pad_BL).cumsum(1)
        if before is not None:
            sums_BLR = sums_BLR + before.sums[:, None]
            count_BL = count_BL + before.length[:, None]
        means_BLR = sums_BLR / count_BL.clamp(min=1)[..., None] if self.average else sums_BLR
        if not torch.is_autocast_enabled(hidden_BLH.device.type):
            means_BLR = means_BLR.to(self.out_proj.weight.dtype)
        mixed_BLH = self.out_proj(means_BLR * v_BLR)
        mixed_BLH = mixed_BLH + self._convolved(hidden_BLH, before)
        if is_pad_BL is not None:
            mixed_BLH = mixed_BLH.masked_fill(is_pad_BL[..., None], 0.0)
            gates_BLR = gates_BLR.masked_fill(is_pad_BL[..., None], 0.0)
        inputs_BWH = last_inputs(hidden_BLH, _TAPS - 1, is_pad_BL, before and before.inputs)
        last_B = count_BL[:, -1].expand(len(hidden_BLH))
        after = AdaptiveRankState(sums_BLR[:, -1].float(), last_B, inputs_BWH)
        return mixed_BLH, gates_BLR, after

    def _convolved(self, hidden_BLH: Tensor, before: AdaptiveRankState | None) -> Tensor:
        """Of each position and the two before it, each channel by itself."""
        length = hidden_BLH.shape[1]
        if before is None:
            convolved: Tensor = _Convolved.apply(hidden_BLH, self.taps)
            return convolved
        seen = torch.cat((before.inputs.to(hidden_BLH.dtype), hidden_BLH), dim=1)
        total = seen[:, :length] * self.taps[:, 0]
        for tap in range(1, _TAPS):
            total = torch.addcmul(total, seen[:, tap : tap + length], self.taps[:, tap])
        return total


class _Convolved(torch.autograd.Function):
    """The sum of ``taps[:, k]`` times what lies ``_TAPS - 1 - k`` positions before; zeros before.

    The gradient is added up in place, which autograd's own is not.
    """

    @staticmethod
    def forward(ctx: Any, hidden_BLH: Tensor, taps_HW: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_BLH, taps_HW)
        dtype = torch.promote_types(hidden_BLH.dtype, taps_HW.dtype)
        total_BLH = torch.zeros_like(hidden_BLH, dtype=dtype)
        for tap_H, later, earlier in _by_tap(taps_HW, total_BLH, hidden_BLH):
            later.addcmul_(earlier, tap_H)
        return total_BLH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLH: Tensor) -> tuple[Tensor, Tensor]:
        hidden_BLH, taps_HW = ctx.saved_tensors
        of_hidden_BLH = torch.zeros_like(grad_BLH)
        for tap_H, later, earlier in _by_tap(taps_HW, grad_BLH, of_hidden_BLH):
            earlier.addcmul_(later, tap_H)
        pairs = _by_tap(taps_HW, grad_BLH, hidden_BLH)
        of_taps = [(later * earlier).sum((0, 1)) for _, later, earlier in pairs]
        return of_hidden_BLH.to(hidden_BLH.dtype), torch.stack(of_taps, 1).to(taps_HW.dtype)


def _by_tap(
    taps_HW: Tensor, after_BLH: Tensor, before_BLH: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each tap (H,), positions that it is added to, and what it is multiplied with there."""
    length = after_BLH.shape[1]
    for place in range(_TAPS):
        back = min(_TAPS - 1 - place, length)
        yield taps_HW[:, place], after_BLH[:, back:], before_BLH[:, : length - back]


@dataclass(frozen=True)
class AdaptiveRankSettings(PartSettings):
    """Settings of ``AdaptiveRankMixer``.

    Args:
        max_rank: numbers that the state has.
        min_rank: those of them that are open when the training begins.
        gate: soft, straight_through or gumbel.
        temperature: of the gate gumbel.
        warmup_steps: steps in which the open ranks grow from min_rank to all.
        penalty: nats that the mean gate costs beside the loss of the moves.
        average: divide the sums by the number of moves.
    """

    max_rank: int = 32
    min_rank: int = 4
    gate: Gate = "soft"
    temperature: float = 1.0
    warmup_steps: int = 1000
    penalty: float = 0.001
    average: bool = False

    part, free = AdaptiveRankMixer, ("temperature", "warmup_steps", "penalty")

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        width, rank = _gate_width(d_model, self.min_rank), self.max_rank
        of_gates = d_model * width + width + width * rank + rank
        return of_gates + 2 * d_model * rank + _TAPS * d_model + rank * d_model + d_model


def _gate_width(d_model: int, min_rank: int) -> int:
    """Of the layer inside the gates."""
    return max(d_model // 4, min_rank)
