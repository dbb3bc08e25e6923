"""Lightning's profiler for runs that nobody profiles."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch.profilers import PassThroughProfiler

_NOTHING = nullcontext("")


class Unprofiled(PassThroughProfiler):
    """Measures nothing, like Lightning's default, and makes no generator of it.

    Lightning opens a profile around each hook of each callback, some seventy at every step.
    """

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]
        """What does nothing in a ``with`` statement."""
        return _NOTHING
