"""Convolutions over boards and what stands at both ends of them, as plain code and in kernels.

Shape suffixes: T boards, S sets of points or squeezed channels, N rows, P = N² points, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.backend import has_kernels
from tessera.model.board_convolution import convolve, rounded_dtype
from tessera.model.features.planes import board_planes, triton_board_planes

Weights: TypeAlias = tuple[Tensor, Tensor]  # a weight and its bias


class BoardCode(NamedTuple):
    """What computes with boards: the plain form, or kernels.

    Attributes:
        planes: see ``board_planes``.
        tower: see ``tower``.
        meet: see ``meet``.
        read_points: see ``read_points``.
    """

    planes: Callable[[Tensor, Tensor, torch.dtype], Tensor]
    tower: Callable[[Tensor, Sequence[Weights], Weights], tuple[Tensor, Tensor]]
    meet: Callable[[Tensor, Tensor], Tensor]
    read_points: Callable[[Tensor, Sequence[Weights], Weights], tuple[Tensor, Tensor]]


def tower(
    planes_TNNC: Tensor, layers: Sequence[Weights], squeeze: Weights
) -> tuple[Tensor, Tensor]:
    """A map (T, N, N, C), and the same squeezed to few channels (T, N, N, S).

    Args:
        planes_TNNC: (T, N, N, channels_in).
        layers: of the first 3×3 convolution and of the residual ones.
        squeeze: (S, C) and (S,).
    """
    for index, layer in enumerate(layers):
        planes_TNNC = convolve(planes_TNNC, layer, is_residual=index > 0)
    return planes_TNNC, F.linear(planes_TNNC, *squeeze)


def triton_tower(
    planes_TNNC: Tensor, layers: Sequence[Weights], squeeze: Weights
) -> tuple[Tensor, Tensor]:
    """The same as ``tower``, with Triton kernels between cuDNN's convolutions.

    Planes that the first weight does not know of are zeros.
    """
    from tessera.model.kernels.boards_operator import SqueezedTower

    (first, bias), *others = layers
    planes_TNNC = planes_TNNC.to(rounded_dtype(first))
    first = F.pad(first, (0, 0, 0, 0, 0, planes_TNNC.shape[3] - first.shape[1]))
    weights = (first, bias, *chain.from_iterable(others), *squeeze)
    map_TCNN, squeezed_TNNS = SqueezedTower.apply(planes_TNNC, *weights)
    return map_TCNN.permute(0, 2, 3, 1), squeezed_TNNS


def meet(map_TNNC: Tensor, added_TC: Tensor) -> Tensor:
    """The ReLU of a map to which vectors are added, each the same at all points of its board."""
    return (map_TNNC + added_TC[:, None, None]).relu()


def triton_meet(map_TNNC: Tensor, added_TC: Tensor) -> Tensor:
    """The same as ``meet``, in Triton kernels; of two dtypes it is left to the plain form."""
    if map_TNNC.dtype != added_TC.dtype:
        return meet(map_TNNC, added_TC)
    from tessera.model.kernels.boards_operator import Meeting

    return Meeting.apply(map_TNNC, added_TC)


def read_points(
    map_TNNC: Tensor, layers: Sequence[Weights], points: Weights
) -> tuple[Tensor, Tensor]:
    """Each point's logit (T, P) and the mean over the points (T, C), after some convolutions.

    Args:
        map_TNNC: (T, N, N, channels_in).
        layers: of the 3×3 convolutions, at least one.
        points: (1, C) and (1,), of a 1×1 convolution that makes the logits.
    """
    for layer in layers:
        map_TNNC = convolve(map_TNNC, layer)
    return F.linear(map_TNNC, *points).flatten(1), map_TNNC.mean((1, 2))


def triton_read_points(
    map_TNNC: Tensor, layers: Sequence[Weights], points: Weights
) -> tuple[Tensor, Tensor]:
    """The same as ``read_points``, with Triton kernels behind cuDNN's convolutions."""
    from tessera.model.kernels.boards_operator import ReadPoints

    map_TNNC = map_TNNC.to(rounded_dtype(layers[0][0]))
    return ReadPoints.apply(map_TNNC, *chain.from_iterable(layers), *points)


PLAIN = BoardCode(board_planes, tower, meet, read_points)
KERNELS = BoardCode(triton_board_planes, triton_tower, triton_meet, triton_read_points)


def board_code(weight: Tensor) -> BoardCode:
    """What computes where this weight is: on a GPU with Triton kernels, but not in float64."""
    is_plain = weight.dtype == torch.float64 or not has_kernels(weight.device)
    return PLAIN if is_plain else KERNELS
