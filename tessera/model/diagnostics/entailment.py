"""Entailment cones: a point of the ball entails whatever lies in the cone behind it.

The property that defines them: entailment is transitive. Cones that are measured at the origin, as
phase 8 of MUSE measures them, lack it; these are measured at the cone's own tip.

Shape suffixes: … any axes, P width of a point.
Source: Ganea, Bécigneul and Hofmann, "Hyperbolic entailment cones" (arXiv:1804.01882), equations 26
and 28.
"""

from __future__ import annotations

from torch import Tensor

WIDTH = 0.1  # K: the larger, the wider all cones
_ROUNDING = 1e-6


def innermost(width: float = WIDTH) -> float:
    """The least distance from the origin at which a point has a cone."""
    return float(2 * width / (1 + (1 + 4 * width**2) ** 0.5))


def apertures(points: Tensor, width: float = WIDTH) -> Tensor:
    """Half the angle (…) of the cone behind each point (…, P), 0 to π/2.

    Points nearer to the origin than ``innermost`` have that of the nearest that have one.
    """
    length = points.norm(dim=-1).clamp(min=innermost(width))
    return (width * (1 - length.square()) / length).clamp(max=1).asin()


def apex_angles(points: Tensor, others: Tensor) -> Tensor:
    """The angle (…) at each point, 0 to π, between the way outwards and that to the other one.

    Args:
        points: (…, P), of the ball, none of them the origin.
        others: (…, P), each another than its point.
    """
    product = (points * others).sum(-1)
    of_points, of_others = (x.square().sum(-1) for x in (points, others))
    apart = (points - others).norm(dim=-1)
    along = product * (1 + of_points) - of_points * (1 + of_others)
    across = of_points.sqrt() * apart * (1 + of_points * of_others - 2 * product).sqrt()
    return (along / across).clamp(-1, 1).acos()


def is_entailed(points: Tensor, others: Tensor, width: float = WIDTH) -> Tensor:
    """Whether each other point (…, P) lies in the cone of its point; bool (…)."""
    angle = apex_angles(points, others)
    has_cone = points.norm(dim=-1) >= innermost(width)
    return has_cone & (angle <= apertures(points, width) + _ROUNDING)
