"""How many pieces and loops a set of vectors has, by the graph of its witnesses.

The property that defines them: of points around a circle there is one piece and one loop, of two
heaps two pieces, whatever the turn, the place and the size.

Shape suffixes: T vectors, P width of a vector, N landmarks.
Source: de Silva and Carlsson, "Topological estimation using witness complexes" (2004), of which
this is the graph alone: a loop that triangles would fill counts as one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def landmarks(vectors_TP: Tensor, count: int) -> Tensor:
    """Indices (N,) of vectors far from each other: each the furthest from those before it.

    Fewer than ``count`` if no others are left that differ from all.
    """
    nearest_T = (vectors_TP - vectors_TP[0]).norm(dim=1)
    chosen = [0]
    while len(chosen) < count and float(nearest_T.max()) > 0:
        chosen.append(int(nearest_T.argmax()))
        away_T = (vectors_TP - vectors_TP[chosen[-1]]).norm(dim=1)
        nearest_T = torch.minimum(nearest_T, away_T)
    return torch.tensor(chosen, device=vectors_TP.device)


def betti_numbers(vectors_TP: Tensor, num_landmarks: int = 64) -> tuple[int, int]:
    """Pieces β₀ and loops β₁ of the graph that joins each vector's two nearest landmarks.

    Not differentiable; it waits for the GPU once for each landmark.

    Args:
        vectors_TP: (T, P), T at least 1.
        num_landmarks: N, at most.
    """
    chosen_N = landmarks(vectors_TP, num_landmarks)
    count = len(chosen_N)
    if count == 1:
        return 1, 0
    away_TN = torch.cdist(vectors_TP, vectors_TP[chosen_N])
    pairs_T2 = away_TN.topk(2, dim=1, largest=False).indices.sort(1).values
    edges = {(int(a), int(b)) for a, b in pairs_T2.tolist()}
    pieces = list(range(count))  # of each landmark, the least one that it is joined with so far

    def piece_of(landmark: int) -> int:
        while pieces[landmark] != landmark:
            landmark = pieces[landmark]
        return landmark

    for a, b in edges:
        low, high = sorted((piece_of(a), piece_of(b)))
        pieces[high] = low
    num_pieces = sum(piece_of(landmark) == landmark for landmark in range(count))
    return num_pieces, len(edges) - count + num_pieces
