"""From a move to the whole map, by the clock: in the program, and as a Go program waits for it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
import yaml

from tessera.commands.bench.gtp_process import GtpProcess
from tessera.commands.bench.report import say
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.machine import machine_name
from tessera.commands.named_configs import config_file
from tessera.commands.table import table
from tessera.companion import Companion, load
from tessera.data import GameDataModule
from tessera.go import play_games
from tessera.play.session import Session
from tessera.training.checkpoint_file import write_checkpoint
from tessera.training.module import TesseraModule
from tessera.vocabulary import Vocabulary, num_tokens

_WARM_UP_MOVES = 16
_COLUMNS = {
    **{"model": None, "board": None, "what": None, "times": ",", "median ms": ".2f"},
    **{"90 of 100": ".2f", "99 of 100": ".2f", "longest": ".2f"},
}


@dataclass(frozen=True, slots=True)
class Waits:
    """How long one thing took, again and again.

    Attributes:
        model: whose map it is.
        board_size: n.
        what: what was waited for.
        seconds: each time, in the order of the game.
    """

    model: str
    board_size: int
    what: str
    seconds: tuple[float, ...]

    def ms(self, share: float) -> float:
        """The time that this share of them did not exceed, one of those measured."""
        place = max(1, math.ceil(share * len(self.seconds)))
        return 1000 * sorted(self.seconds)[place - 1]

    def cells(self) -> tuple[str | float | None, ...]:
        """The row of the table."""
        board = f"{self.board_size}×{self.board_size}"
        names = (self.model, board, self.what, len(self.seconds), self.ms(0.5))
        if len(self.seconds) == 1:
            return (*names, None, None, None)
        return (*names, self.ms(0.9), self.ms(0.99), self.ms(1))


@dataclass(frozen=True, slots=True)
class MapReport:
    """Everything one run measured.

    Attributes:
        machine: where it ran, in words.
        waits: a row for each model and for each thing that could be timed.
        missing: why another row is not there, by its name.
    """

    machine: str
    waits: tuple[Waits, ...]
    missing: dict[str, str]

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        rows = [*(each.cells() for each in self.waits), *self.missing.items()]
        return [self.machine, "", *table(rows, _COLUMNS)]

    def as_json(self) -> dict[str, object]:
        """The report as plain values, with what follows from them."""
        shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        waits = [
            {
                **{"model": each.model, "board_size": each.board_size, "what": each.what},
                **{f"{name}_ms": each.ms(share) for name, share in shares.items()},
                "seconds": each.seconds,
            }
            for each in self.waits
        ]
        return {"machine": self.machine, "waits": waits, "missing": self.missing}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is timed.

    Attributes:
        name: as it was asked for.
        path: its checkpoint.
        companion: the model and its games.
    """

    name: str
    path: Path
    companion: Companion


def measure(subjects: Iterator[Subject], num_moves: int, threads: int) -> MapReport:
    """Time the maps of every model after so many moves of rule-based games.

    Args:
        subjects: one after the other, each loaded when its turn comes.
        num_moves: of each row.
        threads: of the engine's process.
    """
    waits: list[Waits] = []
    missing: dict[str, str] = {}
    machine = ""
    for subject in subjects:
        name, companion = subject.name, subject.companion
        device = companion.model.device
        machine = machine_name(device)
        games = games_of(companion, num_moves)

        def row(what: str, seconds: Sequence[float], of: Subject = subject) -> Waits:
            return Waits(of.name, of.companion.board_size, what, tuple(seconds))

        say(f"{name}, a move and its map")
        for what, seconds in time_session(companion.session(), games).items():
            waits.append(row(what, seconds))
        say(f"{name}, the same by the protocol")
        size = ("--board_size", str(companion.board_size))
        options = ["--ckpt_path", str(subject.path), "--device", str(device), *size]
        own = (part for name in companion.model.settings.own_parts() for part in ("--own", name))
        try:
            with GtpProcess([*options, *own, "--threads", str(threads)]) as process:
                words = Vocabulary(companion.board_size)
                for what, seconds in time_protocol(process, words, games).items():
                    waits.append(row(what, seconds))
                waits.append(row("start to first answer, GTP", [process.start_s]))
        except NotMeasuredError as error:
            missing[f"{name}, GTP"] = str(error)
    return MapReport(machine, tuple(waits), missing)


def games_of(companion: Companion, num_moves: int) -> list[list[int]]:
    """Rule-based games with so many moves together; the last one is cut off."""
    games: list[list[int]] = []
    left = num_moves
    while left:
        record = play_games(
            "rules",
            range(len(games), len(games) + 1),
            seed=0,
            board_size=companion.board_size,
            rules=companion.rules,
            skip_settled=companion.skip_settled,
        )
        moves = record.moves[0, : int(record.lengths[0])].tolist()[:left]
        games.append(moves)
        left -= len(moves)
    return games


def time_session(session: Session, games: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Seconds from each move to its map, and from taking it back to the map before it.

    A map is on the host before the clock is looked at, so nothing is left to wait for. What the
    processor spent on a move is told too: on a busy machine the rest is waiting for a core.
    """
    for token in games[0][:_WARM_UP_MOVES]:  # kernels are compiled, memory is taken
        session.play(token)
        session.outlook()
    moved, spent, undone = [], [], []
    for moves in games:
        session.clear()
        session.outlook()
        for token in moves:
            began, spent_before = time.perf_counter(), time.process_time()
            session.play(token)
            session.outlook()
            moved.append(time.perf_counter() - began)
            spent.append(time.process_time() - spent_before)
        for _ in moves:
            began = time.perf_counter()
            session.undo()
            session.outlook()
            undone.append(time.perf_counter() - began)
    return {"move to map": moved, "of it, processor time": spent, "undo to map": undone}


def time_protocol(
    process: GtpProcess, words: Vocabulary, games: Sequence[Sequence[int]]
) -> dict[str, list[float]]:
    """Seconds from the line ``play`` to the end of the map that is asked for next."""
    for token in games[0][:_WARM_UP_MOVES]:
        process.ask(f"play b {words.vertex(token)}")
        process.ask("heatmap")
    found: dict[str, list[float]] = {}
    for name in ("heatmap", "lz-analyze"):
        seconds = found.setdefault(f"play to {name}, GTP", [])
        for moves in games:
            process.ask("clear_board")
            for ply, token in enumerate(moves):
                began = time.perf_counter()
                answer = process.ask(f"play {'wb'[ply % 2 == 0]} {words.vertex(token)}")
                told = process.ask(name) if name == "heatmap" else process.analysis()
                seconds.append(time.perf_counter() - began)
                if name == "lz-analyze":
                    process.stop_analysis()
                if not (answer.startswith("=") and told.startswith("=")):
                    raise NotMeasuredError(f"tessera gtp said {answer.strip() or told.strip()}")
    return found


def of_configs(
    names: Sequence[str], board_size: int | None, device: torch.device
) -> Iterator[Subject]:
    """Models with new weights of configurations by name: weights do not change the time."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.ckpt"
            write_new(name, board_size, path)
            yield Subject(name, path, load(path, device))


def of_checkpoint(
    path: Path, board_size: int | None, own: Collection[str], device: torch.device
) -> Iterator[Subject]:
    """The model of a checkpoint.

    Raises:
        CheckpointError: if it is none that can be used.
        SettingError: if the model is of another board.
    """
    yield Subject(str(path), path, load(path, device, board_size, own))


def write_new(name: str, board_size: int | None, path: Path) -> None:
    """Write a checkpoint of a configuration's model as it is before training."""
    settings = yaml.safe_load(Path(config_file(name)).read_text(encoding="utf-8"))
    of_games = settings["data"] | ({} if board_size is None else {"board_size": board_size})
    data = GameDataModule(**of_games)
    torch.manual_seed(0)
    module = TesseraModule(**settings["model"], vocab_size=num_tokens(data.settings.board_size))
    content = {
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
    }
    write_checkpoint(content, path)
