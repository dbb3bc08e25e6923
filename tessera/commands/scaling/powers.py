"""Sums of powers, c + A/N^alpha + B/D^beta, fitted to many weightings of the same runs at once.

Five free parameters are ill conditioned: a little noise moves them all along a valley. On a grid
over the two exponents the rest is linear, and non-negative least squares find it; the best point's
surroundings are then looked at again and again on finer grids. What is least is a Huber *sum* over
the runs of the logarithm of predicted over measured: as least squares, but a run that is far off
does not decide.

Source: Hoffmann et al. 2022 (Chinchilla), section 3.3 and appendix D.3, for the form and the loss.

Shape suffixes: R weightings, G points of the grid, N runs, K columns (a power of tokens, one of
parameters, a constant).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST, _MOST = 0.02, 4.0  # exponents
_POINTS = {1: 40, 2: 16}  # of the first grid along an exponent, by how many there are
_FINER_POINTS, _FINER_TIMES = 7, 7
_ROUNDS = 5  # of reweighting
_MOST_NUMBERS = 2_000_000  # in an array
_EDGE = 1.02


@dataclass(frozen=True, slots=True)
class Powers:
    """The fits to R weightings, each (R,).

    Attributes:
        constant: c; 0 where there is none.
        a: of parameters; 0 where there is none.
        alpha: of parameters; 0 where there is none.
        b: of tokens.
        beta: of tokens.
        loss: the Huber sum.
    """

    constant: Array
    a: Array
    alpha: Array
    b: Array
    beta: Array
    loss: Array

    def at(self, parameters: Array, tokens: Array) -> Array:
        """The sums (R, N) at N pairs of parameters and tokens."""
        of_size = self.a[:, None] * parameters ** -self.alpha[:, None]
        of_tokens = self.b[:, None] * tokens ** -self.beta[:, None]
        return self.constant[:, None] + of_size + of_tokens

    def is_at_edge(self) -> bool:
        """Whether an exponent of the first fit is as small or as large as any that was tried."""
        exponents = [x[0] for x in (self.alpha, self.beta) if x[0] > 0]
        return any(x < _LEAST * _EDGE or x > _MOST / _EDGE for x in exponents)


def fit_powers(
    parameters: Array | None,
    tokens: Array,
    values: Array,
    counts_RN: Array,
    has_constant: bool,
    delta: float,
) -> Powers:
    """The best sum of powers for each weighting.

    Args:
        parameters: (N,) of each run; None if the sum has no such part.
        tokens: (N,) of each run.
        values: (N,) what was measured, more than 0.
        counts_RN: how often each run counts.
        has_constant: whether the sum has a constant, of at least 0.
        delta: from which residual of the logarithm on the loss is no square any more.
    """
    num_exponents = 1 if parameters is None else 2
    columns = num_exponents + has_constant
    points = _POINTS[num_exponents] ** num_exponents
    chunk = max(1, _MOST_NUMBERS // (points * len(values) * columns))
    parts = [
        _fit(parameters, tokens, values, counts_RN[at : at + chunk], has_constant, delta)
        for at in range(0, len(counts_RN), chunk)
    ]
    return Powers(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _fit(
    parameters: Array | None,
    tokens: Array,
    values: Array,
    counts_RN: Array,
    has_constant: bool,
    delta: float,
) -> tuple[Array, ...]:
    inputs = [tokens] if parameters is None else [tokens, parameters]
    middles = [float(np.log(each).mean()) for each in inputs]
    logs_N = [np.log(each) - middle for each, middle in zip(inputs, middles, strict=True)]
    first = np.geomspace(_LEAST, _MOST, _POINTS[len(inputs)])
    axes = [np.tile(first, (len(counts_RN), 1)) for _ in inputs]
    ratio = float(first[1] / first[0])
    rows = np.arange(len(counts_RN))
    for _ in range(1 + _FINER_TIMES):
        exponents_RG = _mesh(axes)
        powers = [np.exp(-e[..., None] * x) for e, x in zip(exponents_RG, logs_N, strict=True)]
        if has_constant:
            powers.append(np.ones_like(powers[0]))
        loss_RG, found_RGK = _solve(np.stack(powers, -1), values, counts_RN[:, None], delta)
        best = loss_RG.argmin(1)
        loss, found = loss_RG[rows, best], found_RGK[rows, best]
        chosen = [e[rows, best] for e in exponents_RG]
        steps = np.geomspace(1 / ratio, ratio, _FINER_POINTS)
        axes = [np.clip(e[:, None] * steps, _LEAST, _MOST) for e in chosen]
        ratio = ratio ** (2.0 / (_FINER_POINTS - 1))
    scaled = [found[:, k] * np.exp(chosen[k] * middles[k]) for k in range(len(inputs))]
    nothing = np.zeros(len(rows))
    a, alpha = (nothing, nothing) if parameters is None else (scaled[1], chosen[1])
    constant = found[:, -1] if has_constant else nothing
    return constant, a, alpha, scaled[0], chosen[0], loss


def _mesh(axes: list[Array]) -> list[Array]:
    """Every point of a grid, (R, G) for each axis (R, points)."""
    if len(axes) == 1:
        return axes
    one, two = axes
    shape = (len(one), one.shape[1], two.shape[1])
    pair = (one[:, :, None], two[:, None])
    return [np.broadcast_to(each, shape).reshape(len(one), -1) for each in pair]


def _solve(columns_RGNK: Array, values: Array, counts: Array, delta: float) -> tuple[Array, Array]:
    """The Huber sums (R, G) and the coefficients (R, G, K), which are at least 0.

    Each round linearizes the logarithm where the last one has ended; the best round counts.
    """
    target = np.broadcast_to(values, columns_RGNK.shape[:-1])
    weight = np.broadcast_to(counts / values**2, target.shape)
    best_loss = np.full(target.shape[:2], np.inf)
    best = np.zeros((*target.shape[:2], columns_RGNK.shape[-1]))
    for _ in range(_ROUNDS):
        found = non_negative(columns_RGNK, target, weight)
        predicted = np.maximum((columns_RGNK @ found[..., None])[..., 0], 1e-300)
        off = np.log(predicted / values)
        size = np.abs(off)
        huber = np.where(size <= delta, off**2 / 2, delta * (size - delta / 2))
        loss = (counts * huber).sum(-1)
        is_better = loss < best_loss
        best_loss = np.where(is_better, loss, best_loss)
        best = np.where(is_better[..., None], found, best)
        weight = counts * np.minimum(1.0, delta / np.maximum(size, 1e-300)) / predicted**2
        target = predicted * (1 - off)
    return best_loss, best


def non_negative(columns: Array, target: Array, weight: Array) -> Array:
    """Weighted non-negative least squares of few columns, (…, K), by looking at every support.

    Args:
        columns: (…, N, K), at most three.
        target: (…, N).
        weight: (…, N), at least 0.
    """
    weighted = columns * weight[..., None]
    gram = np.swapaxes(columns, -1, -2) @ weighted
    right = (weighted * target[..., None]).sum(-2)
    scale = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 1e-300))
    gram, right = gram / (scale[..., :, None] * scale[..., None, :]), right / scale
    best, least = np.zeros_like(right), np.zeros(right.shape[:-1])
    columns_there = range(right.shape[-1])
    for support in itertools.chain.from_iterable(
        itertools.combinations(columns_there, count) for count in range(1, len(columns_there) + 1)
    ):
        some = list(support)
        # Columns that are nearly the same, of tiny exponents, must not divide by nothing.
        inner = gram[..., some, :][..., some] + 1e-13 * np.eye(len(some))
        found = np.linalg.solve(inner, right[..., some, None])[..., 0]
        value = -(found * right[..., some]).sum(-1)  # the residual's sum of squares, but a constant
        is_better = (found >= 0).all(-1) & (value < least)
        least = np.where(is_better, value, least)
        spread = np.zeros_like(right)
        spread[..., some] = found
        best = np.where(is_better[..., None], spread, best)
    return best / scale
