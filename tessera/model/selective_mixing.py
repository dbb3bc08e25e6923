"""What lies between the two large projections of a Mamba mixer: convolution, projection, scan.

Shape suffixes: B games, L positions, D channels (``d_inner``), E ``2 * d_inner``, N states of a
channel, R rank of the step sizes, M ``R + 2 * N``, K taps, W ``K - 1``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.convolution import MAX_TAPS, causal_convolution
from tessera.model.scans.selective import selective_scan, triton_scan


class MixingInputs(NamedTuple):
    """The arguments of ``mix_channels``, but for the scan."""

    xz_BLE: Tensor
    taps_DK: Tensor
    taps_bias_D: Tensor
    select_MD: Tensor
    dt_DR: Tensor
    A_DN: Tensor
    D_D: Tensor
    dt_bias_D: Tensor
    before_BWD: Tensor | None = None
    state_BDN: Tensor | None = None
    is_pad_BL: Tensor | None = None


def mix_channels(
    xz_BLE: Tensor,
    taps_DK: Tensor,
    taps_bias_D: Tensor,
    select_MD: Tensor,
    dt_DR: Tensor,
    A_DN: Tensor,
    D_D: Tensor,
    dt_bias_D: Tensor,
    before_BWD: Tensor | None = None,
    state_BDN: Tensor | None = None,
    is_pad_BL: Tensor | None = None,
    scan: Callable[..., tuple[Tensor, Tensor]] = selective_scan,
) -> tuple[Tensor, Tensor]:
    """The gated output of the mixer and its last SSM state.

    This is the specification of ``triton_mixing``.

    Args:
        xz_BLE: what the mixer's first projection makes of a position, the input of the convolution
            and the gate, (B, L, 2 * D).
        taps_DK, taps_bias_D: weights of the convolution, see ``causal_convolution``.
        select_MD: the projection to what is selected at each position, the low-rank step sizes, B
            and C, in this order; (R + 2 * N, D).
        dt_DR: the projection from low-rank step sizes to those of the channels, (D, R).
        A_DN, D_D, dt_bias_D: see ``selective_scan``.
        before_BWD: inputs of the convolution before the first position; None means zeros.
        state_BDN: SSM state before the first position; None means zeros.
        is_pad_BL: (B, L) bool, True at positions that leave the SSM state as it is; None means
            none.
        scan: ``selective_scan`` or another of its signature.

    Returns:
        y, (B, L, D) in the dtype of ``xz_BLE``; the last state, (B, D, N), at least float32.
    """
    rank, num_states = dt_DR.shape[1], A_DN.shape[1]
    x_BLD, z_BLD = xz_BLE.chunk(2, dim=-1)
    x_BLD = causal_convolution(x_BLD, taps_DK, taps_bias_D, before_BWD)
    selected_BLM = F.linear(x_BLD, select_MD)
    dt_BLR, B_BLN, C_BLN = selected_BLM.split([rank, num_states, num_states], dim=-1)
    dt_BLD = F.linear(dt_BLR, dt_DR)
    return scan(x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN, is_pad_BL)


def triton_mixing(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
    """The same as ``mix_channels``, computed by the Triton kernels in ``tessera.model.kernels``.

    The projections are torch's matrix products, in the dtype of ``xz_BLE``. For the backward the
    output of the convolution and what is selected are kept; the step sizes are computed again.
    float64, and more taps than a thread's registers hold, are left to the plain form.
    """
    inputs = MixingInputs(*arguments, **named)
    if inputs.xz_BLE.dtype == torch.float64 or inputs.taps_DK.shape[1] > MAX_TAPS:
        return mix_channels(*inputs, scan=triton_scan)
    from tessera.model.kernels.mixing_operator import MIXING

    y_BLD, last_BDN, *_ = MIXING.forward(*inputs)
    return y_BLD, last_BDN
