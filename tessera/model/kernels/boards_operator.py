"""How the kernels over boards are started, and convolutions with them as functions with gradients.

Shape suffixes: T boards, N rows, C channels, S squeezed channels; Q programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tessera.accelerator import current
from tessera.model.board_convolution import activated, gradients
from tessera.model.kernels.boards import (
    layer_backward_kernel,
    meet_backward_kernel,
    meet_forward_kernel,
    points_backward_kernel,
    points_forward_kernel,
)
from tessera.model.kernels.launching import OPTIONS, resident_programs
from tessera.model.kernels.planes import planes_kernel

ELEMENTS = 512  # of a warp at once: 16 of a thread for each tensor
PROGRAM_WARPS = 4  # of a program, if ``SMALLEST`` rows are no more than they do at once
MAX_WARPS = 32  # CUDA's limit
SMALLEST = 16  # rows and columns of what the GPU multiplies
MAX_SQUEEZED = 64  # channels, and elements of the matrix that makes them
MAX_SQUEEZE = 8192
# On a multiprocessor, as far as registers go.
WARPS = 32
POINTS_WARPS = 24
SQUEEZED_WARPS = 16
PLANES = 16  # a multiple of it lets cuDNN read whole 32 bytes


def planes_of(sets_TSN: Tensor, tokens_T: Tensor, dtype: torch.dtype, reach: int) -> Tensor:
    """Planes (T, N, N, 16), see ``board_planes``, and zeros behind them."""
    num_boards, _, size = sets_TSN.shape
    planes = sets_TSN.new_empty(num_boards, size, size, PLANES, dtype=dtype)
    if num_boards:
        with current(sets_TSN.device):
            planes_kernel[(num_boards,)](
                sets_TSN.to(torch.int32).contiguous(),
                tokens_T.contiguous(),
                planes,
                SIZE=size,
                REACH=reach,
                WIDTH=PLANES,
                **OPTIONS,
            )
    return planes


class SqueezedTower(torch.autograd.Function):
    """See ``board_tower.tower``, but that the map is (T, C, N, N).

    Of the weights come first those of the layers, by pairs.
    """

    @staticmethod
    def forward(ctx: Any, planes_TNNC: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        kept = _convolved(planes_TNNC, weights[:-2], is_residual=True)
        squeeze, bias = (weight.to(planes_TNNC.dtype) for weight in weights[-2:])
        with torch.autocast(planes_TNNC.device.type, enabled=False):
            squeezed_TNNS = F.linear(_rows(kept.found[-1]), squeeze, bias)
        ctx.save_for_backward(*kept.tensors(), squeeze)
        ctx.set_materialize_grads(False)
        return kept.found[-1], squeezed_TNNS

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_TCNN: Tensor | None, grad_TNNS: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *tensors, squeeze = ctx.saved_tensors
        kept, needs = _Kept.of(tensors), ctx.needs_input_grad
        grads = [] if grad_TCNN is None else [grad_TCNN]
        if grad_TNNS is None:
            of_sum, of_bias, *of_squeeze = _through_relu(grads, kept.found[-1])
        elif _is_small(squeeze):
            squeezed = (grad_TNNS.contiguous(), squeeze)
            of_sum, of_bias, *of_squeeze = _through_relu(grads, kept.found[-1], squeezed)
        else:
            grads.append(_columns(grad_TNNS @ squeeze))
            of_sum, of_bias = _through_relu(grads, kept.found[-1])
            rows = grad_TNNS.flatten(0, 2)
            of_squeeze = [rows.T @ _rows(kept.found[-1]).flatten(0, 2), rows.sum(0)]
        found = _differentiated(kept, of_sum, of_bias, needs[:-2], is_residual=True)
        return (*found, *(of_squeeze or (None, None)))


class ReadPoints(torch.autograd.Function):
    """See ``board_tower.read_points``; of the weights come first those of the layers, by pairs."""

    @staticmethod
    def forward(ctx: Any, map_TNNC: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        kept = _convolved(map_TNNC, weights[:-2], is_residual=False)
        found_TNNC = _rows(kept.found[-1])
        num_boards, size, _, channels = found_TNNC.shape
        logits_TP = found_TNNC.new_empty(num_boards, size**2)
        mean_TC = found_TNNC.new_empty(num_boards, channels)
        weight, bias = (each.detach().contiguous() for each in weights[-2:])
        given = (found_TNNC, weight, bias, logits_TP, mean_TC)
        _launch_boards(points_forward_kernel, found_TNNC, WARPS, *given)
        ctx.save_for_backward(*kept.tensors(), weight)
        ctx.set_materialize_grads(False)
        return logits_TP, mean_TC

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_TP: Tensor | None, grad_TC: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *tensors, weight = ctx.saved_tensors
        kept = _Kept.of(tensors)
        found_TNNC = _rows(kept.found[-1])
        num_boards, size, _, channels = found_TNNC.shape
        has_logits = grad_TP is not None
        if grad_TP is None:
            grad_TP = found_TNNC.new_zeros(num_boards, size**2)
        if grad_TC is None:
            grad_TC = found_TNNC.new_zeros(num_boards, channels)
        of_sum = torch.empty_like(found_TNNC)
        programs, _ = _division(found_TNNC, num_boards, POINTS_WARPS)
        sizes = (channels, channels, 1)
        parts = [found_TNNC.new_empty(programs, k, dtype=torch.float32) for k in sizes]
        given = (grad_TP.contiguous(), grad_TC.contiguous(), weight, found_TNNC, of_sum, *parts)
        _launch_boards(points_backward_kernel, found_TNNC, POINTS_WARPS, *given)
        of_bias, of_weight, of_offset = (part.sum(0) for part in parts)
        found = _differentiated(
            kept, _columns(of_sum), of_bias, ctx.needs_input_grad[:-2], is_residual=False
        )
        return (*found, *((of_weight.view_as(weight), of_offset) if has_logits else (None, None)))


class Meeting(torch.autograd.Function):
    """See ``board_tower.meet``."""

    @staticmethod
    def forward(ctx: Any, map_TNNC: Tensor, added_TC: Tensor) -> Tensor:
        map_TNNC = map_TNNC.contiguous()
        found_TNNC = torch.empty_like(map_TNNC)
        given = (map_TNNC, added_TC.contiguous(), found_TNNC)
        _launch_boards(meet_forward_kernel, map_TNNC, WARPS, *given)
        ctx.save_for_backward(found_TNNC)
        return found_TNNC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TNNC: Tensor) -> tuple[Tensor, Tensor]:
        (found_TNNC,) = ctx.saved_tensors
        grad_map = torch.empty_like(found_TNNC)
        grad_added = found_TNNC.new_empty(found_TNNC.shape[0], found_TNNC.shape[3])
        given = (grad_TNNC.contiguous(), found_TNNC, grad_map, grad_added)
        _launch_boards(meet_backward_kernel, found_TNNC, WARPS, *given)
        return grad_map, grad_added


class _Kept(NamedTuple):
    """Of convolutions, one after another: what the first read, and every weight and output.

    All are (…, C, N, N) and channels_last, and of one dtype.
    """

    boards: Tensor
    weights: list[Tensor]
    found: list[Tensor]

    def tensors(self) -> tuple[Tensor, ...]:
        return (self.boards, *self.weights, *self.found)

    @classmethod
    def of(cls, tensors: list[Tensor]) -> _Kept:
        depth = len(tensors) // 2
        return cls(tensors[0], tensors[1 : 1 + depth], tensors[1 + depth :])


def _convolved(boards_TNNC: Tensor, weights: Sequence[Tensor], is_residual: bool) -> _Kept:
    """What convolutions make.

    Args:
        boards_TNNC: of the dtype that is computed in.
        weights: a weight and a bias for each, of any dtype.
        is_residual: whether what comes in is added to all but the first.
    """
    dtype = boards_TNNC.dtype
    boards_TCNN = _columns(boards_TNNC.contiguous())
    kept = _Kept(boards_TCNN, [], [])
    with torch.autocast(boards_TNNC.device.type, enabled=False):
        for weight, bias in zip(weights[::2], weights[1::2], strict=True):
            adds = is_residual and len(kept.found) > 0
            weight = weight.to(dtype, memory_format=torch.channels_last)
            boards_TCNN = activated(boards_TCNN, weight, bias.to(dtype), adds)
            kept.weights.append(weight)
            kept.found.append(boards_TCNN)
    return kept


def _differentiated(
    kept: _Kept,
    of_sum_TCNN: Tensor,
    of_bias: Tensor,
    needs: Sequence[bool],
    is_residual: bool,
) -> list[Tensor | None]:
    """The gradients of what convolutions read, and of their weights and biases, by pairs.

    Args:
        kept: of them.
        of_sum_TCNN: the gradient of what the last ReLU was given.
        of_bias: of the last bias.
        needs: which are wanted.
        is_residual: as for ``_convolved``.
    """
    found: list[Tensor | None] = [None] * len(needs)
    for index in reversed(range(len(kept.weights))):
        before = kept.found[index - 1] if index else kept.boards
        wanted = (any(needs[: 2 * index + 1]), needs[2 * index + 1], False)
        found[2 * index + 2] = of_bias
        if not any(wanted):
            break
        of_boards, found[2 * index + 1], _ = gradients(
            of_sum_TCNN, before, kept.weights[index], wanted
        )
        if of_boards is None:
            break
        if index:
            grads = [of_boards, of_sum_TCNN] if is_residual else [of_boards]
            of_sum_TCNN, of_bias = _through_relu(grads, before)
        else:
            found[0] = _rows(of_boards)
    return found


def _through_relu(
    grads_TCNN: Sequence[Tensor],
    found_TCNN: Tensor,
    squeezed: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """The gradient of what a ReLU was given, and of the bias before it.

    Args:
        grads_TCNN: at most two, of which the sum is the gradient of what came out.
        found_TCNN: what came out.
        squeezed: if that was squeezed too: the gradient (T, N, N, S), and by what it was squeezed,
            (S, C). Then the gradients of this and of the squeezed channels' bias come last.
    """
    found, grads = _rows(found_TCNN), [_rows(grad) for grad in grads_TCNN]
    out, channels, num_rows = torch.empty_like(found), found.shape[3], found[..., 0].numel()
    grad_squeezed, squeeze = squeezed or (found, found)
    num_squeezed = len(squeeze) if squeezed else 0
    programs, options = _division(found, num_rows, SQUEEZED_WARPS if squeezed else WARPS)
    sizes = (channels, num_squeezed * channels, num_squeezed)
    parts = [found.new_empty(programs, size, dtype=torch.float32) for size in sizes]
    if programs:
        with current(found.device):
            layer_backward_kernel[(programs,)](
                *(*grads, found, found)[:2],
                *(grad_squeezed, squeeze, found, out, *parts),
                *(num_rows, channels),
                NUM_GRADS=len(grads),
                NUM_SQUEEZED=num_squeezed,
                SQUEEZED=_width(num_squeezed),
                AS_FLOAT32=not found.is_cuda,  # the interpreter multiplies bfloat16's bits
                **options,
            )
    of_bias, of_squeeze, of_squeezed_bias = (part.sum(0) for part in parts)
    more = (of_squeeze.view_as(squeeze), of_squeezed_bias) if squeezed else ()
    return _columns(out), of_bias, *more


def _launch_boards(kernel: Any, board_map: Tensor, warps: int, *tensors: Tensor) -> None:
    """Start a kernel whose programs take whole boards."""
    num_boards, size, _, channels = board_map.shape
    programs, options = _division(board_map, num_boards, warps)
    if programs:
        with current(board_map.device):
            kernel[(programs,)](*tensors, num_boards, size**2, channels, **options)


def _division(board_map: Tensor, items: int, warps: int) -> tuple[int, dict[str, Any]]:
    """With how many programs all is done, and what the kernels' code depends on.

    Args:
        board_map: (…, C).
        items: boards, or rows of which a program takes some at a time.
        warps: that a multiprocessor holds.
    """
    width = _width(board_map.shape[-1])
    rows = max(ELEMENTS * PROGRAM_WARPS // width, SMALLEST)
    num_warps = min(width * rows // ELEMENTS, MAX_WARPS)
    resident = resident_programs(board_map.device, max(warps // num_warps, 1))
    options = {**OPTIONS, "num_warps": num_warps, "WIDTH": width, "ROWS": rows}
    return min(items, resident), options


def _is_small(squeeze: Tensor) -> bool:
    """Whether a kernel holds a sum for each of its elements in registers."""
    squeezed, width = (_width(size) for size in squeeze.shape)
    return squeezed <= MAX_SQUEEZED and squeezed * width <= MAX_SQUEEZE


def _width(size: int) -> int:
    return max(triton.next_power_of_2(size), SMALLEST)


def _rows(boards_TCNN: Tensor) -> Tensor:
    """The same boards (T, N, N, C), contiguous, as they are if they are channels_last."""
    return boards_TCNN.permute(0, 2, 3, 1).contiguous()


def _columns(boards_TNNC: Tensor) -> Tensor:
    """The same boards (T, C, N, N), channels_last."""
    return boards_TNNC.permute(0, 3, 1, 2)
