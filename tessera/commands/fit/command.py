"""``tessera fit | validate | test | predict``: runs them, and ends with a line and a code."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tessera.accelerator import is_out_of_memory
from tessera.commands.ending import say
from tessera.commands.fit.launcher import launcher
from tessera.commands.fit.lightning_cli import TesseraCLI
from tessera.commands.one_line import one_line
from tessera.commands.quiet import quieten
from tessera.data import NoRoomForGamesError
from tessera.setting_errors import SettingError
from tessera.training.checkpoint_file import CheckpointError, SaveError
from tessera.training.checkpointing import DivergedError
from tessera.training.processes import OtherProcessError
from tessera.training.run_folder import FolderError

_PATIENCE_S = 5.0  # for another process to say what both have found


def main(argv: Sequence[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` with their options.

    Returns:
        0, or see ``tessera.cli.main``.
    """
    quieten()
    try:
        TesseraCLI(argv)
    except (SettingError, CheckpointError, FolderError) as error:
        started = launcher()
        if isinstance(error, SettingError) and started is not None and started.nth > 0:
            # The first process on this machine says it, and torchrun ends that with this one.
            time.sleep(_PATIENCE_S)
            return 2
        return say("\n".join(map(one_line, str(error).splitlines())), 2)
    except (DivergedError, OtherProcessError, SaveError) as error:
        return say(str(error), 1)
    except NoRoomForGamesError as error:
        raise error.under("data") from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        advice = "lower data.batch_size, data.context or model.d_model."
        raise MemoryError(f"out of memory: {advice}") from error
    return 0
