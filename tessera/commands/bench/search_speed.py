"""How fast a search plays itself, by the clock, and where the time goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from tessera.commands.bench.engine_speed import Run, Timing
from tessera.commands.machine import machine_name
from tessera.commands.table import table
from tessera.go import GameLoop, GPUGoEngine, Rules
from tessera.go.branching import copies, copy_games, kind_of
from tessera.model import GameModel, ModelSettings
from tessera.play.evaluator import ModelEvaluator
from tessera.play.search_player import SearchPlayer
from tessera.play.sensible import sensible_moves
from tessera.vocabulary import Vocabulary

_WARM_UP_PLIES = 3
_D_MODEL = 64
_COLUMNS = {
    **{"model": None, "board": None, "simulations": ",", "games at once": ",", "moves/s": ",.0f"},
    **{"slowest to fastest run": "", "evaluations/s": ",.0f", "net": ".0%", "engine": ".0%"},
    **{"tree and rest": ".0%", "MiB": ",.0f"},
}


@dataclass(frozen=True, slots=True)
class SearchSpeed:
    """One measured row.

    Attributes:
        model: who played, in words.
        board_size: n.
        num_simulations: positions that were evaluated for a move, beside its own.
        batch_size: games at once.
        runs: moves of games that went on, and how long they took, again and again.
        ply_s: seconds of a ply of all games together, the record and new games included.
        net_s: seconds in which all games' positions are evaluated once, alone.
        engine_s: seconds in which a move of all games is copied, played, judged and stored, alone.
        peak_mb: the most memory of the device that was taken; None on a CPU.
    """

    model: str
    board_size: int
    num_simulations: int
    batch_size: int
    runs: tuple[Run, ...]
    ply_s: float
    net_s: float
    engine_s: float
    peak_mb: float | None

    @property
    def moves_per_s(self) -> float:
        """Moves in a second, all games together; the median of the runs."""
        return statistics.median(run.num_done / run.seconds for run in self.runs)

    @property
    def evaluations_per_s(self) -> float:
        """Positions that the model was asked for these, in a second."""
        return self.moves_per_s * (self.num_simulations + 1)

    @property
    def shares(self) -> tuple[float, float, float | None]:
        """Of the time of a ply: the model's, the engine's, and what is left for trees and all else.

        The two are timed alone; what they take less in company is in the third. Of few games and
        small models they can take longer alone than the whole ply: then their shares are of both
        together, and of the third nothing is known.
        """
        rounds = self.num_simulations + 1
        net_s, engine_s = self.net_s * rounds, self.engine_s * rounds
        rest_s = self.ply_s - net_s - engine_s
        whole_s = max(self.ply_s, net_s + engine_s)
        return net_s / whole_s, engine_s / whole_s, rest_s / whole_s if rest_s >= 0 else None

    def cells(self) -> tuple[str | float | None, ...]:
        """The row of the table."""
        rates = [run.num_done / run.seconds for run in self.runs]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}" if len(rates) > 1 else "one run"
        board = f"{self.board_size}×{self.board_size}"
        sizes = (self.num_simulations, self.batch_size)
        speeds = (self.moves_per_s, spread, self.evaluations_per_s)
        return (self.model, board, *sizes, *speeds, *self.shares, self.peak_mb)


@dataclass(frozen=True, slots=True)
class SearchReport:
    """Everything one run measured.

    Attributes:
        machine: where it ran, in words.
        speeds: a row for each board and number of simulations.
    """

    machine: str
    speeds: tuple[SearchSpeed, ...]

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        return [self.machine, "", *table([speed.cells() for speed in self.speeds], _COLUMNS)]

    def as_json(self) -> dict[str, object]:
        """The report as plain values, with what follows from them."""
        speeds = []
        for speed in self.speeds:
            names = ("net_ratio", "engine_ratio", "rest_ratio")
            follows = dict(zip(names, speed.shares, strict=True))
            follows |= {"moves_per_s": speed.moves_per_s}
            follows |= {"evaluations_per_s": speed.evaluations_per_s}
            speeds.append({**asdict(speed), **follows})
        return {"machine": self.machine, "speeds": speeds}


def new_model(board_size: int, channels: int, depth: int, device: torch.device) -> GameModel:
    """A model of positions with new weights, which take as long as others."""
    torch.manual_seed(0)
    settings = ModelSettings(
        Vocabulary(board_size).size,
        _D_MODEL,
        features="board",
        mixer="identity",
        head="points",
        outcome="win_and_score",
        board={"channels": channels, "depth": depth},  # type: ignore[arg-type]
    )
    return GameModel(settings).to(device).eval().requires_grad_(False)


def time_search(
    name: str,
    model: GameModel,
    rules: str | Rules,
    num_simulations: int,
    num_considered: int,
    batch_size: int,
    timing: Timing,
) -> SearchSpeed:
    """Whole plies of self-play, slots refilled: search, play and record; then its parts alone.

    Only games that go on are counted; with one new game for every slot there are enough of them.
    """
    device = timing.device
    is_gpu = device.type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    evaluator = ModelEvaluator(model, torch.bfloat16 if is_gpu else torch.float32)
    player = SearchPlayer(evaluator, num_simulations, num_considered, 1.0, passes="sensible")
    numbers = torch.arange(4 * batch_size, device=device)
    size = evaluator.board_size
    loop = GameLoop(player, len(numbers), batch_size, board_size=size, device=device, rules=rules)
    loop.begin(numbers)
    for _ in range(_WARM_UP_PLIES):
        loop.play_ply()
    plies = 0

    def play(_: int) -> int:
        nonlocal plies
        if loop.is_done():
            loop.begin(numbers)
        before = int(loop.plies_played)
        loop.play_ply()
        plies += 1
        return int(loop.plies_played) - before

    runs = timing.repeat(play)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if is_gpu else None
    positions = copies(loop.engine, torch.arange(batch_size, device=device))
    ply_s = sum(run.seconds for run in runs) / plies
    net_s = _seconds_of(lambda: evaluator.evaluate(positions), timing)
    engine_s = _seconds_of(_engine_work(positions), timing)
    sizes = (size, num_simulations, batch_size)
    return SearchSpeed(name, *sizes, runs, ply_s, net_s, engine_s, peak)


def measure(rows: list[Callable[[], SearchSpeed]], device: torch.device) -> SearchReport:
    """Time every row."""
    return SearchReport(machine_name(device), tuple(row() for row in rows))


def _engine_work(positions: GPUGoEngine) -> Callable[[], object]:
    """What the engine does in a simulation: out of a node, a move, what follows, into a node."""
    games = torch.arange(positions.batch_size, device=positions.device)
    leaves = GPUGoEngine(positions.batch_size, *kind_of(positions))
    nodes = copies(positions, games)
    moves = torch.full_like(games, positions.vocabulary.pass_token)

    def work() -> None:
        copy_games(positions, games, games, leaves)
        leaves.play_batch(moves)
        sensible_moves(leaves)
        leaves.is_game_over()
        leaves.score()
        copy_games(leaves, games, games, nodes)

    return work


@torch.no_grad()
def _seconds_of(work: Callable[[], object], timing: Timing) -> float:
    """How long something takes, in a CUDA graph where there is CUDA; the median of the runs."""
    device = timing.device
    for _ in range(_WARM_UP_PLIES):
        work()
    replay = work
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        replay = graph.replay

    def once(_: int) -> int:
        for _ in range(10):
            replay()
        return 10

    short = timing._replace(seconds=timing.seconds / 5)
    return statistics.median(run.seconds / run.num_done for run in short.repeat(once))
