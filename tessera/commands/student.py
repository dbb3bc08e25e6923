"""Student's t distribution: how many standard errors an interval reaches to both sides."""

from __future__ import annotations

import math

_STEPS = 200  # of halving an interval: more than float64 has digits


def t_quantile(chance: float, freedom: float) -> float:
    """What a t variable stays below with this chance.

    Args:
        chance: between 0 and 1.
        freedom: degrees of freedom, above 0, whole or not; infinite for the normal distribution.
    """
    if chance < 0.5:
        return -t_quantile(1 - chance, freedom)
    low, high = 0.0, 1.0
    while t_chance(high, freedom) < chance and high < 1e12:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if t_chance(middle, freedom) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_chance(value: float, freedom: float) -> float:
    """How likely a t variable is to be at most the value."""
    if math.isinf(freedom) or freedom > 1e8:
        return 0.5 * math.erfc(-value / math.sqrt(2))
    tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value))
    return 1 - tail if value > 0 else tail


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function of x in [0, 1], by its continued fraction.

    Source: Press et al., Numerical Recipes, section 6.4 (Lentz's method).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logarithm + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    product = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            product *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * product
