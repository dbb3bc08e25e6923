"""Durations as Lightning writes them, ``DD:HH:MM:SS``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def seconds_of(duration: Any) -> float | None:
    """A duration in seconds; None if it is none.

    Args:
        duration: ``DD:HH:MM:SS``, the arguments of a timedelta, or a timedelta.
    """
    try:
        seconds = Timer(duration).time_remaining()
    except (MisconfigurationException, AttributeError, TypeError, OverflowError):
        return None
    return None if seconds is None or seconds < 0 else seconds


def duration_text(seconds: int) -> str:
    """Whole seconds as ``DD:HH:MM:SS``."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02}:{hours:02}:{minutes:02}:{seconds:02}"
