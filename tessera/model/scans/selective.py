"""The selective scan: the plain torch form, and two kernels behind the same signature.

The recurrence, for every game, channel and state (Δ is written ``dt``)::

    state[t] = exp(Δ[t] A) state[t-1] + Δ[t] B[t] x[t]
    y[t]     = (C[t] · state[t] + D x[t]) silu(z[t])

Shape suffixes: B games, L positions, D channels (``d_inner``), N states of a channel (``d_state``).
Source: Gu and Dao, "Mamba" (arXiv:2312.00752), algorithm 2, with mamba_ssm's simplification that
B enters as Δ B rather than by the exact zero-order hold.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple

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

# softplus turns this raw step size into exactly 0 in every dtype, and float16 can still hold it.
RAW_DT_OF_PAD = -1e4


class ScanInputs(NamedTuple):
    """The arguments of ``selective_scan``."""

    x_BLD: Tensor
    dt_BLD: Tensor
    A_DN: Tensor
    B_BLN: Tensor
    C_BLN: Tensor
    D_D: Tensor
    z_BLD: Tensor
    dt_bias_D: Tensor
    state_BDN: Tensor | None = None
    is_pad_BL: Tensor | None = None


def selective_scan(
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_D: Tensor,
    z_BLD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor | None = None,
    is_pad_BL: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gated output of the scan and the state after the last position, in plain torch.

    This is the specification of the kernel. It runs on any device in float32 (float64 stays
    float64), autocast or not, with gradients to every argument, and gives the same bits each time.

    Args:
        x_BLD: input of the recurrence, (B, L, D), L at least 1.
        dt_BLD: step sizes before bias and softplus, (B, L, D).
        A_DN: decay rates, (D, N), negative.
        B_BLN: how a position's input enters each state, (B, L, N).
        C_BLN: how each state is read at a position, (B, L, N).
        D_D: skip weight of each channel, (D,).
        z_BLD: gate before silu, (B, L, D).
        dt_bias_D: added to ``dt_BLD`` before the softplus, (D,).
        state_BDN: state before the first position, (B, D, N); None means zeros.
        is_pad_BL: (B, L) bool, True at positions that leave the state as it is; None means none.

    Returns:
        y, (B, L, D) in the dtype of ``x_BLD``; the last state, (B, D, N), at least float32.
    """
    dtype = torch.promote_types(x_BLD.dtype, torch.float32)
    # Autocast would run the readout, and with it the gradient of the state, in bfloat16.
    with torch.autocast(x_BLD.device.type, enabled=False):
        x = x_BLD.to(dtype)
        dt = F.softplus(frozen(dt_BLD, is_pad_BL).to(dtype) + dt_bias_D.to(dtype))
        # Channels last: sixteen states in the last axis would leave the vector units half idle.
        A_ND = A_DN.to(dtype).t().contiguous()
        if state_BDN is None:
            state = x.new_zeros(len(x), *A_ND.shape)
        else:
            state = state_BDN.to(dtype).transpose(1, 2)
        # unbind, not slicing: the gradient of a slice is a zero tensor of the full size, each step.
        steps = zip(
            dt.unsqueeze(2).unbind(1),
            (dt * x).unsqueeze(2).unbind(1),
            B_BLN.to(dtype).unsqueeze(3).unbind(1),
            C_BLN.to(dtype).unsqueeze(2).unbind(1),
            strict=True,
        )
        readouts = []
        for dt_B1D, dt_x_B1D, B_BN1, C_B1N in steps:
            state = torch.addcmul(torch.exp(dt_B1D * A_ND) * state, dt_x_B1D, B_BN1)
            readouts.append(C_B1N @ state)
        y = torch.cat(readouts, dim=1) + D_D.to(dtype) * x
        return (y * F.silu(z_BLD.to(dtype))).to(x_BLD.dtype), state.transpose(1, 2)


def triton_scan(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
    """The same as ``selective_scan``, computed by the Triton kernels in ``tessera.model.kernels``.

    Made for short games in large batches, gradients included: nothing is kept for the backward but
    the inputs, and no sum depends on timing, so the bits are the same each time. float64 is left
    to the plain form.
    """
    inputs = ScanInputs(*arguments, **named)
    if inputs.x_BLD.dtype == torch.float64:
        return selective_scan(*inputs)
    from tessera.model.kernels.scan_launch import SCAN

    return SCAN.forward(*inputs)


def mamba_ssm_scan(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
    """The same as ``selective_scan``, computed by mamba_ssm's CUDA kernel.

    On purpose different from the plain form: the last state carries no gradient, and the gradients
    of A, B and C differ in their last bits from run to run (the kernel adds them with atomics).
    The kernel always starts from zeros, so a given ``state_BDN`` is left to the plain form.
    """
    inputs = ScanInputs(*arguments, **named)
    if inputs.state_BDN is not None:
        return selective_scan(*inputs)
    kernel, problem = _find_mamba_ssm()
    assert kernel, problem
    x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, _, is_pad_BL = inputs
    y_BDL, last_BDN = kernel(
        x_BLD.transpose(1, 2),
        frozen(dt_BLD, is_pad_BL).transpose(1, 2),
        A_DN,
        B_BLN.transpose(1, 2),
        C_BLN.transpose(1, 2),
        D=D_D.float(),
        z=z_BLD.transpose(1, 2),
        delta_bias=dt_bias_D.float(),
        delta_softplus=True,
        return_last_state=True,
    )
    return y_BDL.transpose(1, 2), last_BDN.detach()


def frozen(dt_BLD: Tensor, is_pad_BL: Tensor | None) -> Tensor:
    """Raw step sizes that softplus turns into 0 at PAD."""
    if is_pad_BL is None:
        return dt_BLD
    return dt_BLD.masked_fill(is_pad_BL[..., None], RAW_DT_OF_PAD)


@functools.cache
def _find_mamba_ssm() -> FoundKernel:
    return mamba_ssm_kernel(
        "ops.selective_scan_interface", "selective_scan_fn", extension="selective_scan_cuda"
    )


class SelectiveScan(Scan):
    """Mamba's scan: ``selective_scan`` and two kernels behind its signature, see ``Scan``."""

    codes: ClassVar[Mapping[ScanName, Code]] = {
        "triton": Code(
            triton_scan,
            needs_triton,
            "made for short games in large batches, the same bits each time",
            lambda: "" if find_spec("triton") else "pip install triton",
        ),
        "mamba_ssm": Code(
            mamba_ssm_scan,
            lambda device: needs_cuda(device) or missing(_find_mamba_ssm()),
            "made for long sequences",
            lambda: missing(_find_mamba_ssm()),
        ),
        "torch": Code(selective_scan, runs_anywhere, "plain torch"),
    }
