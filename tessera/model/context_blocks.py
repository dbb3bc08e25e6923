"""Layers that update a vector by what stands beside it, and the two blocks made of them.

Shape suffixes: B games, L positions, C ``d_context``, H ``d_model``, S width of what is updated, W
width of what stands beside it, O width of what comes out.
Source: New-LLM, "ContextLayer" and "TokenLayer"; see mixers/context_token.md for what differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.context_walk import EPS, WalkedLayer, walk

_WEIGHT_STD, _BIAS_STD = 0.1, 0.01


class UpdateLayer(nn.Module):
    """``LN(Res(x) + FFN([x; y]))``: x updated by y, with Res the identity where widths allow.

    The FFN is one matrix and GELU, or two of each. Its first matrix is applied to both parts
    apart, since y is often known long before x.

    Args:
        width: S, of x.
        beside: W, of y.
        out: O, of what comes out.
        expand: the inner width of the FFN over S + W; 0 for one matrix.
    """

    def __init__(self, width: int, beside: int, out: int, expand: int) -> None:
        super().__init__()
        both = width + beside
        inner = expand * both if expand else out
        self.width = width
        self.first = nn.Linear(both, inner)
        self.second = nn.Linear(inner, out) if expand else None
        self.residual = nn.Linear(width, out) if width != out else None
        self.norm = nn.LayerNorm(out, EPS)
        for layer in (self.first, self.second, self.residual):
            if layer is not None:
                nn.init.normal_(layer.weight, std=_WEIGHT_STD)
                nn.init.normal_(layer.bias, std=_BIAS_STD)

    def of_beside(self, beside: Tensor) -> Tensor:
        """What y alone makes of the first matrix, for ``forward``."""
        return F.linear(beside, self.first.weight[:, self.width :], self.first.bias)

    def walked(self, of_beside: Tensor) -> WalkedLayer:
        """The layer in ``walk``, if it has one matrix and keeps the width; its weight is cast once.

        Args:
            of_beside: (L, B, O), of y.
        """
        weight_CC = self.first.weight[:, : self.width].to(of_beside.dtype)
        return WalkedLayer(of_beside, weight_CC, self.norm.weight, self.norm.bias)

    def forward(self, x: Tensor, of_beside: Tensor) -> Tensor:
        """The updated x (…, O).

        Args:
            x: (…, S).
            of_beside: of y (…, W).
        """
        inner = F.linear(x, self.first.weight[:, : self.width]) + of_beside
        added = F.gelu(inner)
        if self.second is not None:
            added = F.gelu(self.second(added))
        kept = x if self.residual is None else self.residual(x)
        normed: Tensor = self.norm(kept + added)
        return normed


def num_parameters(width: int, beside: int, out: int, expand: int) -> int:
    """Of an ``UpdateLayer``, by arithmetic."""
    both = width + beside
    inner = expand * both if expand else out
    total = (both + 1) * inner + 2 * out
    total += (inner + 1) * out if expand else 0
    return total + ((width + 1) * out if width != out else 0)


class ContextBlock(nn.Module):
    """``c_i = Block(c_{i−1}, e_i)``, whose layers all read e; the last one's output is carried on.

    Args:
        d_context: C.
        d_input: of e.
        layers: at least 1.
        expand: see ``UpdateLayer``.
    """

    def __init__(self, d_context: int, d_input: int, layers: int, expand: int) -> None:
        super().__init__()
        self.d_context = d_context
        self.layers = nn.ModuleList(
            UpdateLayer(d_context, d_input, d_context, expand) for _ in range(layers)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of contexts."""
        return next(self.parameters()).dtype

    def of_inputs(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """What every layer makes of e (…, W), for ``forward``."""
        return tuple(layer.of_beside(inputs) for layer in self.layers)  # type: ignore[operator]

    def forward(self, context: Tensor, of_inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs (…, C) of all layers at positions with the contexts (…, C) before them."""
        outputs = []
        for layer, beside in zip(self.layers, of_inputs, strict=True):
            context = layer(context, beside)
            outputs.append(context)
        return tuple(outputs)

    def sequential(
        self, start_BC: Tensor, of_inputs: Sequence[Tensor], is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The outputs (B, L, C) of all layers, position by position; at PAD those before it.

        Args:
            start_BC: before the first position.
            of_inputs: of e (B, L, W).
            is_pad_BL: True at PAD.
        """
        if any(layer.second is not None for layer in self.layers):
            return self.plain_sequential(start_BC, of_inputs, is_pad_BL)
        besides, place_LB = [each.transpose(0, 1) for each in of_inputs], None
        if is_pad_BL is not None:
            # The moves first: what is computed behind them is nobody's, and has no gradient.
            game_B = torch.arange(len(start_BC), device=start_BC.device)
            order_LB = is_pad_BL.mT.long().argsort(stable=True, dim=0)
            besides = [each[order_LB, game_B] for each in besides]
            place_LB = (~is_pad_BL.mT).cumsum(0)  # moves so far
        pairs = zip(self.layers, besides, strict=True)
        found = walk(start_BC, [layer.walked(each) for layer, each in pairs])  # type: ignore[operator]
        if place_LB is None:
            return tuple(each[1:].transpose(0, 1) for each in found)
        return tuple(each[place_LB, game_B].transpose(0, 1) for each in found)

    def plain_sequential(
        self, start_BC: Tensor, of_inputs: Sequence[Tensor], is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The same as ``sequential``, as it is written: its specification."""
        before, found = (start_BC,) * len(self.layers), []
        for at, besides in enumerate(zip(*(each.unbind(1) for each in of_inputs), strict=True)):
            after = self(before[-1], besides)
            if is_pad_BL is not None:
                is_pad = is_pad_BL[:, at, None]
                pairs = zip(before, after, strict=True)
                after = tuple(torch.where(is_pad, old, new) for old, new in pairs)
            found.append(after)
            before = after
        return tuple(torch.stack(each, 1) for each in zip(*found, strict=True))

    def sweep(
        self, previous_BLC: Tensor, of_inputs: Sequence[Tensor], is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The outputs (B, L, C) of all layers, all positions at once; zero at PAD.

        One step of Jacobi's iteration: each position reads what ``previous_BLC`` holds for the one
        before it, and the first one zero. After k of them the first k positions are exact,
        whatever it began with.

        Args:
            previous_BLC: the last layer's outputs as far as they are known; zero at PAD.
            of_inputs, is_pad_BL: as for ``sequential``; PAD at either end.
        """
        outputs = self(F.pad(previous_BLC[:, :-1], (0, 0, 1, 0)), of_inputs)
        if is_pad_BL is None:
            return outputs
        return tuple(each.masked_fill(is_pad_BL[..., None], 0.0) for each in outputs)


class TokenBlock(nn.Module):
    """``t = Layer(t, c)`` from the token's own vector on; each layer reads a context.

    Args:
        d_model: H.
        d_input: of the token's vector, or of the last tokens' side by side.
        d_context: C.
        layers: at least 1.
        expand: see ``UpdateLayer``.
        updates: whether the context is updated by the token's vector between two layers.
    """

    def __init__(
        self, d_model: int, d_input: int, d_context: int, layers: int, expand: int, updates: bool
    ) -> None:
        super().__init__()
        widths = [d_input, *(d_model,) * (layers - 1)]
        self.layers = nn.ModuleList(
            UpdateLayer(width, d_context, d_model, expand) for width in widths
        )
        self.updates = nn.ModuleList(
            UpdateLayer(d_context, d_model, d_context, expand)
            for _ in range(updates * (layers - 1))
        )

    def forward(self, inputs: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """The last vectors (…, H).

        Args:
            inputs: (…, W).
            contexts: (…, C) for every layer, or one for all of them.
        """
        token, context = inputs, contexts[0]
        for index, layer in enumerate(self.layers):
            if len(contexts) > 1:
                context = contexts[index]
            elif index and self.updates:
                update = self.updates[index - 1]
                context = update(context, update.of_beside(token))  # type: ignore[operator]
            token = layer(token, layer.of_beside(context))  # type: ignore[operator]
        return token
