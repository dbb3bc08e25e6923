"""Others that are timed in the same run, where they are installed.

Engines of Go on random play, and another library's layers in the same stack as ours.

Shapes: B sequences, L positions, V tokens.
"""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.commands.bench.engine_speed import Speed, Timing
from tessera.commands.packages import import_fault, version_of

_PGX_BATCHES_CPU = (1, 16, 64)  # vectorised over more games it is slower there
_PGX_BATCHES_CUDA = (4096, 16384, 65536)
_PGX_BOARDS = (9, 19)


class NotMeasuredError(Exception):
    """A rival that could not be timed; the message says why and what would help."""


def time_pgx(board_size: int, timing: Timing) -> Speed:
    """Random play on PGX, vectorised and compiled, at the fastest of a few batch sizes.

    A game that ends is reset at once, so every step of every game is a ply.

    Raises:
        NotMeasuredError: if PGX cannot be imported or does not know the board size.
    """
    _import("pgx", "rivals")
    if board_size not in _PGX_BOARDS:
        raise NotMeasuredError("PGX plays 9×9 and 19×19 only")
    if timing.device.type == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        batches = _PGX_BATCHES_CPU
    else:
        # Otherwise jax would take most of the memory that torch has left.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        batches = _PGX_BATCHES_CUDA
    speeds = [_time_pgx_batch(board_size, batch, timing) for batch in batches]
    return max(speeds, key=lambda speed: speed.plies_per_s)


def _time_pgx_batch(board_size: int, batch_size: int, timing: Timing) -> Speed:
    import jax
    import jax.numpy as jnp
    import pgx
    from pgx.experimental import auto_reset

    env = pgx.make(f"go_{board_size}x{board_size}")
    steps_at_once = 64 if timing.device.type == "cuda" else max(1, 64 // batch_size)

    @jax.jit
    def play(state: object, key: object) -> tuple[object, object]:
        def ply(_: int, carry: tuple) -> tuple:
            state, key = carry
            key, choice_key, step_key = jax.random.split(key, 3)
            logits = jnp.where(state.legal_action_mask, 0.0, -jnp.inf)
            actions = jax.random.categorical(choice_key, logits)
            step = jax.vmap(auto_reset(env.step, env.init))
            return step(state, actions, jax.random.split(step_key, batch_size)), key

        return jax.lax.fori_loop(0, steps_at_once, ply, (state, key))

    state = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.PRNGKey(0), batch_size))
    # The first call compiles; it is not timed.
    state, key = jax.block_until_ready(play(state, jax.random.PRNGKey(1)))

    def advance(_: int) -> int:
        nonlocal state, key
        state, key = jax.block_until_ready(play(state, key))
        return batch_size * steps_at_once

    runs = timing.repeat(advance)
    num_bytes = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(state))
    name = _with_version("PGX", "pgx")
    return Speed(name, "random play", board_size, batch_size, runs, num_bytes / batch_size)


def time_open_spiel(board_size: int, timing: Timing) -> Speed:
    """Random play on OpenSpiel, one game at a time in a Python loop on one CPU core.

    Raises:
        NotMeasuredError: if OpenSpiel cannot be imported.
    """
    pyspiel = _import("pyspiel", "rivals")
    game = pyspiel.load_game(f"go(board_size={board_size})")
    draw = random.Random(0)

    def play(_: int) -> int:
        plies, state = 0, game.new_initial_state()
        while not state.is_terminal():
            state.apply_action(draw.choice(state.legal_actions()))
            plies += 1
        return plies

    name = _with_version("OpenSpiel", "open_spiel")
    return Speed(name, "random play, CPU", board_size, 1, timing.repeat(play))


class RivalModel(nn.Module):
    """The same stack as ``MambaModel`` around another library's mixers."""

    def __init__(
        self, vocab_size: int, d_model: int, num_blocks: int, layer: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.mixers = nn.ModuleList(layer(index) for index in range(num_blocks))
        self.norms = nn.ModuleList(nn.RMSNorm(d_model, eps=1e-5) for _ in range(num_blocks))
        self.final_norm = nn.RMSNorm(d_model, eps=1e-5)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy of each target, (B * L,)."""
        logits = self.logits(tokens, lambda index, hidden: self.mixers[index](hidden))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")

    def logits(self, tokens: Tensor, mix: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Logits (B, L, V), with ``mix`` of a mixer's index and its input for what it gives."""
        hidden = self.embedding(tokens)
        if len(self.mixers) == 1:
            return self.head(mix(0, hidden))
        for index, norm in enumerate(self.norms):
            hidden = hidden + mix(index, norm(hidden))
        return self.head(self.final_norm(hidden))


def mamba_ssm(device: torch.device, d_model: int) -> tuple[str, Callable[[int], nn.Module]]:
    """Name and version of mamba_ssm, and what makes its layer of some index.

    Raises:
        NotMeasuredError: if it cannot be imported, or there is no GPU.
    """
    if device.type != "cuda":
        raise NotMeasuredError("needs a CUDA device")
    layer = _import("mamba_ssm", "cuda").Mamba
    name = _with_version("mamba_ssm", "mamba_ssm")
    return name, lambda index: layer(d_model, layer_idx=index)


def _with_version(name: str, distribution: str) -> str:
    # None if built from source and found on PYTHONPATH, as OpenSpiel's own guide has it.
    version = version_of(distribution).split(".post")[0]
    return f"{name} {version}" if version else name


def _import(module: str, extra: str) -> Any:
    """A rival's module, which an extra of Tessera's installs.

    Raises:
        NotMeasuredError: if it is not installed, or something that it imports is missing or broken.
    """
    how = f"pip install 'tessera[{extra}]'"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise NotMeasuredError(f"not installed; {how} adds it") from error
        fault = import_fault(error)
        raise NotMeasuredError(f"cannot be imported: {fault}; {how} adds what it needs") from error
    except Exception as error:  # a broken extension raises whatever it likes
        raise NotMeasuredError(f"cannot be imported: {import_fault(error)}") from error


# The engines to compare with: how to time each on a board of some size.
RIVALS = {"PGX": time_pgx, "OpenSpiel": time_open_spiel}
