"""``tessera fit | validate | test | predict``: runs them, and ends with a line and a code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from tessera.commands.lightning_cli import SettingsError, TesseraCLI
from tessera.commands.quiet import quieten
from tessera.data.stream import is_out_of_memory
from tessera.training.checkpoint_file import CheckpointError, SaveError
from tessera.training.checkpointing import DivergedError


def main(argv: Sequence[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` with their options.

    Returns:
        0, or see ``tessera.cli.main``.
    """
    quieten()
    try:
        TesseraCLI(argv)
    except (SettingsError, CheckpointError) as error:
        _end(str(error), 2)
    except (DivergedError, SaveError, MemoryError) as error:
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
