"""Random arguments of the model's Triton kernels and of the plain code, and how results compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.heads import plain_losses

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Scan:
    """Sizes of one selective scan; ``pads`` positions at each game's end are frozen."""

    games: int
    length: int
    channels: int
    states: int
    with_state: bool = True
    pads: int = 0
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``selective_scan``; x and z are halves of one tensor, as in the mixer."""
        draw = _drawing(self.length + self.channels, device)
        rows = (self.games, self.length)
        both = draw(*rows, 2 * self.channels).to(self.dtype)
        projected = draw(*rows, 3 + 2 * self.states).to(self.dtype)
        dt = draw(*rows, self.channels).to(self.dtype)
        is_pad = torch.zeros(rows, dtype=torch.bool, device=device)
        is_pad[:, self.length - self.pads :] = True
        state = draw(self.games, self.channels, self.states).float()
        return {
            "x_BLD": both[..., : self.channels],
            "dt_BLD": dt,
            "A_DN": -torch.exp(draw(self.channels, self.states)).float(),
            "B_BLN": projected[..., 3 : 3 + self.states],
            "C_BLN": projected[..., 3 + self.states :],
            "D_D": draw(self.channels).float(),
            "z_BLD": both[..., self.channels :],
            "dt_bias_D": draw(self.channels).float() - 1,
            "state_BDN": state if self.with_state else None,
            "is_pad_BL": is_pad if self.pads else None,
        }


@dataclass(frozen=True)
class Convolution:
    """Sizes of one short convolution."""

    games: int
    length: int
    channels: int
    taps: int
    with_before: bool = True
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``causal_convolution``; x is half of a tensor, as in the mixer."""
        draw = _drawing(self.length + self.channels, device)
        both = draw(self.games, self.length, 2 * self.channels).to(self.dtype)
        before = draw(self.games, self.taps - 1, self.channels).to(self.dtype).float()
        return {
            "x_BLD": both[..., : self.channels],
            "taps_DK": draw(self.channels, self.taps).float(),
            "bias_D": draw(self.channels).float(),
            "before_BWD": before if self.with_before else None,
        }


@dataclass(frozen=True)
class Mixing:
    """Sizes of all that lies between a mixer's two large projections."""

    games: int
    length: int
    channels: int
    states: int
    rank: int
    taps: int = 4
    carried: bool = True
    pads: int = 0
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``mix_channels``."""
        draw = _drawing(self.length + self.channels, device)
        rows, selected = (self.games, self.length), self.rank + 2 * self.states
        is_pad = torch.zeros(rows, dtype=torch.bool, device=device)
        is_pad[:, self.length - self.pads :] = True
        before = draw(self.games, self.taps - 1, self.channels).to(self.dtype).float()
        state = draw(self.games, self.channels, self.states).float()
        # The operator rounds these two as autocast would; a float64 reference cannot.
        select, dt = (
            (draw(*shape) * shape[1] ** -0.5).to(self.dtype).float()
            for shape in ((selected, self.channels), (self.channels, self.rank))
        )
        return {
            "xz_BLE": draw(*rows, 2 * self.channels).to(self.dtype),
            "taps_DK": draw(self.channels, self.taps).float(),
            "taps_bias_D": draw(self.channels).float(),
            "select_MD": select,
            "dt_DR": dt,
            "A_DN": -torch.exp(draw(self.channels, self.states)).float(),
            "D_D": draw(self.channels).float(),
            "dt_bias_D": draw(self.channels).float() - 1,
            "before_BWD": before if self.carried else None,
            "state_BDN": state if self.carried else None,
            "is_pad_BL": is_pad if self.pads else None,
        }


@dataclass(frozen=True)
class Losses:
    """Sizes of rows of logits; every third target is PAD, the last but one token."""

    positions: int
    tokens: int
    scale: float = 3.0
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``plain_losses`` without PAD's number."""
        draw = _drawing(self.positions, device)
        targets = torch.arange(self.positions, device=device) * 5 % self.tokens
        targets[::3] = self.tokens - 2
        logits = self.scale * draw(self.positions, self.tokens).to(self.dtype)
        return {"logits_TV": logits, "targets_T": targets}

    def plain(self, logits_TV: Tensor, targets_T: Tensor) -> Tensor:
        """The losses in plain torch."""
        return plain_losses(logits_TV, targets_T, self.tokens - 2)

    def kernel(self, logits_TV: Tensor, targets_T: Tensor) -> Tensor:
        """The losses by the kernel, of rows with more elements than there are tokens."""
        from tessera.model.kernels.losses_operator import LOSSES

        wider = F.pad(logits_TV, (0, -self.tokens % 16), value=50.0)
        return LOSSES.forward(wider, targets_T, self.tokens, self.tokens - 2)[0]


# Lengths around the chunks; channels and states that fill their blocks and that do not.
SCANS = {
    "one-position": Scan(2, 1, 3, 3),
    "two-positions": Scan(1, 2, 5, 4, with_state=False),
    "three-positions": Scan(3, 3, 2, 5),
    "63-positions": Scan(1, 63, 2, 3),
    "64-positions": Scan(1, 64, 2, 2, with_state=False),
    "65-positions": Scan(1, 65, 3, 2),
    "whole-blocks": Scan(3, 4, 64, 2),
    "sixteen-states": Scan(2, 4, 64, 16, with_state=False),
    "many-states": Scan(1, 3, 9, 33),
    "frozen": Scan(1, 7, 33, 3, pads=3),
    "bfloat16": Scan(1, 5, 34, 4, dtype=torch.bfloat16),
    "float16": Scan(1, 4, 6, 4, dtype=torch.float16),
}
CONVOLUTIONS = {
    "one-position": Convolution(2, 1, 3, 4),
    "two-taps": Convolution(1, 3, 5, 2, with_before=False),
    "one-tap": Convolution(2, 9, 64, 1),
    "whole-blocks": Convolution(3, 16, 64, 4, with_before=False),
    "whole-blocks-carried": Convolution(1, 16, 128, 4),
    "eight-taps": Convolution(1, 9, 6, 8),
    "bfloat16": Convolution(1, 18, 6, 4, dtype=torch.bfloat16),
}

MIXINGS = {
    "one-position": Mixing(2, 1, 3, 2, 1),
    "new-games": Mixing(3, 5, 6, 3, 2, carried=False),
    "carried-with-pad": Mixing(2, 7, 5, 2, 3, pads=2),
    "whole-blocks": Mixing(1, 8, 64, 4, 16, carried=False),
    "bfloat16": Mixing(1, 5, 8, 4, 2, dtype=torch.bfloat16),
}

LOSSES = {
    "one-position": Losses(1, 7),
    "aligned": Losses(5, 16),
    "bfloat16": Losses(4, 12, dtype=torch.bfloat16),
    "whole-board": Losses(7, 364),
    "beyond-exp": Losses(6, 12, scale=200.0),
}


def run(function: Callable[..., Any], inputs: dict[str, Tensor | None]) -> Tensors:
    """The results of a function and the gradient of a random function of them in every argument."""
    leaves = {
        name: None if value is None else value.detach().requires_grad_(value.is_floating_point())
        for name, value in inputs.items()
    }
    results = function(**leaves)
    results = results if isinstance(results, tuple) else (results,)
    draw = _drawing(0, str(results[0].device))
    total = sum((result * draw(*result.shape).to(result.dtype)).sum() for result in results)
    total.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if is_float(leaf)}
    named = zip(("output", "last"), results, strict=False)
    return {**{name: result.detach() for name, result in named}, **gradients}


def is_float(value: Tensor | None) -> bool:
    """Whether it is there, and has a gradient."""
    return value is not None and value.is_floating_point()


def as_float64(inputs: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """The same numbers, for the plain form to compute with exactly."""
    return {
        name: value.double() if value is not None and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of what is expected."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def lost_digits(actual: Tensors, rounded: Tensors, expected: Tensors) -> dict[str, float]:
    """Where ``actual`` is further from ``expected`` than the plain form in the same dtype."""
    assert actual.keys() == expected.keys()
    errors = {name: relative_error(actual[name], value) for name, value in expected.items()}
    return {
        name: error
        for name, error in errors.items()
        if error > 1.3 * relative_error(rounded[name], expected[name]) + 5e-3
    }


def _drawing(seed: int, device: str) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    return draw
