"""How many games are played at once where the settings leave it to the device's memory."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch

from tessera.accelerator import memory_problem
from tessera.data.settings import StreamSettings

_SHARE = 1 / 8  # of the free memory: the rest is for the model and its activations
_MOST = 32_768  # an H200 plays them a twentieth faster than half as many
_ON_A_CPU = 1_024


class NoRoomForGamesError(MemoryError):
    """The games of a chunk do not fit into the memory.

    Args:
        line: says what to lower, with ``{}`` before the name of each setting.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line.replace("{}", ""))
        self._line = line

    def under(self, section: str) -> MemoryError:
        """The same, where the settings stand in a section."""
        return MemoryError(self._line.replace("{}", f"{section}."))


def games_that_fit(
    settings: StreamSettings, device: torch.device, needs: Collection[str] = ()
) -> int:
    """Games at once, from the free memory of the device; a power of two on a GPU if it can be.

    Args:
        settings: the stream's, whose own ``games_per_chunk`` is not looked at.
        device: where the games will be played; a CPU always gets the same number.
        needs: the optional tables that are kept of them.
    """
    games = _ON_A_CPU
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        games = int(min(_MOST, max(1, _SHARE * free / settings.bytes_per_game(needs))))
        games = 2 ** (games.bit_length() - 1)
    return whole_batches(games, settings.batch_size, settings.num_windows)


def chunk_problem(
    settings: StreamSettings, device: torch.device, needs: Collection[str] = ()
) -> str:
    """Why the games of one chunk cannot be held on the device, in a line; empty if they can.

    It is a line of ``NoRoomForGamesError``.
    """
    games, plies = settings.games_per_chunk, settings.rules.move_limit(settings.board_size)
    problem = memory_problem(games * settings.bytes_per_game(needs), device)
    if not problem:
        return ""
    cut = "" if settings.context is None else f" in {settings.num_windows} windows each"
    return (
        f"lower {{}}games_per_chunk (={games}), {{}}context (={settings.context}) or "
        f"{{}}max_moves: games of up to {plies} plies{cut} need {problem}."
    )


def whole_batches(games: int, batch_size: int, num_windows: int) -> int:
    """The least number of games, at least ``games``, whose windows make whole batches."""
    step = batch_size // math.gcd(batch_size, num_windows)
    return -(-games // step) * step
