"""Losses that are small where contexts differ from each other.

Shape suffixes: T positions, C numbers of a context. A context after a layer norm has a norm of
about √C. ``counted_T`` is 1 where a position counts and 0 elsewhere, in the contexts' dtype.
Source: New-LLM, whose names and factors these are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-4  # of variances, as in VICReg
_NO_SHARE = 1e-10
_COVARIANCE = 0.04
_TOWARDS_ZERO = 0.1


def mcdl(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    """``−‖X − x̄‖_F / n``: in [−√(C / n), 0], so its scale depends on n; O(n C).

    At n = 5000 and C = 768 no more than 0.39 can be gained.
    """
    centred_TC = _centred(contexts_TC, counted_T)
    return -torch.linalg.vector_norm(centred_TC) / counted_T.sum()


def odcm(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    """``mean_j relu(1 − √(var_j + 1e-4)) + 0.04 Σ_{i≠j} cov_ij² / C``: at least 0; O(n C²).

    VICReg without its invariance (arXiv:2105.04906).
    """
    covariance_CC = _covariance(contexts_TC, counted_T)
    variance_C = covariance_CC.diagonal()
    hinge = F.relu(1 - (variance_C + _EPS).sqrt()).mean()
    others = covariance_CC.square().sum() - variance_C.square().sum()
    return hinge + _COVARIANCE * others / len(covariance_CC)


def sdl(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    """``Σ p ln(p + 1e-10)`` with p the singular values of X over their sum: in [−ln min(n, C), 0].

    Minus the logarithm of the effective rank, not centred. It costs a singular value decomposition,
    O(n C²) and slow on a GPU, which is waited for.
    """
    values = _singular_values(contexts_TC * counted_T[:, None])
    shares = values / values.sum()
    # Behind a layer norm one of them is zero, where p ln p has no slope.
    return (shares * (shares + _NO_SHARE).log()).sum()


def nuc(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    """``−‖X − x̄‖_* / n``, the nuclear norm: in [−√(C min(n, C) / n), 0]; costs what SDL does."""
    values = _singular_values(_centred(contexts_TC, counted_T))
    return -values.sum() / counted_T.sum()


def oacd(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    """``MCDL + 0.1 ‖x̄‖²``, which keeps the mean at zero: at least −√(C / n); O(n C)."""
    mean_C = _mean(contexts_TC, counted_T)
    return mcdl(contexts_TC, counted_T) + _TOWARDS_ZERO * mean_C.square().sum()


class DiversityLoss(NamedTuple):
    """A loss, and whether a GPU is waited for.

    Attributes:
        of: the loss of contexts (T, C) and of which of them count (T,).
        waits: see above.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    waits: bool


DIVERSITIES = {
    "mcdl": DiversityLoss(mcdl, False),
    "odcm": DiversityLoss(odcm, False),
    "sdl": DiversityLoss(sdl, True),
    "nuc": DiversityLoss(nuc, True),
    "oacd": DiversityLoss(oacd, False),
}


def _mean(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    return (contexts_TC * counted_T[:, None]).sum(0) / counted_T.sum()


def _centred(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    """The contexts without their mean; zero where they do not count."""
    return (contexts_TC - _mean(contexts_TC, counted_T)) * counted_T[:, None]


def _covariance(contexts_TC: Tensor, counted_T: Tensor) -> Tensor:
    centred_TC = _centred(contexts_TC, counted_T)
    return centred_TC.T @ centred_TC / (counted_T.sum() - 1)


def _singular_values(contexts_TC: Tensor) -> Tensor:
    # Rows of zeros change no singular value. Autocast has no decomposition.
    with torch.autocast(contexts_TC.device.type, enabled=False):
        dtype = torch.promote_types(contexts_TC.dtype, torch.float32)
        return torch.linalg.svdvals(contexts_TC.to(dtype))
