"""How sure a share is that was counted."""

from __future__ import annotations

import math

Z_95 = 1.959964  # standard errors to each side of a mean, within which 95 of 100 samples lie


def wilson(share: float, count: int) -> tuple[float, float]:
    """The ends of a share's 95 % interval, 0 to 1; no point even where all ended alike.

    Args:
        share: of the samples, 0 to 1; draws may be halves.
        count: of samples that do not depend on each other, at least 1.

    Source: Wilson 1927.
    """
    square = Z_95**2 / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * share * (1 - share) + square * square / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
