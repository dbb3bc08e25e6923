"""The real commands, run in this process, and where a process of its own finds them."""

from __future__ import annotations

import os
from pathlib import Path

from tessera.cli import main

# Trains in a second.
SMALL = """
trainer: {max_steps: 20, val_check_interval: 10, log_every_n_steps: 1}
data: {board_size: 3, max_moves: 12, batch_size: 4, context: 12, games_per_chunk: 32,
  windows_per_game: 1, val_batches: 1, test_batches: 1}
model: {d_model: 8, d_state: 4, warmup_steps: 3, decay_steps: 20}
checkpoint_every_n_steps: 7
picture_every_n_validations: 0
cpu_threads: 1
"""


def python_path(*folders: Path) -> str:
    """``PYTHONPATH`` for another process: these folders before those where packages may be."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH", "")]))


def tessera(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def fit(*arguments: object) -> int:
    """The exit code of ``tessera fit`` with small.yaml and more options."""
    return tessera("fit", "--config", "small.yaml", *arguments)
