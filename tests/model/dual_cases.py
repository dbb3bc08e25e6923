"""Random arguments of Mamba-2's scan, and the recurrence itself, position by position."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

NAMES = ("x", "dt", "A", "B", "C", "D", "dt_bias", "state")


def arguments(
    length: int,
    with_state: bool,
    games: int = 2,
    heads: int = 3,
    headdim: int = 4,
    states: int = 5,
) -> list[Tensor]:
    """Arguments of ``dual_scan`` in float64; in long games one Δ is large, and another is 0."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dt = draw(games, length, heads)
    if length > 20:
        dt[0, length // 2], dt[-1, length // 3] = 25.0, -1e4
    width = heads * headdim
    found = [draw(games, length, width), dt, -draw(heads).exp()]
    found += [draw(games, length, states), draw(games, length, states), draw(heads), draw(heads)]
    return [*found, draw(games, width, states)] if with_state else found


def one_by_one(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What ``dual_scan`` has to return, head by head and position by position."""
    if state is None:
        state = x.new_zeros(len(x), x.shape[2], B.shape[2])
    outputs, states = [], []
    for head, (part, now) in enumerate(
        zip(x.chunk(len(A), 2), state.chunk(len(A), 1), strict=True)
    ):
        read = []
        for t in range(x.shape[1]):
            delta = F.softplus(dt[:, t, head] + dt_bias[head])[:, None, None]
            now = torch.exp(delta * A[head]) * now + delta * part[:, t, :, None] * B[:, t, None]
            read.append((now * C[:, t, None]).sum(2) + D[head] * part[:, t])
        outputs.append(torch.stack(read, 1))
        states.append(now)
    return torch.cat(outputs, 2), torch.cat(states, 1)


def results(
    scan: Callable[..., tuple[Tensor, Tensor]], given: list[Tensor], y_weight: float = 1.0
) -> dict[str, Tensor]:
    """Output, last state and the gradients of all arguments, with random weights on the first two.

    Computed in the dtype and on the device of ``given``; returned in float64 on the CPU. Those of
    the output are multiplied by ``y_weight``.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    y, last = scan(*leaves)
    generator = torch.Generator().manual_seed(7)
    total = y.new_zeros(())
    for out, weight in ((y, y_weight), (last, 1.0)):
        random = torch.randn(out.shape, generator=generator, dtype=torch.float64)
        total = total + (out * weight * random.to(out)).sum()
    grads = torch.autograd.grad(total, leaves)
    found = {"y": y, "last": last} | dict(zip(NAMES, grads, strict=False))
    return {name: tensor.detach().double().cpu() for name, tensor in found.items()}


def relative_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Norm of the difference over the norm, of every tensor."""
    assert found.keys() == expected.keys()
    return {
        name: float((found[name] - expected[name]).norm() / (expected[name].norm() + 1e-30))
        for name in expected
    }
