"""How the gated delta rule's kernels are started, and the operator of torch that does it.

Shape suffixes: B games, L positions, K heads, N width of a key, P width of a value, S chunks, R
blocks of values.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.delta_backward import delta_backward_kernel
from tessera.model.kernels.delta_forward import delta_forward_kernel
from tessera.model.kernels.launching import rows_of, weight
from tessera.model.kernels.operators import operator_of
from tessera.model.scans.delta import DeltaInputs

LEVELS = 4  # chunks of 2 ** 4 positions, the least that tensor cores multiply
_SMALLEST = 16  # side of a matrix that they do
_MOST_VALUES = 64
_ELEMENTS = 2048  # of the state, of a program: 32 in a thread
_EXACT_ELEMENTS = 1024  # where products take three times the registers
# Two warps: with four, Triton below 3.7.1 makes of some of these products on Hopper's GPUs
# instructions that give wrong numbers (fla-org/flash-linear-attention, issues 640 and 984).
OPTIONS = {"num_warps": 2, "num_stages": 1, "enable_fp_fusion": True}


def delta_forward(inputs: DeltaInputs) -> tuple[Tensor, Tensor, Tensor]:
    """What ``tessera.model.scans.delta.delta_rule`` returns, and the states before all chunks."""
    q_BLKN, k_BLKN, v_BLKP, fade_BLK, beta_BLK, state_BKPN = inputs
    assert q_BLKN.shape == k_BLKN.shape and k_BLKN.shape[:3] == v_BLKP.shape[:3]
    assert fade_BLK.shape == beta_BLK.shape == v_BLKP.shape[:3]
    o_BLKP, last_BKPN, kept_BKSNP = _room(inputs)
    rows, strides = rows_of(q_BLKN.flatten(2), k_BLKN.flatten(2), v_BLKP.flatten(2))
    options = _shape_options(inputs)
    with current(v_BLKP.device):
        delta_forward_kernel[(_num_programs(inputs),)](
            *rows,
            weight(fade_BLK),
            weight(beta_BLK),
            o_BLKP if state_BKPN is None else weight(state_BKPN),
            o_BLKP,
            last_BKPN,
            kept_BKSNP,
            v_BLKP.shape[1],
            *_sizes(inputs),
            *strides,
            **options,
            HAS_STATE=state_BKPN is not None,
            **OPTIONS,
        )
    return o_BLKP, last_BKPN, kept_BKSNP


def delta_backward(
    inputs: DeltaInputs, kept_BKSNP: Tensor, grad_o: Tensor | None, grad_last: Tensor | None
) -> DeltaInputs:
    """The gradients of the arguments of ``delta_forward``; None of the results' means zeros."""
    q_BLKN, k_BLKN, v_BLKP, fade_BLK, beta_BLK, state_BKPN = inputs
    if grad_o is None:
        grad_o = torch.zeros_like(v_BLKP)
    rows, strides = rows_of(q_BLKN.flatten(2), k_BLKN.flatten(2), v_BLKP.flatten(2))
    options = _shape_options(inputs)
    blocks = triton.cdiv(v_BLKP.shape[3], options["VALUES"])
    parts_q, parts_k = (x.new_empty(blocks, *x.shape) for x in (q_BLKN, k_BLKN))
    grad_v = v_BLKP.new_empty(v_BLKP.shape)
    parts_fade, parts_beta = (
        x.new_empty(blocks, *x.shape, dtype=torch.float32) for x in (fade_BLK, beta_BLK)
    )
    grad_state = None
    if state_BKPN is not None:
        grad_state = parts_fade.new_empty(state_BKPN.shape)
    with current(v_BLKP.device):
        delta_backward_kernel[(_num_programs(inputs),)](
            *rows,
            weight(fade_BLK),
            weight(beta_BLK),
            kept_BKSNP,
            grad_o.contiguous(),
            grad_v if grad_last is None else weight(grad_last),
            parts_q,
            parts_k,
            grad_v,
            parts_fade,
            parts_beta,
            parts_fade if grad_state is None else grad_state,
            v_BLKP.shape[0],
            v_BLKP.shape[1],
            *_sizes(inputs),
            *strides,
            **options,
            HAS_GRAD_LAST=grad_last is not None,
            HAS_STATE=state_BKPN is not None,
            **OPTIONS,
        )
    grad_q, grad_k, grad_fade, grad_beta = (
        parts[0] if blocks == 1 else parts.sum(0)
        for parts in (parts_q, parts_k, parts_fade, parts_beta)
    )
    return DeltaInputs(grad_q, grad_k, grad_v, grad_fade, grad_beta, grad_state)


def _room(inputs: DeltaInputs) -> tuple[Tensor, Tensor, Tensor]:
    """For the outputs, the last state, and the states before all chunks, in the dtype of values."""
    v_BLKP = inputs.v_BLKP
    num_games, length, num_heads, value_dim = v_BLKP.shape
    key_dim, num_chunks = inputs.k_BLKN.shape[3], -(-length // 2**LEVELS)
    last_BKPN = v_BLKP.new_empty(num_games, num_heads, value_dim, key_dim, dtype=torch.float32)
    kept_BKSNP = v_BLKP.new_empty(num_games, num_heads, num_chunks, key_dim, value_dim)
    return v_BLKP.new_empty(v_BLKP.shape), last_BKPN, kept_BKSNP


def _shape_options(inputs: DeltaInputs) -> dict[str, Any]:
    """What both kernels' code depends on in shapes and dtypes."""
    key_dim, value_dim = inputs.k_BLKN.shape[3], inputs.v_BLKP.shape[3]
    is_exact = inputs.v_BLKP.dtype == torch.float32
    keys = max(_SMALLEST, triton.next_power_of_2(key_dim))
    elements = _EXACT_ELEMENTS if is_exact else _ELEMENTS
    most = min(_MOST_VALUES, max(_SMALLEST, elements // keys))
    return {
        "KEYS": keys,
        "VALUES": min(most, max(_SMALLEST, triton.next_power_of_2(value_dim))),
        "STEPS": 2**LEVELS,
        "LEVELS": LEVELS,
        "PRECISION": "tf32x3" if is_exact else "tf32",
    }


def _sizes(inputs: DeltaInputs) -> tuple[int, int, int]:
    return inputs.v_BLKP.shape[2], inputs.k_BLKN.shape[3], inputs.v_BLKP.shape[3]


def _num_programs(inputs: DeltaInputs) -> int:
    num_games, _, num_heads, value_dim = inputs.v_BLKP.shape
    return num_games * num_heads * triton.cdiv(value_dim, _shape_options(inputs)["VALUES"])


DELTA = operator_of(
    "delta_rule",
    DeltaInputs,
    delta_forward,
    delta_backward,
    room=_room,
    num_results=2,
    num_kept=1,
)
