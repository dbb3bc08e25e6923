"""Random arguments of the gated delta rule, and what comes of them, gradients too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NAMES = ("q", "k", "v", "fade", "beta", "state")


def arguments(
    length: int, with_state: bool, games: int = 2, heads: int = 3, key: int = 6, value: int = 4
) -> list[Tensor]:
    """Arguments of ``delta_rule`` in float64; in long games one α is as good as 0, one β 0."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    fade, beta = -0.1 * draw(games, length, heads).exp(), 2 * draw(games, length, heads).sigmoid()
    if length > 20:
        fade[0, length // 2], beta[-1, length // 3], fade[-1, length // 3] = -50.0, 0.0, 0.0
    q, k = draw(2, games, length, heads, key).unbind()
    found = [q, k, draw(games, length, heads, value), fade, beta]
    return [*found, draw(games, heads, value, key)] if with_state else found


def results(scan: Callable[..., tuple[Tensor, Tensor]], given: list[Tensor]) -> dict[str, Tensor]:
    """Output, last state and the gradients of all arguments, in float64 on the CPU."""
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    o, last = scan(*leaves)
    generator = torch.Generator().manual_seed(7)
    total = sum(
        (out * torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)).sum()
        for out in (o, last)
    )
    grads = torch.autograd.grad(total, leaves)
    found = {"o": o, "last": last} | dict(zip(NAMES, grads, strict=False))
    return {name: tensor.detach().double().cpu() for name, tensor in found.items()}
