"""A selective scan whose states come in pairs that each position turns: any scan's, of turned B, C.

The recurrence, for every game, channel and pair of states (Δ is written ``dt``)::

    state[t] = exp(Δ[t] A) R(angle[t]) state[t-1] + Δ[t] B[t] x[t]
    y[t]     = (C[t] · state[t] + D x[t]) silu(z[t])

R turns a pair by an angle, so a transition has the eigenvalues exp(Δ A ± i angle), and what was
remembered can be turned round, and back. Seen from a frame that turns along nothing turns but B and
C, by the sum of all angles up to a position; so the scan itself is Mamba's.

Shape suffixes: B games, L positions, D channels (``d_inner``), N states of a channel (``d_state``),
M pairs of them, ``N / 2``: state m and state M + m.
Source: Lahoti et al., "Mamba-3: improved sequence modeling using state space principles"
(arXiv:2603.15569), whose angles are multiplied with Δ: ours are not, because Δ is
another for every channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tessera.model.scans.selective import selective_scan
from tessera.model.scans.sums import running_sums


def rotating_scan(
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DM: Tensor,
    angle_BLM: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_D: Tensor,
    z_BLD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor | None = None,
    is_pad_BL: Tensor | None = None,
    scan: Callable[..., tuple[Tensor, Tensor]] = selective_scan,
) -> tuple[Tensor, Tensor]:
    """The gated output of the scan and the state after the last position.

    Args:
        A_DM: decay rates of the pairs, (D, M), negative.
        angle_BLM: by which a position turns each pair before anything enters, in radians.
        scan: ``selective_scan`` or another of its signature.
        others: as of ``selective_scan``.

    Returns:
        y, (B, L, D) in the dtype of ``x_BLD``; the last state, (B, D, N), at least float32.
    """
    dtype = torch.promote_types(x_BLD.dtype, torch.float32)
    angle_BLM = angle_BLM.to(dtype)
    if is_pad_BL is not None:
        angle_BLM = angle_BLM.masked_fill(is_pad_BL[..., None], 0.0)
    total_BLM = running_sums(angle_BLM)
    B_BLN, C_BLN = (turned(x.to(dtype), -total_BLM).to(x.dtype) for x in (B_BLN, C_BLN))
    A_DN = torch.cat((A_DM, A_DM), dim=1)
    y_BLD, last_BDN = scan(
        x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN, is_pad_BL
    )
    return y_BLD, turned(last_BDN, total_BLM[:, -1:])


def turned(pairs: Tensor, angle: Tensor) -> Tensor:
    """The pairs (…, N), of elements m and M + m, turned by angles (…, M)."""
    one, other = pairs.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)
