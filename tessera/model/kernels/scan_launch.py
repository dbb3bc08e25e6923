"""How the selective scan's kernels are started, and the operator of torch that does it.

Shape suffixes: B games, L positions, D channels, N states of a channel; P programs, S splits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.launching import OPTIONS, resident_programs, rows_of, weight
from tessera.model.kernels.operators import operator_of
from tessera.model.kernels.scan_backward import FIRST_STEPS, scan_backward_kernel
from tessera.model.kernels.scan_forward import scan_forward_kernel
from tessera.model.scans.selective import ScanInputs

CHANNELS = 32  # a program's, at most: with 16 states a thread has four of four channels
_ELEMENTS = 512  # states of a program's channels, at most: 16 in a thread
FORWARD_STEPS = 2  # positions that are loaded together
BACKWARD_STEPS = 2  # positions whose states and decays fit in registers
PROGRAMS = 8  # of the backward on a multiprocessor: as many as its registers hold

# Share of its programs that a GPU shall have work for, on average.
_BUSY = 0.9


class ScanGradients(NamedTuple):
    """Gradients of what ``selective_scan`` reads: of rows in their dtype, of all else float32."""

    x_BLD: Tensor
    dt_BLD: Tensor
    A_DN: Tensor
    BC_BL2N: Tensor
    D_D: Tensor
    z_BLD: Tensor
    dt_bias_D: Tensor
    state_BDN: Tensor | None


def scan_forward(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """The output and last state of ``tessera.model.scans.selective``, which lists the arguments."""
    x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN, is_pad_BL = inputs
    assert x_BLD.shape == dt_BLD.shape == z_BLD.shape and B_BLN.shape == C_BLN.shape
    assert B_BLN.shape == (*x_BLD.shape[:2], A_DN.shape[1]) and len(A_DN) == x_BLD.shape[2]
    y_BLD, last_BDN = _room(inputs)
    rows, strides = rows_of(x_BLD, dt_BLD, B_BLN, C_BLN, z_BLD)
    x, dt, B, C, z = rows
    weights = [weight(tensor) for tensor in (A_DN, D_D, dt_bias_D)]
    num_games, length, num_channels = x_BLD.shape
    options = _shape_options(A_DN)
    num_programs = num_games * triton.cdiv(num_channels, options["CHANNELS"])
    with current(x_BLD.device):
        scan_forward_kernel[(num_programs,)](
            x,
            dt,
            weights[0],
            B,
            C,
            weights[1],
            z,
            weights[2],
            y_BLD if state_BDN is None else weight(state_BDN),
            y_BLD if is_pad_BL is None else _bytes(is_pad_BL),
            y_BLD,
            last_BDN,
            length,
            *A_DN.shape,
            *strides,
            **options,
            STEPS=FORWARD_STEPS,
            HAS_STATE=state_BDN is not None,
            HAS_PADS=is_pad_BL is not None,
            **OPTIONS,
        )
    return y_BLD, last_BDN


def _room(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """For the output and the last state."""
    x_BLD, shape = inputs.x_BLD, inputs.A_DN.shape
    last_BDN = x_BLD.new_empty(x_BLD.shape[0], *shape, dtype=torch.float32)
    return x_BLD.new_empty(x_BLD.shape), last_BDN


def scan_backward(
    inputs: ScanInputs,
    grad_y_BLD: Tensor | None,
    grad_last_BDN: Tensor | None,
    grad_dt_BLD: Tensor | None = None,
    grad_z_BLD: Tensor | None = None,
) -> ScanGradients:
    """The gradients of the arguments of ``scan_forward``.

    Args:
        grad_y_BLD: of the output; None means zeros.
        grad_last_BDN: of the last state; None means zeros.
        grad_dt_BLD: where to write the gradient of ``dt_BLD``, contiguous; ``dt_BLD`` itself if
            nobody needs it any more. None means new memory.
        grad_z_BLD: where to write the gradient of ``z_BLD``; such as half of a contiguous tensor.
            None means new memory.
    """
    x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN, is_pad_BL = inputs
    if grad_y_BLD is None:
        grad_y_BLD = torch.zeros_like(x_BLD)
    rows, strides = rows_of(x_BLD, dt_BLD, B_BLN, C_BLN, z_BLD, grad_y_BLD)
    x, dt, B, C, z, grad_y = rows
    weights = [weight(tensor) for tensor in (A_DN, D_D, dt_bias_D)]
    num_games, length, num_channels = x_BLD.shape
    num_states = A_DN.shape[1]
    options = _shape_options(A_DN)
    resident = resident_programs(x_BLD.device, PROGRAMS)
    blocks = triton.cdiv(num_channels, options["CHANNELS"])
    num_programs, num_splits = divide(num_games, blocks, resident)
    num_chunks = triton.cdiv(length, FIRST_STEPS.value) * (FIRST_STEPS.value // BACKWARD_STEPS)
    size_of_block = num_chunks * options["CHANNELS"] * options["STATES"]

    def zeros(*shape: int) -> Tensor:
        return x_BLD.new_zeros(shape, dtype=torch.float32)

    grad_x = x_BLD.new_empty(x_BLD.shape)
    if grad_dt_BLD is None:
        grad_dt_BLD = dt_BLD.new_empty(x_BLD.shape)
    if grad_z_BLD is None:
        grad_z_BLD = z_BLD.new_empty(x_BLD.shape)
    parts_A = zeros(num_programs, num_channels, num_states)
    parts_D, parts_bias = zeros(2, num_programs, num_channels)
    parts_BC = zeros(num_splits, num_games, length, 2, num_states)
    # The states that are kept, of games of any length, are at least as exact as the rows.
    scratch_dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    scratch = parts_A.new_empty(num_programs * num_splits * size_of_block, dtype=scratch_dtype)
    grad_state = None
    if state_BDN is not None:
        grad_state = parts_A.new_empty(state_BDN.shape)
    with current(x_BLD.device):
        scan_backward_kernel[(num_programs, num_splits)](
            x,
            dt,
            weights[0],
            B,
            C,
            weights[1],
            z,
            weights[2],
            scratch if state_BDN is None else weight(state_BDN),
            scratch if is_pad_BL is None else _bytes(is_pad_BL),
            grad_y,
            scratch if grad_last_BDN is None else weight(grad_last_BDN),
            grad_x,
            grad_dt_BLD,
            grad_z_BLD,
            scratch if grad_state is None else grad_state,
            parts_A,
            parts_BC,
            parts_D,
            parts_bias,
            scratch,
            num_games,
            length,
            num_channels,
            num_states,
            *strides,
            grad_z_BLD.stride(1),
            **options,
            STEPS=BACKWARD_STEPS,
            HAS_STATE=state_BDN is not None,
            HAS_PADS=is_pad_BL is not None,
            HAS_GRAD_LAST=grad_last_BDN is not None,
            **OPTIONS,
        )
    del scratch
    sums = [parts.sum(0) for parts in (parts_A, parts_D, parts_bias)]
    grad_BC = parts_BC[0] if num_splits == 1 else parts_BC.sum(0)
    return ScanGradients(
        grad_x, grad_dt_BLD, sums[0], grad_BC, sums[1], grad_z_BLD, sums[2], grad_state
    )


def _shape_options(A_DN: Tensor) -> dict[str, int]:
    """What both kernels' code depends on in the shapes."""
    padded = triton.next_power_of_2(A_DN.shape[1])
    return {"CHANNELS": max(1, min(CHANNELS, _ELEMENTS // padded)), "STATES": padded}


def _bytes(is_pad_BL: Tensor) -> Tensor:
    return is_pad_BL.contiguous().view(torch.uint8)


def divide(num_games: int, num_blocks: int, resident: int) -> tuple[int, int]:
    """Programs of the backward, and splits of the channels: as few as keep the GPU busy.

    A split costs memory for another part of the gradients of B and C.

    Args:
        num_games: B.
        num_blocks: blocks of channels, the most splits there can be.
        resident: programs that the GPU holds at once.
    """
    best, best_share = (1, 1), 0.0
    num_splits = 1
    while num_splits < 2 * num_blocks and best_share < _BUSY:
        rounds = triton.cdiv(num_games, max(1, resident // num_splits))
        share = num_games * num_splits / (rounds * resident)
        if share > best_share:
            best, best_share = (triton.cdiv(num_games, rounds), num_splits), share
        num_splits *= 2
    return best


def _gradients(
    inputs: ScanInputs, grad_y_BLD: Tensor | None, grad_last_BDN: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Those of the arguments in their order; B's and C's no longer share memory."""
    grads = scan_backward(inputs, grad_y_BLD, grad_last_BDN)
    grad_B, grad_C = (
        part.clone(memory_format=torch.contiguous_format) for part in grads.BC_BL2N.unbind(2)
    )
    return (*grads[:3], grad_B, grad_C, *grads[4:])


SCAN = operator_of(
    "selective_scan", ScanInputs, scan_forward, _gradients, room=_room, num_results=2
)
