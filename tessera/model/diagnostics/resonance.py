"""What the Green's functions of BK-Core say of a chain: how near it is to a resonance.

The property that defines it: the level density is not negative and 1 in all over the energies, and
a long even chain has its levels within ±2 of its sites' potential, and none beyond.
"""

from __future__ import annotations

import math

from torch import Tensor


def resonance(green: Tensor) -> Tensor:
    """The mean of ``|Re g|`` (): phase 8 of MUSE calls a chain resonant where it is above ½.

    Args:
        green: of any shape, complex.
    """
    return green.real.abs().mean()


def level_density(green: Tensor) -> Tensor:
    """``Im g / π``, levels for each unit of energy at a site, seen through the width η.

    Args:
        green: the diagonal of ``(H − E − iη)⁻¹``, complex, η more than 0.
    """
    return green.imag / math.pi
