"""The gated delta rule: a memory that can overwrite what it holds, position by position or chunked.

The recurrence, for every game and head::

    state[t] = α[t] state[t-1] (I - β[t] k[t] k[t]ᵀ) + β[t] v[t] k[t]ᵀ
    o[t]     = state[t] q[t]

where k and q are what is given, divided by its length. So the transition's eigenvalues are α, and
α (1 - β) along the key: β = 1 forgets what was stored under the key, β = 2 turns its sign. Products
of the latter are any rotation of the keys' space, permutations among them; those of decays are not.

Shape suffixes: B games, L positions, K heads, N width of a key, P width of a value, S chunks, Q
positions of a chunk.
Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (arXiv:2412.06464), section 3, the WY
form of Yang et al., "Parallelizing linear transformers with the delta rule" (arXiv:2406.06484); β
up to 2 by Grazzi et al., "Unlocking state-tracking in linear RNNs through negative eigenvalues"
(arXiv:2411.12537).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.backend import Code, Scan, ScanName, needs_triton, runs_anywhere
from tessera.model.scans.sums import running_sums

EPS = 1e-6  # added to the square of a length
_CHUNK = 32
_MOST_KEYS = 128  # a column of the state that the kernels hold in registers


class DeltaInputs(NamedTuple):
    """The arguments of ``delta_rule``."""

    q_BLKN: Tensor
    k_BLKN: Tensor
    v_BLKP: Tensor
    fade_BLK: Tensor
    beta_BLK: Tensor
    state_BKPN: Tensor | None = None


def delta_rule(
    q_BLKN: Tensor,
    k_BLKN: Tensor,
    v_BLKP: Tensor,
    fade_BLK: Tensor,
    beta_BLK: Tensor,
    state_BKPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The outputs and the state after the last position: the recurrence as it is written.

    This is the specification. It runs on any device in float32 (float64 stays float64), autocast or
    not, with gradients to every argument.

    Args:
        q_BLKN: what is asked of the memory, (B, L, K, N), L at least 1; only its direction counts.
        k_BLKN: under what something is stored, (B, L, K, N); only its direction counts.
        v_BLKP: what is stored, (B, L, K, P).
        fade_BLK: logarithms of α, at most 0, (B, L, K).
        beta_BLK: how much of it is written, 0 to 2, (B, L, K). 0, with an α of 1, leaves the state
            as it is.
        state_BKPN: before the first position; None means zeros.

    Returns:
        o, (B, L, K, P) in the dtype of ``v_BLKP``; the last state, (B, K, P, N), at least float32.
    """
    dtype = torch.promote_types(v_BLKP.dtype, torch.float32)
    with torch.autocast(v_BLKP.device.type, enabled=False):
        state = _state_of(k_BLKN, v_BLKP, state_BKPN, dtype)
        steps = zip(
            of_length_1(q_BLKN.to(dtype)).unsqueeze(4).unbind(1),
            of_length_1(k_BLKN.to(dtype)).unsqueeze(4).unbind(1),
            v_BLKP.to(dtype).unsqueeze(4).unbind(1),
            fade_BLK.to(dtype).exp()[..., None, None].unbind(1),
            beta_BLK.to(dtype)[..., None, None].unbind(1),
            strict=True,
        )
        read = []
        for q_BKN1, k_BKN1, v_BKP1, alpha, beta in steps:
            state = alpha * state
            state = state + beta * (v_BKP1 - state @ k_BKN1) @ k_BKN1.mT
            read.append((state @ q_BKN1).squeeze(3))
        return torch.stack(read, 1).to(v_BLKP.dtype), state


def chunked_delta_rule(
    q_BLKN: Tensor,
    k_BLKN: Tensor,
    v_BLKP: Tensor,
    fade_BLK: Tensor,
    beta_BLK: Tensor,
    state_BKPN: Tensor | None = None,
    chunk: int = _CHUNK,
) -> tuple[Tensor, Tensor]:
    """The same as ``delta_rule`` by matrix products, of which only two a chunk wait for another.

    What a position adds to the state, u[t] k[t]ᵀ, depends on what the earlier ones of its chunk
    add: a triangular system, whose inverse is the same for every state that the chunk begins with.

    Args:
        chunk: Q, positions of a chunk; the last one is filled up with such as change nothing.
    """
    length = v_BLKP.shape[1]
    dtype = torch.promote_types(v_BLKP.dtype, torch.float32)
    size = min(chunk, length)

    def cut(tensor: Tensor) -> Tensor:
        """(B, L, K, …) as (B, S, K, Q, …)."""
        after = (0, 0) * (tensor.dim() - 2) + (0, -length % size)
        return F.pad(tensor.to(dtype), after).unflatten(1, (-1, size)).transpose(2, 3)

    # Autocast would run the products in bfloat16.
    with torch.autocast(v_BLKP.device.type, enabled=False):
        q, k = (of_length_1(cut(x)) for x in (q_BLKN, k_BLKN))
        v, fade, beta = (cut(x) for x in (v_BLKP, fade_BLK, beta_BLK))
        state = _state_of(k_BLKN, v_BLKP, state_BKPN, dtype)
        total = running_sums(fade, 3)
        since_begin = total.exp().unsqueeze(4)
        between = _decay_between(total)
        beta = beta.unsqueeze(4)
        solve = unit_triangular_inverse(beta * between * (k @ k.mT))
        # u = from_values - from_state stateᵀ
        from_values, from_state = solve @ (beta * v), solve @ (beta * since_begin * k)
        stored_as = _sum_of_later(fade).exp().unsqueeze(4) * k
        at_end = since_begin[:, :, :, -1:]
        before, added = [], []
        steps = (x.unbind(1) for x in (from_values, from_state, stored_as, at_end))
        for values_BKQP, keys_BKQN, ends_BKQN, left_BK11 in zip(*steps, strict=True):
            u_BKQP = values_BKQP - keys_BKQN @ state.mT
            before.append(state)
            added.append(u_BKQP)
            state = left_BK11 * state + u_BKQP.mT @ ends_BKQN
        u = torch.stack(added, 1)
        o = (between * (q @ k.mT)) @ u + (q * k).sum(4, keepdim=True) * u
        o = o + (since_begin * q) @ torch.stack(before, 1).mT
        o_BLKP = o.transpose(2, 3).flatten(1, 2)[:, :length]
        return o_BLKP.to(v_BLKP.dtype), state


def triton_delta_rule(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
    """The same as ``chunked_delta_rule``, computed by the Triton kernels in ``model.kernels``.

    On purpose different: of narrow inputs, what is read and all gradients are products rounded to
    TF32. float64, and keys too wide for registers, are left to the plain form.
    """
    inputs = DeltaInputs(*arguments, **named)
    if inputs.v_BLKP.dtype == torch.float64 or inputs.k_BLKN.shape[3] > _MOST_KEYS:
        return chunked_delta_rule(*inputs)
    from tessera.model.kernels.delta_launch import DELTA

    o_BLKP, last_BKPN, _ = DELTA.forward(*inputs)
    return o_BLKP, last_BKPN


@torch.no_grad()
def delta_step_in_place(
    q_BKN: Tensor,
    k_BRKN: Tensor,
    v_BRKP: Tensor,
    fade_BK: Tensor,
    beta_BRK: Tensor,
    state_BKPN: Tensor,
    is_new_B: Tensor,
) -> Tensor:
    """One position of each game, in which R keys are written; the state is moved on in place.

    Args:
        state_BKPN: float32, contiguous.
        is_new_B: (B,) bool, True where the state before is zero.

    Returns:
        o, (B, K, P) in the dtype of the state.
    """
    with torch.autocast(state_BKPN.device.type, enabled=False):
        dtype = state_BKPN.dtype
        kept = fade_BK.to(dtype).exp().masked_fill(is_new_B[:, None], 0.0)
        # Of a new game whatever is there counts for nothing, infinity too.
        state_BKPN.masked_fill_(is_new_B[:, None, None, None], 0.0).mul_(kept[..., None, None])
        flat = state_BKPN.flatten(0, 1)
        for k_BKN, v_BKP, beta_BK in zip(
            of_length_1(k_BRKN.to(dtype)).unbind(1),
            v_BRKP.to(dtype).unbind(1),
            beta_BRK.to(dtype).unbind(1),
            strict=True,
        ):
            held_BKP = (state_BKPN @ k_BKN.unsqueeze(3)).squeeze(3)
            u_BKP = beta_BK.unsqueeze(2) * (v_BKP - held_BKP)
            flat.baddbmm_(u_BKP.flatten(0, 1).unsqueeze(2), k_BKN.flatten(0, 1).unsqueeze(1))
        return (state_BKPN @ of_length_1(q_BKN.to(dtype)).unsqueeze(3)).squeeze(3)


def of_length_1(vectors: Tensor) -> Tensor:
    """The vectors divided by their length, zero where they are zero."""
    return vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + EPS)


def unit_triangular_inverse(strict: Tensor) -> Tensor:
    """The inverse of I + a strictly lower triangular matrix (…, Q, Q), with its gradient.

    Blocks of the diagonal are inverted, two of them joined to one of twice the size, and so on:
    matrix products only, and unlike in a sum of powers nothing gets large that cancels.
    """
    size = strict.shape[-1]
    place = torch.arange(size, device=strict.device)
    with torch.no_grad():
        found = torch.eye(size, dtype=strict.dtype, device=strict.device).expand_as(strict)
        width = 1
        while width < size:
            block = place // width
            # The lower left quarter of every block of twice the width.
            is_joint = (block[:, None] == block + 1) & (block[:, None] % 2 == 1)
            joint = strict.masked_fill(~is_joint, 0.0)
            found = found - (joint if width == 1 else found @ joint @ found)
            width *= 2
    # One step of Newton's: the same number, but its gradient is the inverse's.
    return 2 * found - found @ (found + strict @ found)


def _state_of(
    k_BLKN: Tensor, v_BLKP: Tensor, state_BKPN: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """The state before the first position."""
    if state_BKPN is not None:
        return state_BKPN.to(dtype)
    num_games, _, num_heads, width = v_BLKP.shape
    return v_BLKP.new_zeros(num_games, num_heads, width, k_BLKN.shape[3], dtype=dtype)


def _decay_between(total: Tensor) -> Tensor:
    """What is left at a position (row) of what an earlier one (column) stored, (…, Q, Q).

    Zero for a position and itself: it would enter the gradient of α twice, with both signs.
    """
    gap = total.unsqueeze(-1) - total.unsqueeze(-2)
    size = gap.shape[-1]
    is_earlier = torch.ones(size, size, dtype=torch.bool, device=gap.device).tril(-1)
    # Before the exponential: of a later position it is large, and 0 times infinity is no gradient.
    return gap.masked_fill(~is_earlier, -torch.inf).exp()


def _sum_of_later(fade: Tensor) -> Tensor:
    """The sum over the later positions of the chunk, without a difference."""
    return running_sums(F.pad(fade[..., 1:], (0, 1)).flip(-1), -1).flip(-1)


class DeltaScan(Scan):
    """The gated delta rule's scan, see ``Scan``; a single position is one plain step."""

    codes: ClassVar[Mapping[ScanName, Code]] = {
        "triton": Code(
            triton_delta_rule,
            needs_triton,
            "made for short games in large batches, the same bits each time",
            lambda: "" if find_spec("triton") else "pip install triton",
        ),
        "torch": Code(chunked_delta_rule, runs_anywhere, "plain torch"),
    }

    def forward(self, x: Tensor, *others: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """The output and last state of ``delta_rule``, with its arguments; see ``Scan``."""
        chosen = self.codes[self.choose(x)].run
        return (delta_rule if x.shape[1] == 1 else chosen)(x, *others, **more)
