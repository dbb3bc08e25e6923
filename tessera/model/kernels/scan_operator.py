"""The selective scan's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: B games, L positions, D channels, N states of a channel; P programs, S splits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.launching import OPTIONS, resident_programs, rows_of, weight
from tessera.model.kernels.scan_backward import FIRST_STEPS, scan_backward_kernel
from tessera.model.kernels.scan_forward import scan_forward_kernel

CHANNELS = 32  # a program's, at most: with 16 states a thread has four of four channels
_ELEMENTS = 512  # states of a program's channels, at most: 16 in a thread
FORWARD_STEPS = 2  # positions that are loaded together
BACKWARD_STEPS = 2  # positions whose states and decays fit in registers
PROGRAMS = 8  # of the backward on a multiprocessor: as many as its registers hold

# Share of its programs that a GPU shall have work for, on average.
_BUSY = 0.9

_SCHEMA = """(
    Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, Tensor z, Tensor dt_bias,
    Tensor? state, Tensor? is_pad"""


@torch.library.custom_op(
    "tessera::selective_scan", mutates_args=(), schema=f"{_SCHEMA}) -> (Tensor, Tensor)"
)
def selective_scan_operator(
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_D: Tensor,
    z_BLD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor | None,
    is_pad_BL: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The output and last state of ``tessera.model.selective_scan``, which lists the arguments."""
    assert x_BLD.shape == dt_BLD.shape == z_BLD.shape and B_BLN.shape == C_BLN.shape
    assert B_BLN.shape == (*x_BLD.shape[:2], A_DN.shape[1]) and len(A_DN) == x_BLD.shape[2]
    y_BLD, last_BDN = _outputs(x_BLD, dt_BLD, A_DN)
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


@torch.library.custom_op(
    "tessera::selective_scan_backward",
    mutates_args=(),
    schema=f"{_SCHEMA}, Tensor grad_y, Tensor? grad_last) -> Tensor[]",
)
def selective_scan_backward_operator(
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_D: Tensor,
    z_BLD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor | None,
    is_pad_BL: Tensor | None,
    grad_y_BLD: Tensor,
    grad_last_BDN: Tensor | None,
) -> list[Tensor]:
    """The gradients of the first nine arguments, or eight without a state, in their order."""
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

    grads = [
        torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, dt, z)
    ]
    parts_A = zeros(num_programs, num_channels, num_states)
    parts_D, parts_bias = zeros(2, num_programs, num_channels)
    parts_BC = zeros(num_splits, num_games, length, 2, num_states)
    scratch = parts_A.new_empty(num_programs * num_splits * size_of_block)
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
            *grads,
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
            **options,
            STEPS=BACKWARD_STEPS,
            HAS_STATE=state_BDN is not None,
            HAS_PADS=is_pad_BL is not None,
            HAS_GRAD_LAST=grad_last_BDN is not None,
            **OPTIONS,
        )
    del scratch
    grad_x, grad_dt, grad_z = grads
    parts_B, parts_C = parts_BC.unbind(3)
    grad_A, grad_B, grad_C, grad_D, grad_bias = (
        parts.sum(0) for parts in (parts_A, parts_B, parts_C, parts_D, parts_bias)
    )
    result = [grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias]
    inputs = [x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D]
    if state_BDN is not None and grad_state is not None:
        result.append(grad_state)
        inputs.append(state_BDN)
    return [grad.to(tensor.dtype) for grad, tensor in zip(result, inputs, strict=True)]


@selective_scan_operator.register_fake
def _outputs(x_BLD: Tensor, dt_BLD: Tensor, A_DN: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """Room for the output and the last state."""
    last_BDN = x_BLD.new_empty(len(x_BLD), *A_DN.shape, dtype=torch.float32)
    return x_BLD.new_empty(x_BLD.shape), last_BDN


@selective_scan_backward_operator.register_fake
def _gradients(*arguments: Tensor | None) -> list[Tensor]:
    """Room for a gradient of every argument of the forward that is a tensor."""
    return [tensor.new_empty(tensor.shape) for tensor in arguments[:9] if tensor is not None]


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs)


def _backward(
    ctx: Any, grad_y_BLD: Tensor | None, grad_last_BDN: Tensor | None
) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    if grad_y_BLD is None:
        grad_y_BLD = torch.zeros_like(inputs[0])
    grads = selective_scan_backward_operator(*inputs, grad_y_BLD, grad_last_BDN)
    return (*grads, None, None)[:10]


selective_scan_operator.register_autograd(_backward, setup_context=_save)


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
