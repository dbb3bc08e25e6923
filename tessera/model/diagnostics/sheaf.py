"""Whether the heads of a layer say the same, each in its own words: a sheaf over all pairs.

Between two heads there is a map. A section is one vector for each head such that every map takes
the one to the other. The property that defines them: maps that agree around every loop have as many
independent sections as a head has numbers, and a twist costs some.

Shape suffixes: T positions, K heads, P width of a head.
Source: Hansen and Ghrist, "Toward a spectral theory of cellular sheaves" (arXiv:1808.01513); what
phase 8 of MUSE calls cohomology, 1 − the least eigenvalue of its agreements, is none.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ZERO = 1e-5  # of the largest singular value


def turns_between(heads_TKP: Tensor) -> Tensor:
    """Of each pair of heads the turn (K, K, P, P) that takes the first nearest to the second.

    Orthogonal, and no reflection is kept out: the solution of Procrustes' problem.
    """
    products = torch.einsum("tip,tjq->ijpq", heads_TKP, heads_TKP)
    left, _, right = torch.linalg.svd(products)
    return (left @ right).transpose(-1, -2)


def agreement(heads_TKP: Tensor, turns: Tensor, temperature: float = 1.0) -> Tensor:
    """``exp(−‖R_ij h_i − h_j‖ / τ)`` (K, K), the distance in the mean over T; 1 if always the same.

    Args:
        heads_TKP: what the heads say.
        turns: R, (K, K, P, P).
        temperature: τ, in units of the mean length of what a head says.
    """
    taken_TIJP = torch.einsum("ijqp,tip->tijq", turns, heads_TKP)
    away_IJ = (taken_TIJP - heads_TKP[:, None]).norm(dim=-1).mean(0)
    unit = heads_TKP.norm(dim=-1).mean().clamp(min=torch.finfo(heads_TKP.dtype).tiny)
    return torch.exp(-away_IJ / (temperature * unit))


def num_sections(maps: Tensor) -> int:
    """How many independent sections there are, over all pairs of heads.

    Args:
        maps: (K, K, P, P); of a pair i < j the one that takes head i to head j.
    """
    num_heads, _, width, _ = maps.shape
    rows = []
    for i in range(num_heads):
        for j in range(i + 1, num_heads):
            row = maps.new_zeros(width, num_heads, width)
            row[:, i] = maps[i, j]
            row[:, j] = -torch.eye(width, dtype=maps.dtype, device=maps.device)
            rows.append(row.flatten(1))
    if not rows:
        return width
    values = torch.linalg.svdvals(torch.cat(rows))
    return num_heads * width - int((values > _ZERO * values.max()).sum())
