"""``tessera fit | validate | test | predict``: runs them, and ends with a line and a code."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from tessera.commands.lightning_cli import SettingsError, TesseraCLI
from tessera.data.stream import is_out_of_memory
from tessera.training.checkpointing import CheckpointError, DivergedError


def main(argv: Sequence[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` with their options.

    Returns:
        0, or see ``tessera.cli.main``.
    """
    _quieten()
    try:
        TesseraCLI(argv)
    except (SettingsError, CheckpointError) as error:
        _end(str(error), 2)
    except (DivergedError, MemoryError) as error:
        _end(str(error), 1)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _end("out of memory: lower data.batch_size, data.context or model.d_model.", 1)
    return 0


def _end(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"tessera: {line}", file=sys.stderr)
    raise SystemExit(code)


def _quieten() -> None:
    """Let through only what concerns the run: no advertising, no advice that does not apply."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Batches are made on the training device: workers in other processes could not help.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning's own calls of parts of torch and of jsonargparse that are on their way out.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.. is deprecated.*")
