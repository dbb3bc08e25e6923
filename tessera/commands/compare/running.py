"""Lets workers train all that is to be trained, as many runs at once as there are workers."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path

from tessera.commands.compare.comparison import Comparison, kept
from tessera.commands.compare.plan import Run
from tessera.commands.compare.pool import Message, Worker, workers
from tessera.commands.compare.progress import Progress


class WorkerError(RuntimeError):
    """A worker could not even begin; the message says why."""


def run_all(comparison: Comparison, where: list[dict[str, str]], folder: Path) -> None:
    """Train until nothing is left, and keep runs.csv true at every moment.

    Args:
        comparison: what there is to train.
        where: the place of every worker, see ``pool.places``.
        folder: of the comparison.

    Raises:
        WorkerError: if a worker ends before it has begun.
    """
    comparison.write()
    if not comparison.pending():
        return
    number = comparison.num_runs - comparison.num_over
    progress = Progress(comparison)
    try:
        with kept(comparison), workers(where[:number], folder) as (_, messages):
            _Crew(comparison, progress, messages).work()
    finally:
        progress.close()


class _Crew:
    """Gives every worker that is free what it does best."""

    def __init__(
        self, comparison: Comparison, progress: Progress, messages: queue.SimpleQueue[Message]
    ) -> None:
        self._comparison, self._progress, self._messages = comparison, progress, messages
        self._ready: set[Worker] = set()  # those that have begun
        self._idle: list[Worker] = []
        self._under_way: dict[Worker, Run] = {}
        self._last_row: dict[Worker, str] = {}

    def work(self) -> None:
        """Until there is nothing more to do."""
        comparison = self._comparison
        while comparison.pending() or self._under_way:
            while self._idle and (pending := comparison.pending()):
                self._give(self._idle.pop(0), pending)
            message = self._messages.get()
            self._hear(message)

    def _give(self, worker: Worker, pending: Sequence[Run]) -> None:
        """Its last row's run, whose kernels it has; or one of a row that nobody is at."""
        rows = [run.row for run in self._under_way.values()]
        last = self._last_row.get(worker)
        run = min(pending, key=lambda run: (run.row != last, run.row in rows))
        self._under_way[worker], self._last_row[worker] = run, run.row
        self._comparison.begin(run)
        self._comparison.write()
        worker.give(self._comparison.job(run))

    def _hear(self, message: Message) -> None:
        worker, kind, content = message
        run = self._under_way.get(worker)
        if kind == "ready":
            self._ready.add(worker)
            self._idle.append(worker)
        elif kind == "ended":
            if worker not in self._ready:
                raise WorkerError(f"a worker cannot begin: {content['reason']}.")
            self._ready.discard(worker)
            self._idle = [each for each in self._idle if each is not worker]
            if run is not None:
                self._end(worker, run, content["reason"])
            if self._comparison.pending() or self._under_way:
                worker.start()
        elif run is None:
            return
        elif kind == "progress":
            self._progress.move(run, content)
        elif kind == "interrupted":
            self._end(worker, run, "somebody stopped its process")
        else:
            self._end(worker, run, content.get("reason"), bool(content.get("is_final")))
            if not content.get("is_ending"):
                self._idle.append(worker)

    def _end(self, worker: Worker, run: Run, reason: str | None, is_final: bool = False) -> None:
        """A run is over; it has failed if there is a reason."""
        del self._under_way[worker]
        if reason is None:
            self._comparison.finish(run)
        else:
            self._comparison.fail(run, reason, is_final)
        self._progress.end(self._comparison.standings[run.run_id])
        self._comparison.write()
