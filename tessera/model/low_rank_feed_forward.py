"""Feed-forward layers whose matrices have a low rank: those of MUSE's phases 1, 7 and 8.

Source: MUSE as published, without its dropout, which a block that is computed again cannot have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.feed_forward import FeedForward
from tessera.model.parts import PartSettings
from tessera.setting_errors import SettingError, one_of, problems_of, whole

_EXPAND = 4  # hidden units per unit of d_model, where there are any
# Of a new dense layer that is given vectors of variance 1: the variance of a hidden unit, the mean
# square of its GELU, and the variance of what comes out.
_HIDDEN = 1 / 3
_OF_GELU = 0.117285252
_OUT = _OF_GELU / 3


class _Stage(NamedTuple):
    """One matrix: the width behind it, what follows, and how it begins.

    Attributes:
        width: numbers that come out.
        follow: what is made of them; None for nothing.
        variance: of a new one's numbers before that.
        mean_square: of the same after it.
    """

    width: int
    follow: Callable[[Tensor], Tensor] | None
    variance: float
    mean_square: float


def _ultra(d_model: int, rank: int) -> list[_Stage]:
    return [_Stage(rank, F.relu, 1, 0.5), _Stage(d_model, None, _OUT, _OUT)]


def _standard(d_model: int, rank: int) -> list[_Stage]:
    wide = _Stage(_EXPAND * d_model, F.relu, 1, 0.5)
    narrow = _Stage(rank, F.relu, 1, 0.5)
    return [narrow, wide, narrow, _Stage(d_model, None, _OUT, _OUT)]


def _factored(d_model: int, rank: int) -> list[_Stage]:
    wide = _Stage(_EXPAND * d_model, F.gelu, _HIDDEN, _OF_GELU)
    narrow = _Stage(rank, None, 1, 1)
    return [narrow, wide, narrow, _Stage(d_model, None, _OUT, _OUT)]


# Each kind's matrices, and the published rank.
_KINDS: dict[str, tuple[Callable[[int, int], list[_Stage]], Callable[[int], int]]] = {
    "ultra": (_ultra, lambda d_model: max(d_model // 64, 8)),
    "standard": (_standard, lambda d_model: max(d_model // 16, 64)),
    "factored": (_factored, lambda d_model: max(d_model // 8, 1)),
}


class LowRankFeedForward(FeedForward):
    """Matrices through a narrow place; zero stays zero, though there are biases.

    New ones answer with the variance of a new dense layer.

    Args:
        d_model: d, the width of a position's vector.
        kind: ``ultra``, d → r → d with a ReLU; ``standard``, d → r → 4d → r → d with a ReLU after
            each but the last; ``factored``, the two matrices of the dense layer as products of two,
            d → r → 4d, a GELU, 4d → r → d.
        rank: r; 0 means the published one: d / 64, at least 8; d / 16, at least 64; d / 8.
        bias: whether each matrix has a bias.

    Raises:
        SettingError: if ``kind`` is none of these, or ``rank`` not a whole number of at least 0.
    """

    def __init__(self, d_model: int, kind: str = "ultra", rank: int = 0, bias: bool = True) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        given = SimpleNamespace(kind=kind, rank=rank)
        if problems := problems_of(given, {"kind": one_of(*_KINDS), "rank": whole(0)}):
            raise SettingError(*problems)
        self.kind, self.rank = kind, _rank(kind, rank, d_model)
        self.layers = nn.ModuleList()
        width, mean_square = d_model, 1.0
        for stage in _stages(kind, rank, d_model):
            layer = nn.Linear(width, stage.width, bias)
            nn.init.normal_(layer.weight, std=(stage.variance / (width * mean_square)) ** 0.5)
            if bias:
                nn.init.zeros_(layer.bias)
            self.layers.append(layer)
            width, mean_square = stage.width, stage.mean_square

    def forward(self, hidden: Tensor) -> Tensor:
        """Vectors (…, d_model)."""
        made = hidden
        stages = _stages(self.kind, self.rank, hidden.shape[-1])
        for layer, stage in zip(self.layers, stages, strict=True):
            made = layer(made)
            made = made if stage.follow is None else stage.follow(made)
        # Biases would tell PAD from nothing.
        return made.masked_fill(~hidden.any(-1, keepdim=True), 0.0)


def _rank(kind: str, rank: int, d_model: int) -> int:
    return rank or _KINDS[kind][1](d_model)


def _stages(kind: str, rank: int, d_model: int) -> list[_Stage]:
    return _KINDS[kind][0](d_model, _rank(kind, rank, d_model))


@dataclass(frozen=True)
class LowRankSettings(PartSettings):
    """Settings of ``LowRankFeedForward``.

    Args:
        kind: ultra, standard or factored: d → r → d; d → r → 4d → r → d; two factored matrices.
        rank: r; 0 for the published one: d_model / 64, at least 8; / 16, at least 64; / 8.
        bias: whether each matrix has a bias.
    """

    kind: str = "ultra"
    rank: int = 0
    bias: bool = True

    part: ClassVar[type[nn.Module]] = LowRankFeedForward

    def num_parameters(self, d_model: int) -> int:
        """Of the layer; of a kind that there is not, none."""
        if self.kind not in _KINDS:
            return 0
        widths = [d_model, *(stage.width for stage in _stages(self.kind, self.rank, d_model))]
        return sum((one + self.bias) * other for one, other in pairwise(widths))
