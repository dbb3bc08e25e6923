"""Layers that change each position by itself, behind the mixer of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.parts import PartSettings


class FeedForward(nn.Module):
    """Vectors of d_model in, as many out; zero stays zero, so that PAD does.

    Attributes:
        no_weight_decay: see ``Mixer``.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ()


class DenseFeedForward(FeedForward):
    """Two matrices with a GELU between them, without biases; the Transformer's.

    Args:
        d_model: width of a position's vector.
        expand: hidden units per unit of ``d_model``.

    Raises:
        SettingError: if a size is not a whole number of at least 1.
    """

    def __init__(self, d_model: int, expand: int = 4) -> None:
        super().__init__()
        check_sizes(d_model=d_model, expand=expand)
        self.up = nn.Linear(d_model, expand * d_model, bias=False)
        self.down = nn.Linear(expand * d_model, d_model, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Vectors (…, d_model)."""
        return self.down(F.gelu(self.up(hidden)))


@dataclass(frozen=True)
class DenseSettings(PartSettings):
    """Settings of ``DenseFeedForward``.

    Args:
        expand: hidden units per unit of d_model.
    """

    expand: int = 4

    part = DenseFeedForward

    def num_parameters(self, d_model: int) -> int:
        """Of the layer."""
        return 2 * self.expand * d_model**2
