"""The hyperbolic recurrence's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: B games, L positions, N width of a point.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.mobius import mobius_backward_kernel, mobius_forward_kernel
from tessera.model.kernels.operators import operator_of
from tessera.model.scans.mobius import FURTHEST, LIMIT

_OF_ONE_WARP = 128  # elements


class MobiusInputs(NamedTuple):
    """The arguments of ``tessera.model.scans.mobius.mobius_scan``."""

    decay_BLN: Tensor
    drive_BLN: Tensor
    before_BN: Tensor


def _forward(inputs: MobiusInputs) -> Tensor:
    """The points after all positions."""
    states_BLN = _room(inputs)
    _launch(mobius_forward_kernel, inputs, states_BLN)
    return states_BLN


def _backward(
    inputs: MobiusInputs, states_BLN: Tensor, grad_BLN: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of decays, drives and the points before."""
    if grad_BLN is None:
        grad_BLN = torch.zeros_like(states_BLN)
    decay, drive, before = (
        torch.empty(x.shape, dtype=torch.float32, device=x.device) for x in inputs
    )
    given = (states_BLN, grad_BLN.float().contiguous())
    _launch(mobius_backward_kernel, inputs, *given, decay, drive, before)
    return decay, drive, before


def _launch(kernel: Any, inputs: MobiusInputs, *others: Tensor) -> None:
    num_games, length, width = inputs.decay_BLN.shape
    block = triton.next_power_of_2(width)
    with current(inputs.decay_BLN.device):
        kernel[(num_games,)](
            *(tensor.float().contiguous() for tensor in inputs),
            *others,
            length,
            width,
            FURTHEST,
            LIMIT,
            WIDTH=block,
            num_warps=1 if block <= _OF_ONE_WARP else 4,
        )


def _room(inputs: MobiusInputs) -> Tensor:
    """For the points."""
    return inputs.decay_BLN.new_empty(inputs.decay_BLN.shape, dtype=torch.float32)


MOBIUS = operator_of("mobius", MobiusInputs, _forward, _backward, _room, num_read_again=1)
