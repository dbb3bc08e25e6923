"""A walk through positions, each context an update of the last one, and its gradient by hand.

Plain torch, with as few kernels at a position as it has; ``ContextBlock.plain_sequential`` is the
specification. A layer makes of its x, the last layer's output or the context before::

    inner = W x + beside,    out = LN(x + GELU(inner))

Shape suffixes: B games, L positions, Q ``L + 1``: in front of all positions the start; C
``d_context``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

EPS = 1e-5  # of the norms, added to the variance


class WalkedLayer(NamedTuple):
    """What a layer updates a context by.

    Attributes:
        beside_LBC: in the dtype of products.
        weight_CC: W, in the same.
        norm_weight_C, norm_bias_C: of the norm, in the dtype of contexts.
    """

    beside_LBC: Tensor
    weight_CC: Tensor
    norm_weight_C: Tensor
    norm_bias_C: Tensor


def walk(start_BC: Tensor, layers: Sequence[WalkedLayer]) -> tuple[Tensor, ...]:
    """The start and behind it the outputs at all positions (Q, B, C), of every layer.

    Args:
        start_BC: in the dtype of contexts.
        layers: at least one.
    """
    found: tuple[Tensor, ...] = _Walk.apply(start_BC, *chain.from_iterable(layers))
    return found


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, start_BC: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        layers = _layers_of(tensors)
        with torch.autocast(start_BC.device.type, enabled=False):
            # Added to in place: a product that does not add in place copies first.
            whole = torch.contiguous_format
            inner = [layer.beside_LBC.clone(memory_format=whole) for layer in layers]
            x_BC, found = start_BC, [[start_BC] for _ in layers]
            for at in range(len(inner[0])):
                for layer, inner_LBC, outputs in zip(layers, inner, found, strict=True):
                    read = x_BC.to(inner_LBC.dtype)
                    inner_LBC[at].addmm_(read, layer.weight_CC.mT)
                    x_BC = _normed(x_BC + F.gelu(inner_LBC[at]), layer)[0]
                    outputs.append(x_BC)
            found_QBC = [torch.stack(outputs) for outputs in found]
        # Where the gradients will be that are returned.
        kept = (layer._replace(beside_LBC=own) for own, layer in zip(inner, layers, strict=True))
        ctx.save_for_backward(*found_QBC, *chain.from_iterable(kept))
        return tuple(found_QBC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads_QBC: Tensor) -> tuple[Tensor | None, ...]:
        saved, count = ctx.saved_tensors, len(grads_QBC)
        layers = _layers_of(saved[count:])
        with torch.autocast(grads_QBC[0].device.type, enabled=False):
            return tuple(_gradients(layers, saved[:count], grads_QBC))


def _gradients(
    layers: list[WalkedLayer], found: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Of the start and of every layer's tensors.

    Only what the position before waits for is done one after the other.

    Args:
        layers: with ``inner`` in place of ``beside``, of the same gradient.
        found: the walk's result.
        grads: of it.
    """
    # What a layer reads: the last layer's output before, or that of the layer below.
    read = [found[-1][:-1], *(outputs_QBC[1:] for outputs_QBC in found[:-1])]
    added = [x_LBC + F.gelu(layer[0]) for x_LBC, layer in zip(read, layers, strict=True)]
    moments = [_normed(own_LBC, layer)[1:] for own_LBC, layer in zip(added, layers, strict=True)]
    # Whatever else depends on an output is added before its turn comes.
    totals = [grad_QBC.clone(memory_format=torch.contiguous_format) for grad_QBC in grads]
    of_inner = [torch.empty_like(layer[0]) for layer in layers]
    for at in reversed(range(len(of_inner[0]))):
        for number in reversed(range(len(layers))):
            inner_LBC, weight_CC, *norm = layers[number]
            of_added = torch.ops.aten.native_layer_norm_backward(
                totals[number][at + 1],
                added[number][at],
                norm[0].shape,
                *(moment[at] for moment in moments[number]),
                *norm,
                [True, False, False],
            )[0]
            own = of_inner[number][at]
            torch.ops.aten.gelu_backward(of_added, inner_LBC[at], grad_input=own)
            of_read = totals[number - 1][at + 1] if number else totals[-1][at]
            of_read += of_added
            of_read += own @ weight_CC
    gradients = [torch.stack([total_QBC[0] for total_QBC in totals]).sum(0)]
    for number, (_, _, *norm) in enumerate(layers):
        of_norm = torch.ops.aten.native_layer_norm_backward(
            totals[number][1:],
            added[number],
            norm[0].shape,
            *moments[number],
            *norm,
            [False, True, True],
        )[1:]
        own = of_inner[number]
        of_weight_CC = own.flatten(0, 1).mT @ read[number].flatten(0, 1).to(own.dtype)
        gradients += [own, of_weight_CC, *of_norm]
    return gradients


def _normed(added: Tensor, layer: WalkedLayer) -> tuple[Tensor, Tensor, Tensor]:
    """The norm (…, C), and means and inverse deviations (…, 1)."""
    weight_C, bias_C = layer.norm_weight_C, layer.norm_bias_C
    return torch.native_layer_norm(added, weight_C.shape, weight_C, bias_C, EPS)


def _layers_of(tensors: Sequence[Tensor]) -> list[WalkedLayer]:
    width = len(WalkedLayer._fields)
    return [WalkedLayer(*tensors[at : at + width]) for at in range(0, len(tensors), width)]
