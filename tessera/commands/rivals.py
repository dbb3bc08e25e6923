"""Other engines of Go, timed on random play in the same run, where they are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from tessera.commands.engine_speed import Speed, Timing

_PGX_BATCHES_CPU = (1, 16, 64)  # vectorised over more games it is slower there
_PGX_BATCHES_CUDA = (4096, 16384, 65536)
_PGX_BOARDS = (9, 19)


class NotMeasuredError(Exception):
    """A rival that could not be timed; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Rival:
    """An engine to compare with: its name, and how to time it on a board of some size."""

    name: str
    time: Callable[[int, Timing], Speed]


def time_pgx(board_size: int, timing: Timing) -> Speed:
    """Random play on PGX, vectorised and compiled, at the fastest of a few batch sizes.

    A game that ends is reset at once, so every step of every game is a ply.

    Raises:
        NotMeasuredError: if PGX is not installed or does not know the board size.
    """
    _import("pgx", "jax")
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
    name = f"PGX {importlib.metadata.version('pgx')}"
    return Speed(name, "random play", board_size, batch_size, runs, num_bytes / batch_size)


def time_open_spiel(board_size: int, timing: Timing) -> Speed:
    """Random play on OpenSpiel, one game at a time in a Python loop on one CPU core.

    Raises:
        NotMeasuredError: if OpenSpiel is not installed.
    """
    (pyspiel,) = _import("pyspiel")
    game = pyspiel.load_game(f"go(board_size={board_size})")
    draw = random.Random(0)

    def play(_: int) -> int:
        plies, state = 0, game.new_initial_state()
        while not state.is_terminal():
            state.apply_action(draw.choice(state.legal_actions()))
            plies += 1
        return plies

    name = f"OpenSpiel {importlib.metadata.version('open_spiel')}"
    return Speed(name, "random play, CPU", board_size, 1, timing.repeat(play))


def _import(*modules: str) -> list:
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        message = "not installed; pip install 'tessera[rivals]' adds it"
        raise NotMeasuredError(message) from error


RIVALS = (Rival("PGX", time_pgx), Rival("OpenSpiel", time_open_spiel))
