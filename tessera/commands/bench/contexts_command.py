"""What ``tessera bench contexts`` is asked for, and the published context blocks, one by one.

Shape suffixes: B streams, L tokens, C numbers of a context, W numbers that are read of a token.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.commands.arguments import find_device
from tessera.commands.bench.contexts_report import Block, BlockResult, ContextsReport, Found
from tessera.commands.console import waiting_for
from tessera.commands.machine import machine_name
from tessera.model.context_blocks import ContextBlock
from tessera.setting_errors import noted, whole
from tessera.training.context_checks import by_sweep, ranks_of
from tessera.training.objectives.context_stage import FIRST_STD, sweep_losses
from tessera.training.objectives.fixed_point import FixedPointSettings

VOCABULARY = 50_257  # of GPT-2, whose frozen vectors the published blocks read
BLOCKS = {
    "six": Block("six layers, d 768", 768, 768, 6, 0),
    "768": Block("one layer, d 768", 768, 768, 1, 0),
    "500": Block("one layer, d 500", 500, 768, 1, 0),
    "192": Block("two matrices, d 192", 192, 192, 1, 4),
}
_SWEEPS = 30
_CLIP = 2.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let everything be said that can be chosen."""
    add = parser.add_argument
    names = "; ".join(f"{name}: {block.name}" for name, block in BLOCKS.items())
    add("--rows", metavar="NAME", nargs="+", help=f"{names} (default: all)")
    what = "tokens of the stream, and vectors that a rank is taken of (default: 1000)"
    add("--tokens", type=int, default=1000, help=what)
    what = "sweeps that train a block, 0 for the untrained alone (default: 59, as published)"
    add("--steps", type=int, default=59, help=what)
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    add("--json", metavar="FILE", help="also write the figures to this file; - prints that alone")


def checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    names, found = ", ".join(BLOCKS), list[Any]()
    with noted(found):
        whole(2, 100_000)("--tokens", arguments.tokens)
    with noted(found):
        whole(0, 100_000)("--steps", arguments.steps)
    problems = [str(problem) for problem in found]
    for name in arguments.rows or ():
        if name not in BLOCKS:
            problems.append(f"--rows must be some of {names}, got {name}.")
    return find_device(arguments, parser, problems)


def measure(arguments: argparse.Namespace, device: torch.device) -> ContextsReport:
    """Measure every block before and after its training."""
    results = []
    for name, block in BLOCKS.items():
        if name not in (arguments.rows or BLOCKS):
            continue
        waiting_for(f"measuring {block.name}")
        results.append(_measured(block, arguments.tokens, arguments.steps, device))
    waiting_for("")
    return ContextsReport(machine_name(device), arguments.tokens, arguments.steps, tuple(results))


@dataclass
class _Stream:
    """A block over one stream of tokens, as a ``SweptRecurrence``."""

    block: ContextBlock
    windows_BLW: Tensor
    counted_BL: Tensor

    def sequential(self, memory: Any = None) -> tuple[Tensor, Any]:
        start = self.windows_BLW.new_zeros(1, self.block.d_context) if memory is None else memory
        found = self.block.sequential(start, self.block.of_inputs(self.windows_BLW))[-1]
        return found, found[:, -1]

    def sweep(self, previous_BLC: Tensor) -> Tensor:
        return self.block.sweep(previous_BLC, self.block.of_inputs(self.windows_BLW))[-1]


def _measured(block: Block, tokens: int, steps: int, device: torch.device) -> BlockResult:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = ContextBlock(block.d_context, block.d_input, block.layers, block.expand)
        vectors = zipf_vectors(tokens, block.d_input).to(device)
        counted = torch.ones(1, tokens, dtype=torch.bool, device=device)
        stream = _Stream(own.to(device), vectors, counted)
        untrained = _found(stream)
        trained = None
        if steps:
            _train(stream, steps)
            trained = _found(stream)
    count = sum(weight.numel() for weight in own.parameters())
    return BlockResult(block, count, untrained, trained)


def zipf_vectors(tokens: int, width: int) -> Tensor:
    """Normalized vectors (1, L, W) of random tokens, the r-th of which has a chance like 1 / r.

    The published vectors are GPT-2's; these are normal numbers.
    """
    generator = torch.Generator().manual_seed(1)
    chances = 1 / torch.arange(1, VOCABULARY + 1, dtype=torch.float64)
    drawn = torch.multinomial(chances, tokens, replacement=True, generator=generator)
    words, places = drawn.unique(return_inverse=True)
    vectors = torch.randn(len(words), width, generator=generator)
    return F.layer_norm(vectors, (width,))[places][None]


@torch.no_grad()
def _found(stream: _Stream) -> Found:
    vectors, _ = stream.sequential()
    ranks = ranks_of(vectors[0], len(vectors[0]))
    width = ranks.width
    rates = by_sweep(stream, _SWEEPS)
    return Found(ranks.rank / width, ranks.centred / width, tuple(rate for rate, _ in rates))


def _train(stream: _Stream, steps: int) -> None:
    """The published stage 1: a step of Adam after every sweep over the one stream."""
    settings, block = FixedPointSettings(), stream.block
    optimizer = torch.optim.Adam(block.parameters(), settings.context_lr)
    place = stream.windows_BLW.device
    draw: Callable[[], Tensor] = lambda: torch.randn(shape).to(place)  # noqa: E731
    shape = (*stream.windows_BLW.shape[:2], block.d_context)
    previous, is_pad = FIRST_STD * draw(), ~stream.counted_BL
    for _ in range(steps):
        losses, previous = sweep_losses(
            *(block, stream.windows_BLW, previous, is_pad, draw(), settings)
        )
        optimizer.zero_grad()
        losses[0].backward()
        torch.nn.utils.clip_grad_norm_(block.parameters(), _CLIP)
        optimizer.step()
