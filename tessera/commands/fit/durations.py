"""Durations as Lightning writes them, ``DD:HH:MM:SS``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

_FORMAT = re.compile(r"(\d+):(\d\d):(\d\d):(\d\d)")


def seconds_of(duration: Any) -> float | None:
    """A duration in seconds; None if it is none.

    Args:
        duration: ``DD:HH:MM:SS``, the arguments of a timedelta, or a timedelta.
    """
    if isinstance(duration, str) and (match := _FORMAT.fullmatch(duration)):
        parts = map(int, match.groups())
        duration = dict(zip(("days", "hours", "minutes", "seconds"), parts, strict=True))
    try:
        if isinstance(duration, Mapping):
            duration = timedelta(**duration)
    except (TypeError, OverflowError):
        return None
    if not isinstance(duration, timedelta) or duration < timedelta():
        return None
    return duration.total_seconds()


def duration_text(seconds: int) -> str:
    """Whole seconds as ``DD:HH:MM:SS``."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02}:{hours:02}:{minutes:02}:{seconds:02}"
