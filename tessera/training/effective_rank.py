"""How many directions vectors point in: the effective rank.

Shape suffixes: T vectors, H numbers of each.
Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality" (EUSIPCO
2007); New-LLM takes it of contexts that are not centred, and over H.
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(vectors_TH: Tensor, centred: bool = False) -> Tensor:
    """The exponential of the entropy of the shares of singular values; (), from 1 to min(T, H).

    It grows with T: never compare at different numbers of vectors. Random normal vectors have less
    than H, however many they are. 0 if all vectors are zero. It costs a singular value
    decomposition, for which a GPU is waited for.

    Args:
        vectors_TH: (T, H) of any floating-point type; computed in float64.
        centred: whether their mean is taken off first. A mean far from zero is one large singular
            value, which alone makes the rank small.
    """
    vectors_TH = vectors_TH.double()
    if centred:
        vectors_TH = vectors_TH - vectors_TH.mean(0)
    values = torch.linalg.svdvals(vectors_TH)
    total = values.sum()
    shares = values / total.where(total > 0, 1.0)
    # Its share times the logarithm of nothing is nothing.
    rank = torch.special.entr(shares).sum().exp()
    return rank.where(total > 0, 0.0)


def chosen_rows(num_rows: int, most: int, seed: int = 0) -> Tensor:
    """Which rows to measure, (min(num_rows, most),) int64 on the host in rising order.

    Always the same ones of so many: ranks of other rows could not be compared.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_rows, generator=generator)[:most].sort().values
