"""Random arguments of the gated delta rule, and what comes of them, gradients too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Delta:
    """Sizes of a gated delta rule, for a kernel to compute."""

    length: int
    with_state: bool = True
    games: int = 1
    heads: int = 2
    key: int = 5
    value: int = 4
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> list[Tensor]:
        """Arguments of ``delta_rule``, the vectors parts of a wider tensor, as in the mixer."""
        sizes = (self.games, self.heads, self.key, self.value)
        q, k, v, *others = arguments(self.length, self.with_state, *sizes)
        wide = torch.cat([x.flatten(2) for x in (q, k, v)], 2).to(device, self.dtype)
        keys = self.heads * self.key
        parts = wide.split([keys, keys, self.heads * self.value], 2)
        vectors = [x.unflatten(2, (self.heads, -1)) for x in parts]
        return vectors + [x.to(device, torch.float32) for x in others]


# Lengths around the chunks of 16; values that fill their block and that take two.
CASES = {
    "one position": Delta(1),
    "one chunk": Delta(16, with_state=False),
    "three chunks": Delta(33, heads=1),
    "two blocks of values": Delta(18, key=17, value=20, heads=1),
    "bfloat16": Delta(18, dtype=torch.bfloat16),
}
