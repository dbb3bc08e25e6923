"""One token of many games: the convolution and the selective scan, with their states in place.

The plain forms are ``causal_convolution`` and ``selective_scan`` on sequences of one position.
Both kernels are bound by reading and writing the state once, wait for nothing and allocate nothing
but their output, so they may be captured in a CUDA graph.

Shapes: B games, D channels (``d_inner``), N states of a channel, W ``d_conv - 1``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current

_CONV_BLOCK = 512
_SCAN_BLOCK = 64


@triton.jit
def conv_step_kernel(
    x,
    states,
    weights,
    bias,
    is_new,
    out,
    x_stride,
    num_channels,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The convolution's output through silu, and its window moved on by one.

    Args:
        x: (B, D), rows ``x_stride`` apart.
        states: (B, W, D) float32, in place.
        weights: (D, W + 1).
        bias: (D,).
        is_new: (B,) uint8; where it is not 0 the state before is zero.
        out: (B, D), written.
    """
    game = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < num_channels
    # Of a new game no channel is read.
    known = channel < tl.where(tl.load(is_new + game) == 0, num_channels, 0)
    newest = tl.load(x + game * x_stride + channel, mask=inside, other=0.0).to(tl.float32)
    weight = weights + channel * (WIDTH + 1)
    total = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    total += newest * tl.load(weight + WIDTH, mask=inside, other=0.0).to(tl.float32)
    window = states + game * WIDTH * num_channels + channel
    for tap in tl.static_range(WIDTH):
        before = tl.load(window + tap * num_channels, mask=known, other=0.0)
        total += before * tl.load(weight + tap, mask=inside, other=0.0).to(tl.float32)
        if tap > 0:
            tl.store(window + (tap - 1) * num_channels, before, mask=inside)
    if WIDTH > 0:
        tl.store(window + (WIDTH - 1) * num_channels, newest, mask=inside)
    silu = total / (1 + tl.exp(-total))
    tl.store(out + game * num_channels + channel, silu.to(out.dtype.element_ty), mask=inside)


@triton.jit
def scan_step_kernel(
    x,
    dt,
    A,
    Bs,
    Cs,
    skip,
    z,
    dt_bias,
    states,
    is_new,
    out,
    B_stride,
    C_stride,
    z_stride,
    num_channels,
    num_states,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
):
    """The gated output of one step of the scan, and the state after it.

    Args:
        x: (B, D).
        dt: (B, D), before bias and softplus.
        A: (D, N) float32.
        Bs: (B, N), rows ``B_stride`` apart; Cs likewise.
        skip: (D,), the paper's D.
        z: (B, D), rows ``z_stride`` apart.
        dt_bias: (D,).
        states: (B, D, N) float32, in place.
        is_new: (B,) uint8; where it is not 0 the state before is zero.
        out: (B, D), written.
        STATES: N, or the next power of two.
    """
    game = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    state = tl.arange(0, STATES)
    inside = channel < num_channels
    has_state = state < num_states
    both = inside[:, None] & has_state[None, :]
    # Of a new game no channel is read.
    known = channel < tl.where(tl.load(is_new + game) == 0, num_channels, 0)
    held = channel[:, None] * num_states + state[None, :]
    own = states + game * num_channels * num_states + held
    before = tl.load(own, mask=known[:, None] & has_state[None, :], other=0.0)
    rate = tl.load(A + held, mask=both, other=0.0)

    row = game * num_channels + channel
    now = tl.load(x + row, mask=inside, other=0.0).to(tl.float32)
    raw = tl.load(dt + row, mask=inside, other=0.0).to(tl.float32)
    raw += tl.load(dt_bias + channel, mask=inside, other=0.0).to(tl.float32)
    # softplus, the identity above 20.
    delta = tl.where(raw > 20.0, raw, tl.log(1.0 + tl.exp(tl.minimum(raw, 20.0))))
    enters = tl.load(Bs + game * B_stride + state, mask=has_state, other=0.0).to(tl.float32)
    leaves = tl.load(Cs + game * C_stride + state, mask=has_state, other=0.0).to(tl.float32)
    after = tl.exp(delta[:, None] * rate) * before + (delta * now)[:, None] * enters[None, :]
    tl.store(own, after, mask=both)

    y = tl.sum(after * leaves[None, :], 1)
    y += now * tl.load(skip + channel, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(z + game * z_stride + channel, mask=inside, other=0.0).to(tl.float32)
    y *= gate / (1 + tl.exp(-gate))
    tl.store(out + row, y.to(out.dtype.element_ty), mask=inside)


def conv_step(
    x_BD: Tensor, conv_BWD: Tensor, weight_D1K: Tensor, bias_D: Tensor, is_new_B: Tensor
) -> Tensor:
    """The convolution of one token through silu, (B, D) in x's dtype; moves ``conv_BWD`` on.

    Args:
        x_BD: (B, D), the last axis without gaps.
        conv_BWD: (B, W, D) float32, inputs at the last W moves, changed in place.
        weight_D1K: (D, 1, W + 1).
        bias_D: (D,).
        is_new_B: (B,) bool, True where a game begins with this token.
    """
    num_games, num_channels = x_BD.shape
    out = torch.empty(num_games, num_channels, dtype=x_BD.dtype, device=x_BD.device)
    block = min(_CONV_BLOCK, triton.next_power_of_2(num_channels))
    with current(x_BD.device):
        conv_step_kernel[(num_games, triton.cdiv(num_channels, block))](
            x_BD,
            conv_BWD,
            weight_D1K,
            bias_D,
            is_new_B.view(torch.uint8),
            out,
            x_BD.stride(0),
            num_channels,
            WIDTH=conv_BWD.shape[1],
            BLOCK=block,
            num_warps=4,
        )
    return out


def scan_step(
    x_BD: Tensor,
    dt_BD: Tensor,
    A_DN: Tensor,
    B_BN: Tensor,
    C_BN: Tensor,
    D_D: Tensor,
    z_BD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor,
    is_new_B: Tensor,
) -> Tensor:
    """The gated output of one step of ``selective_scan``, (B, D); changes ``state_BDN`` in place.

    Args as there, without the axis of positions; the last axis of each without gaps, ``x_BD``,
    ``dt_BD``, ``A_DN`` and ``state_BDN`` contiguous. ``is_new_B``: (B,) bool, True where the state
    before is zero, whatever ``state_BDN`` holds.
    """
    num_games, num_channels = x_BD.shape
    num_states = A_DN.shape[1]
    out = torch.empty_like(x_BD)
    block = min(_SCAN_BLOCK, triton.next_power_of_2(num_channels))
    with current(x_BD.device):
        scan_step_kernel[(num_games, triton.cdiv(num_channels, block))](
            x_BD,
            dt_BD.contiguous(),
            A_DN,
            B_BN,
            C_BN,
            D_D,
            z_BD,
            dt_bias_D,
            state_BDN,
            is_new_B.view(torch.uint8),
            out,
            B_BN.stride(0),
            C_BN.stride(0),
            z_BD.stride(0),
            num_channels,
            num_states,
            BLOCK=block,
            STATES=triton.next_power_of_2(num_states),
            num_warps=4,
        )
    return out
