"""Layers that turn the last vectors into logits of the next token.

Shape suffixes: T positions of all games, N rows of the board, H ``d_model``, V ``vocab_size``, U
``V`` rounded up to a multiple of 16.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.backend import has_kernels
from tessera.model.features.planes import unpacked
from tessera.model.parts import PartSettings

# Times d_model ** -0.5: logits of about a hundredth, so a new model predicts nearly uniformly.
_SCALE = 0.01
# Rows of whole 32 bytes, for the kernel and for the matrix products around it.
_ALIGNMENT = 16  # elements


class Head(nn.Module, ABC):
    """Vectors of d_model in, logits of vocab_size out.

    Attributes:
        reads_map: whether it is built for a map's channels too, and given the map of the features
            behind its other arguments, see ``Encoded``.
    """

    reads_map: ClassVar[bool] = False

    @abstractmethod
    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int, *maps: Tensor) -> Tensor:
        """The cross-entropy (T,) of each target in nats, at least float32; 0 where it is PAD.

        Where points are excluded, ``losses_of`` makes it of the logits instead.

        Args:
            hidden_TH: (T, H).
            targets_T: (T,) int64.
            pad_token: the target that is left out.
            maps: the map, if it reads one.
        """


class LinearHead(nn.Linear, Head):
    """One matrix and a bias; a new one starts within 0.05 nats of ln(vocab_size).

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens.
        bias: whether every token has a bias.
    """

    def __init__(self, d_model: int, vocab_size: int, bias: bool = True) -> None:
        super().__init__(d_model, vocab_size, bias)
        nn.init.normal_(self.weight, std=_SCALE * d_model**-0.5)
        if bias:
            nn.init.zeros_(self.bias)

    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int, *maps: Tensor) -> Tensor:
        """See ``Head.losses``.

        On a GPU with Triton one kernel makes them of the logits, and one their gradient: torch's
        own would write them in float32 first, and that several times over.
        """
        if hidden_TH.dtype == torch.float64 or not has_kernels(hidden_TH.device):
            logits_TV = F.linear(hidden_TH, self.weight, self.bias)
            return plain_losses(logits_TV, targets_T, pad_token)
        more = -self.out_features % _ALIGNMENT
        weight_UH = F.pad(self.weight, (0, 0, 0, more))
        bias_U = None if self.bias is None else F.pad(self.bias, (0, more))
        logits_TU = F.linear(hidden_TH, weight_UH, bias_U)
        return _kernel_losses(logits_TU, targets_T, self.out_features, pad_token)


def without(logits: Tensor, excluded: Tensor | None) -> Tensor:
    """The logits (…, V), minus infinity at the points of sets (…, N), if there are any."""
    if excluded is None:
        return logits
    points = unpacked(excluded).flatten(-2)
    others = logits.shape[-1] - points.shape[-1]
    return logits.masked_fill(F.pad(points, (0, others)), -torch.inf)


def losses_of(logits_TV: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
    """The cross-entropy of each target (T,), 0 where it is PAD; in a kernel where there is one."""
    if logits_TV.dtype == torch.float64 or not has_kernels(logits_TV.device):
        return plain_losses(logits_TV, targets_T, pad_token)
    vocab_size = logits_TV.shape[1]
    logits_TU = F.pad(logits_TV, (0, -vocab_size % _ALIGNMENT))
    return _kernel_losses(logits_TU, targets_T, vocab_size, pad_token)


def _kernel_losses(logits_TU: Tensor, targets_T: Tensor, vocab_size: int, pad_token: int) -> Tensor:
    from tessera.model.kernels.losses_operator import LOSSES

    return LOSSES.forward(logits_TU, targets_T, vocab_size, pad_token)[0]


def plain_losses(logits_TV: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
    """The cross-entropy of each target (T,), 0 where it is PAD; the specification of the kernel."""
    dtype = torch.promote_types(logits_TV.dtype, torch.float32)
    # The mean that torch takes itself is one block's work on a GPU, forward and backward.
    return F.cross_entropy(logits_TV.to(dtype), targets_T, ignore_index=pad_token, reduction="none")


@dataclass(frozen=True)
class LinearSettings(PartSettings):
    """Settings of ``LinearHead``.

    Args:
        bias: whether every token has a bias of its own.
    """

    bias: bool = True

    part = LinearHead

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the head."""
        return (d_model + self.bias) * vocab_size
