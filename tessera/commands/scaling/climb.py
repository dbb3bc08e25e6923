"""Trains ladders, rung by rung, and keeps what was found where the next call finds it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tessera.accelerator import is_out_of_memory
from tessera.commands.code_version import code_version
from tessera.commands.compare.plan import Plan
from tessera.commands.compare.store import (
    DONE,
    FAILED,
    INTERRUPTED,
    PLAN,
    PLANNED,
    RUNNING,
    Store,
    lines_of,
)
from tessera.commands.compare.training import run_one, write_whole
from tessera.commands.compare.worker import reason_of
from tessera.commands.json_file import json_text
from tessera.commands.scaling.bar import LadderBar
from tessera.commands.scaling.ladder import Ladder, Rung
from tessera.commands.scaling.options import Options
from tessera.commands.scaling.trunk import Trunk, put
from tessera.data import NoRoomForGamesError
from tessera.training.checkpointing import LAST, DivergedError


class Climb:
    """All ladders of a call.

    Args:
        ladders: what there is to train.
        folder: where everything goes; it need not be there yet.

    Attributes:
        failures: what went wrong, a line for each rung that is missing because of it.
    """

    def __init__(self, ladders: Sequence[Ladder], folder: Path) -> None:
        self.ladders, self.folder = ladders, folder
        self._store = Store(folder)
        self._status: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        for rung in self._rungs():
            identity = rung.run.run_id
            reason = self._store.failure(rung.run)
            is_done = self._store.result(rung.run) is not None
            self._status[identity] = DONE if is_done else PLANNED if reason is None else FAILED
            if reason is not None:
                self._reasons[identity] = reason

    @property
    def num_rungs(self) -> int:
        """All rungs."""
        return len(self._status)

    @property
    def num_done(self) -> int:
        """Rungs that are done."""
        return sum(status == DONE for status in self._status.values())

    @property
    def rows_done(self) -> list[str]:
        """The rows of which there is a rung."""
        return list(
            dict.fromkeys(
                ladder.row
                for ladder in self.ladders
                if any(self._status[rung.run.run_id] == DONE for rung in ladder.rungs)
            )
        )

    @property
    def failures(self) -> list[str]:
        """A line for each rung that is not done, and why."""
        return [
            f"{ladder.row}, seed {ladder.seed}, {rung.tokens:,} tokens: {reason}"
            for ladder in self.ladders
            for rung in ladder.rungs
            if (reason := self._reasons.get(rung.run.run_id)) is not None
        ]

    def open(self, plan: Plan, options: Options) -> None:
        """Make the folder, and write what will be done."""
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        content = {
            "options": asdict(options),
            "data": plan.data,
            "tokens_per_step": plan.tokens_per_step,
            "ladders": [_as_json(ladder) for ladder in self.ladders],
            "code": code_version(),
        }
        write_whole(self.folder / PLAN, json_text(content))
        self.write()

    def go(self) -> None:
        """Train until nothing is left, and keep runs.csv true at every moment.

        Raises:
            Stopped: after a signal; the same call goes on.
        """
        bar = LadderBar(sum(map(self.steps_left, self.ladders)))
        try:
            for ladder in self.ladders:
                self._train(ladder, bar)
        except BaseException:
            for identity, status in self._status.items():
                if status == RUNNING:
                    self._status[identity] = INTERRUPTED
            raise
        finally:
            bar.close()
            self.write()

    def write(self) -> None:
        """Write runs.csv."""
        self._store.write_runs(self._lines())

    def trunk_of(self, ladder: Ladder) -> Trunk:
        """The ladder's trunk."""
        return Trunk(self.folder / "trunks" / ladder.trunk_id, ladder.trunk)

    def left(self, ladder: Ladder) -> list[Rung]:
        """The ladder's rungs that are to be trained."""
        return [rung for rung in ladder.rungs if self._status[rung.run.run_id] == PLANNED]

    def steps_left(self, ladder: Ladder) -> int:
        """Steps to be made for them: the trunk's, if nothing is there of it, and cool-downs."""
        left = self.left(ladder)
        return max((x.branch for x in left), default=0) + sum(x.steps - x.branch for x in left)

    def _rungs(self) -> Iterator[Rung]:
        for ladder in self.ladders:
            yield from ladder.rungs

    def _train(self, ladder: Ladder, bar: LadderBar) -> None:
        left, trunk = self.left(ladder), self.trunk_of(ladder)
        begun = [rung for rung in left if self._store.has_begun(rung.run)]
        off = [rung.branch for rung in left if rung not in begun]
        bar.begin(f"{_named(ladder)}, stable", max((rung.branch for rung in left), default=0))
        try:
            if off:
                trunk.grow(off, bar.move)
        except Exception as error:
            self._fail([rung for rung in left if rung not in begun], error)
            left = begun
        finally:
            _free()
        for rung in left:
            name = f"{_named(ladder)}, {rung.tokens:,} tokens"
            bar.begin(name, rung.steps - rung.branch, rung.branch)
            self._status[rung.run.run_id] = RUNNING
            self.write()
            folder = self._store.of(rung.run)
            if rung not in begun:
                folder.mkdir(parents=True, exist_ok=True)
                put(trunk.at(rung.branch), folder / LAST)
            try:
                run_one(rung.run.settings, folder, bar.move, ladder.counted)
            except Exception as error:
                self._fail([rung], error)
            else:
                self._status[rung.run.run_id] = DONE
            bar.end(name, self._said(rung))
            self.write()
        if not self.left(ladder):
            trunk.prune(())

    def _fail(self, rungs: Sequence[Rung], error: Exception) -> None:
        """Note why rungs are missing, if it lies in what is trained: the others may do better.

        Raises:
            Exception: the error, if it is another one.
        """
        is_final = isinstance(error, DivergedError)
        if not (is_final or isinstance(error, NoRoomForGamesError) or is_out_of_memory(error)):
            raise error
        for rung in rungs:
            identity, reason = rung.run.run_id, reason_of(error)
            self._status[identity], self._reasons[identity] = FAILED, reason
            if is_final:
                self._store.fail(rung.run, reason)

    def _said(self, rung: Rung) -> str:
        result = self._store.result(rung.run)
        if result is None:
            return f"failed, {self._reasons.get(rung.run.run_id, 'nothing was measured')}"
        return f"excess_nats {result['figures']['excess_nats']:.4f}"

    def _lines(self) -> Iterator[dict[str, Any]]:
        for ladder in self.ladders:
            for rung in ladder.rungs:
                run, identity = rung.run, rung.run.run_id
                status, reason = self._status[identity], self._reasons.get(identity, "")
                result = self._store.result(run) if status == DONE else None
                yield from lines_of(run, status, reason, None, ladder.counted, result)


def _named(ladder: Ladder) -> str:
    return f"{ladder.row}, d_model {ladder.size}, seed {ladder.seed}"


def _as_json(ladder: Ladder) -> dict[str, Any]:
    rungs = [
        {
            **{name: getattr(rung, name) for name in ("tokens", "branch", "steps")},
            "run_id": rung.run.run_id,
        }
        for rung in ladder.rungs
    ]
    found = {name: getattr(ladder, name) for name in ("row", "size", "seed", "trunk_id")}
    return {**found, "counted": ladder.counted, "rungs": rungs}


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
