"""How long the copies between host and device take that Tessera itself makes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tessera.transfers import PendingTransfer, Transfer, subscribe

# A checkpoint moves all weights out of the GPU on purpose; it is no part of a step.
_ON_PURPOSE = ("checkpoint",)


@dataclass(frozen=True, slots=True)
class TransferStatistics:
    """Copies of the run so far.

    Attributes:
        num: how many.
        mean_ms: their mean time; 0.0 if there were none.
        max_ms: the longest one's time.
        num_bytes: all their bytes.
    """

    num: int = 0
    mean_ms: float = 0.0
    max_ms: float = 0.0
    num_bytes: int = 0

    def with_one(self, transfer: Transfer) -> TransferStatistics:
        """The statistics with one more copy."""
        num = self.num + 1
        return TransferStatistics(
            num,
            self.mean_ms + (transfer.ms - self.mean_ms) / num,
            max(self.max_ms, transfer.ms),
            self.num_bytes + transfer.num_bytes,
        )


class TransferProbe:
    """Listens to ``tessera.transfers``: ``time_transfer`` and ``time_transfer_max``.

    Checkpoints are timed as well and stand in ``by_owner``, but are not judged: they are copies
    that the program makes on purpose and seldom.

    Attributes:
        metrics: the names of what is read.
        by_owner: statistics of the run so far, for every owner.
        total: the same of all owners but ``checkpoint``.
        why_absent: empty; a copy can always be timed.
    """

    metrics = ("time_transfer", "time_transfer_max")

    def __init__(self) -> None:
        self.by_owner: dict[str, TransferStatistics] = {}
        self.total = TransferStatistics()
        self.why_absent: dict[str, str] = {}
        self._pending: deque[PendingTransfer] = deque()
        self._unsubscribe = subscribe(self._pending.append)

    def read(self) -> dict[str, float]:
        """Mean and maximum of the copies that have ended since the last call; never waits."""
        times = []
        while self._pending and (transfer := self._pending[0].resolve()) is not None:
            self._pending.popleft()
            before = self.by_owner.get(transfer.owner, TransferStatistics())
            self.by_owner[transfer.owner] = before.with_one(transfer)
            if transfer.owner not in _ON_PURPOSE:
                self.total = self.total.with_one(transfer)
                times.append(transfer.ms)
        if not times:
            return {}
        return {"time_transfer": sum(times) / len(times), "time_transfer_max": max(times)}

    def close(self) -> None:
        """Listen no longer."""
        self._unsubscribe()
