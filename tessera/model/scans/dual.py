"""The scan of Mamba-2: matrix products over chunks in plain torch, and a kernel behind them.

The recurrence, for every game, head, channel of the head and state (Δ is written ``dt``)::

    state[t] = exp(Δ[t] A) state[t-1] + Δ[t] B[t] x[t]
    y[t]     = C[t] · state[t] + D x[t]

Mamba-1's, but a head has one Δ, A and D for all its channels and states. So what a position gives
to a later one is one number for each pair and head, and a chunk of positions is a matrix product.

Shape suffixes: B games, L positions, K heads (``num_heads``), P channels of a head (``headdim``),
D channels, ``K · P`` (``d_inner``), N states of a channel (``d_state``), S chunks, Q positions of a
chunk.
Source: Dao and Gu, "Transformers are SSMs" (arXiv:2405.21060), section 6, with one group.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.backend import (
    Code,
    FoundKernel,
    Scan,
    ScanName,
    mamba_ssm_kernel,
    missing,
    needs_cuda,
    needs_triton,
    runs_anywhere,
)
from tessera.model.scans.sums import running_sums
from tessera.model.scans.tiles import pin_mamba_ssm_tiles

# The fastest on a CPU for 64 and 128 states, and within a sixth of it for 16.
_CHUNK = 64
# mamba_ssm's kernel keeps Q · Q products of every chunk; its own tests use 64 and 128.
_KERNEL_CHUNK = 64
# Programs along the second axis of a CUDA grid; mamba_ssm starts one for every chunk of every game.
_MOST_CHUNKS = 65_535


def dual_scan(
    x_BLD: Tensor,
    dt_BLK: Tensor,
    A_K: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_K: Tensor,
    dt_bias_K: Tensor,
    state_BDN: Tensor | None = None,
    chunk: int = _CHUNK,
) -> tuple[Tensor, Tensor]:
    """The output of the scan and the state after the last position, in plain torch.

    It runs on any device in float32 (float64 stays float64), autocast or not, with gradients to
    every argument, and gives the same bits each time.

    Args:
        x_BLD: input of the recurrence, head by head, (B, L, D), L at least 1.
        dt_BLK: step sizes before bias and softplus, (B, L, K).
        A_K: decay rates, (K,), negative.
        B_BLN: how a position's input enters each state, (B, L, N).
        C_BLN: how each state is read at a position, (B, L, N).
        D_K: skip weight of each head, (K,).
        dt_bias_K: added to ``dt_BLK`` before the softplus, (K,).
        state_BDN: state before the first position, (B, D, N); None means zeros.
        chunk: Q, positions that are one matrix product; the last chunk may be shorter.

    Returns:
        y, (B, L, D) in the dtype of ``x_BLD``; the last state, (B, D, N), at least float32.
    """
    num_games, length, num_channels = x_BLD.shape
    dtype = torch.promote_types(x_BLD.dtype, torch.float32)
    size = min(chunk, length)

    def cut(tensor: Tensor) -> Tensor:
        """(B, L, …) as (B, S, Q, …), filled up with zeros: of a step size 0 no state is changed."""
        return F.pad(tensor.to(dtype), (0, 0, 0, -length % size)).unflatten(1, (-1, size))

    # Autocast would run the products in bfloat16.
    with torch.autocast(x_BLD.device.type, enabled=False):
        dt_BLK = F.softplus(dt_BLK.to(dtype) + dt_bias_K.to(dtype))
        dt_BSQK, B_BSQN, C_BSQN = cut(dt_BLK), cut(B_BLN), cut(C_BLN)
        x_BSQKP = cut(x_BLD).unflatten(3, (len(A_K), -1))
        dt_x_BSQKP = dt_BSQK.unsqueeze(4) * x_BSQKP
        # Logarithms of what a position leaves, and of what all since the chunk began have left.
        fade_BSQK = dt_BSQK * A_K.to(dtype)
        log_BSQK = running_sums(fade_BSQK, 2)

        weight_BSKQQ = _decay_between(log_BSQK) * (C_BSQN @ B_BSQN.mT).unsqueeze(2)
        y_BSQKP = (weight_BSKQQ @ dt_x_BSQKP.transpose(2, 3)).transpose(2, 3)
        own_BSQK = (C_BSQN * B_BSQN).sum(3, keepdim=True) * dt_BSQK + D_K.to(dtype)
        y_BSQKP = torch.addcmul(y_BSQKP, own_BSQK.unsqueeze(4), x_BSQKP)

        left_BSQK1 = _sum_of_later(fade_BSQK).exp().unsqueeze(4)
        gain_BSDN = (left_BSQK1 * dt_x_BSQKP).flatten(3).mT @ B_BSQN
        kept_BSK1 = log_BSQK[:, :, -1].exp().unsqueeze(3)
        kept_BSD1 = kept_BSK1.expand(-1, -1, -1, x_BSQKP.shape[4]).flatten(2).unsqueeze(3)
        if state_BDN is None:
            state = gain_BSDN.new_zeros(num_games, num_channels, B_BLN.shape[2])
        else:
            state = state_BDN.to(dtype)
        before = []
        for kept_BD1, gain_BDN in zip(kept_BSD1.unbind(1), gain_BSDN.unbind(1), strict=True):
            before.append(state)
            state = torch.addcmul(gain_BDN, kept_BD1, state)
        read_BSQKP = (C_BSQN @ torch.stack(before, 1).mT).unflatten(3, (len(A_K), -1))
        y_BSQKP = torch.addcmul(y_BSQKP, log_BSQK.exp().unsqueeze(4), read_BSQKP)
        return y_BSQKP.flatten(3).flatten(1, 2)[:, :length].to(x_BLD.dtype), state


def _decay_between(log_BSQK: Tensor) -> Tensor:
    """What is left at a position (row) of what an earlier one (column) gave, (B, S, K, Q, Q).

    Zero for a position and itself: it would enter the gradients of A and Δ twice, with both signs,
    and of the difference, where memories are short, float32 would keep three digits.
    """
    log_BSKQ = log_BSQK.transpose(2, 3)
    gap_BSKQQ = log_BSKQ.unsqueeze(4) - log_BSKQ.unsqueeze(3)
    size = gap_BSKQQ.shape[-1]
    is_earlier_QQ = torch.ones(size, size, dtype=torch.bool, device=log_BSQK.device).tril(-1)
    # Before the exponential: of a later position it is large, and 0 times infinity is no gradient.
    return gap_BSKQQ.masked_fill(~is_earlier_QQ, -torch.inf).exp()


def _sum_of_later(fade_BSQK: Tensor) -> Tensor:
    """The sum over the later positions of the chunk, again without a difference."""
    return running_sums(F.pad(fade_BSQK[:, :, 1:], (0, 0, 0, 1)).flip(2), 2).flip(2)


def dual_step(
    x_BLD: Tensor,
    dt_BLK: Tensor,
    A_K: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_K: Tensor,
    dt_bias_K: Tensor,
    state_BDN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same as ``dual_scan`` for sequences of one position: the recurrence as it is written."""
    num_games, _, num_channels = x_BLD.shape
    dtype = torch.promote_types(x_BLD.dtype, torch.float32)
    with torch.autocast(x_BLD.device.type, enabled=False):
        x_BKP = x_BLD[:, 0].to(dtype).unflatten(1, (len(A_K), -1))
        dt_BK1 = F.softplus(dt_BLK[:, 0].to(dtype) + dt_bias_K.to(dtype)).unsqueeze(2)
        kept_BK1 = torch.exp(dt_BK1 * A_K.to(dtype).unsqueeze(1))
        kept_BD1 = kept_BK1.expand_as(x_BKP).flatten(1).unsqueeze(2)
        gain_BDN = (dt_BK1 * x_BKP).flatten(1).unsqueeze(2) * B_BLN.to(dtype)
        before_BDN = torch.zeros_like(gain_BDN) if state_BDN is None else state_BDN.to(dtype)
        after_BDN = torch.addcmul(gain_BDN, kept_BD1, before_BDN)
        y_BKP = (after_BDN @ C_BLN.to(dtype).mT).view(x_BKP.shape)
        y_BKP = torch.addcmul(y_BKP, D_K.to(dtype).unsqueeze(1), x_BKP)
        y_BLD = y_BKP.reshape(num_games, 1, num_channels)
        return y_BLD.to(x_BLD.dtype), after_BDN


def mamba_ssm_dual_scan(
    x_BLD: Tensor,
    dt_BLK: Tensor,
    A_K: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_K: Tensor,
    dt_bias_K: Tensor,
    state_BDN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same as ``dual_scan``, computed by mamba_ssm's Triton kernels, gradients included.

    On purpose different from the plain form: products of float32 are rounded to TF32, states
    between chunks to the dtype of x. The bits are the same each time, in every process, with a
    release that can add in a fixed order, as 2.3.2 can. float64 is left to the plain form.
    """
    if x_BLD.dtype == torch.float64:
        return dual_scan(x_BLD, dt_BLK, A_K, B_BLN, C_BLN, D_K, dt_bias_K, state_BDN)
    kernel, problem = _find_dual_kernel()
    assert kernel, problem
    heads = (len(A_K), x_BLD.shape[2] // len(A_K))
    arguments = [x_BLD.unflatten(2, heads), dt_BLK, B_BLN.unsqueeze(2), C_BLN.unsqueeze(2)]
    before = None if state_BDN is None else state_BDN.float().unflatten(1, heads)
    most_games = max(1, _MOST_CHUNKS // -(-x_BLD.shape[1] // _KERNEL_CHUNK))
    outputs, states = [], []
    for first in range(0, len(x_BLD), most_games):
        some = slice(first, first + most_games)
        x, dt, enters, leaves = (argument[some] for argument in arguments)
        y, last = kernel(
            x,
            dt,
            A_K.float(),
            enters,
            leaves,
            chunk_size=_KERNEL_CHUNK,
            D=D_K.float(),
            dt_bias=dt_bias_K.float(),
            initial_states=None if before is None else before[some],
            dt_softplus=True,
            return_final_states=True,
        )
        outputs.append(y.flatten(2))
        states.append(last.flatten(1, 2))
    if len(outputs) == 1:
        return outputs[0], states[0]
    return torch.cat(outputs), torch.cat(states)


@functools.cache
def _find_dual_kernel() -> FoundKernel:
    found = mamba_ssm_kernel("ops.triton.ssd_combined", "mamba_chunk_scan_combined")
    # Unless it is told, its backward adds in the order in which programs come. Not told before its
    # import, which would then take the smallest shape of each kernel.
    set_mode, _ = mamba_ssm_kernel("utils.determinism", "set_deterministic_mode")
    if found[0] and not is_left_alone():
        if set_mode:
            set_mode(True)
        pin_mamba_ssm_tiles()
    return found


def is_left_alone() -> bool:
    """Whether somebody has said how mamba_ssm is to add, and so how it tunes its kernels."""
    return "MAMBA_DETERMINISTIC" in os.environ


class DualScan(Scan):
    """Mamba-2's scan: ``dual_scan`` and mamba_ssm's kernels behind its signature, see ``Scan``.

    A single position is always one plain step. The convolution, and a step in place, run in
    Tessera's own Triton kernels.
    """

    codes: ClassVar[Mapping[ScanName, Code]] = {
        "mamba_ssm": Code(
            mamba_ssm_dual_scan,
            lambda device: (
                needs_cuda(device) or needs_triton(device) or missing(_find_dual_kernel())
            ),
            "its Triton kernels over chunks of positions",
            lambda: missing(_find_dual_kernel()),
        ),
        "torch": Code(dual_scan, runs_anywhere, "plain torch"),
    }

    def forward(self, x: Tensor, *others: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """The output and last state of ``dual_scan``, with its arguments; see ``Scan``."""
        chosen = self.codes[self.choose(x)].run
        return (dual_step if x.shape[1] == 1 else chosen)(x, *others, **more)
