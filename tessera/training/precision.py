"""In which precision a model's weights are kept in a file; on loading they are what they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Of matrices, embeddings and convolutions; everything else keeps the precision that it has.
PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
SCALE = "_scale"  # ends the name of an int8 tensor's scales
_LARGEST = 127  # so that the scale is the same on both sides of zero
_LEAST = 16  # weights of an output channel, so that its scale of four bytes is worth it


def kind_of(name: str, weight: Tensor) -> str | None:
    """Which kind of weight may be rounded: convolutions, embedding or matrices; None for others.

    Norms, biases, A_log and D stay as they are, and what has few weights for an output channel, as
    a convolution of each channel by itself.

    Args:
        name: that the model has for it.
        weight: it.
    """
    if name.rpartition(".")[2] != "weight" or weight.dim() < 2 or not weight.numel():
        return None
    if weight[0].numel() < _LEAST:
        return None
    if weight.dim() > 2:
        return "convolutions"
    return "embedding" if name.startswith("embedding.") else "matrices"


def rounded(weights: Mapping[str, Tensor], precision: str | None) -> dict[str, Tensor]:
    """What a file holds of the weights.

    int8 is symmetric, with a scale for every output channel, which is a row: the largest of its
    weights is ±127, and each is off by half a step of that at most, which is 0.4 % of the largest.

    Args:
        weights: by the names that the model has for them.
        precision: one of ``PRECISIONS``; None leaves everything as it is.
    """
    tensors = dict(weights)
    for name, weight in weights.items():
        if precision is None or kind_of(name, weight) is None or name + SCALE in weights:
            continue
        if precision != "int8":
            tensors[name] = weight.to(PRECISIONS[precision])
            continue
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(1) / _LARGEST
        # A row of zeros has no scale, and needs none.
        steps = (rows / scale.where(scale > 0, 1)[:, None]).round().clamp(-_LARGEST, _LARGEST)
        tensors[name], tensors[name + SCALE] = steps.to(torch.int8).view_as(weight), scale
    return tensors


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that a file holds; whole numbers times their scales, in float32."""
    is_int8 = {name for name, tensor in tensors.items() if tensor.dtype is torch.int8}
    weights = {}
    for name, tensor in tensors.items():
        if name in is_int8:
            scale = tensors[name + SCALE]
            weights[name] = (tensor.float().flatten(1) * scale[:, None]).view_as(tensor)
        elif name.removesuffix(SCALE) not in is_int8 or not name.endswith(SCALE):
            weights[name] = tensor
    return weights
