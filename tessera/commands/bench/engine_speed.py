"""How fast the engine plays, by the clock: whole games with their records, and ply by ply.

Every figure is counted plies over measured seconds; nothing is extrapolated.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules, get_player, play_games, play_out
from tessera.go.bitboard import pack
from tessera.go.randomness import MOVE, random_words
from tessera.go.record import TABLES
from tessera.go.settled import settled_rows

_WARM_UP_GAMES = 8
_PLIES_IN_A_GRAPH = 25
_GAMES_OF_A_POSITION = 1024
_STOPS = 10  # plies of a game at which its settled points are found


class Run(NamedTuple):
    """What was done again and again, counted, and how long that took, warm-up excluded.

    Of games plies are counted, of training tokens, of settled points positions.
    """

    num_done: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Speed:
    """One measured row.

    Attributes:
        name: who played.
        what: what was timed.
        board_size: n.
        batch_size: games at once.
        runs: the same thing timed again and again, at least once.
        bytes_per_game: memory that a game holds while it is played; None where that has no meaning.
        group: rows of the same group may be compared.
    """

    name: str
    what: str
    board_size: int
    batch_size: int
    runs: tuple[Run, ...]
    bytes_per_game: float | None = None
    group: str = "play"

    @property
    def plies_per_s(self) -> float:
        """Plies played in a second, all games together; the median of the runs."""
        return statistics.median(run.num_done / run.seconds for run in self.runs)

    @property
    def spread(self) -> str:
        """The slowest and the fastest run, plies a second, in words."""
        rates = [run.num_done / run.seconds for run in self.runs]
        return f"{min(rates):,.0f} to {max(rates):,.0f}" if len(rates) > 1 else "one run"


class Timing(NamedTuple):
    """How long to measure: ``runs`` times, each for its share of ``seconds`` at least."""

    device: torch.device
    seconds: float
    runs: int

    def repeat(self, work: Callable[[int], int]) -> tuple[Run, ...]:
        """The runs of ``work``, which is given the number of its call and returns how much it did.

        It is called at least once in a run, however long that takes, and never stopped half way.
        """
        measured, call = [], 0
        for _ in range(self.runs):
            num_done, first, began = 0, call, now(self.device)
            while call == first or now(self.device) - began < self.seconds / self.runs:
                num_done += work(call)
                call += 1
            measured.append(Run(num_done, now(self.device) - began))
        return tuple(measured)


@dataclass(frozen=True, slots=True)
class Costs:
    """Where the time of a ply of uniform games goes, over the first plies of a batch.

    Attributes:
        batch_size: games at once.
        plies: plies a game over which the times are means.
        mask_ms: the legal points of all games.
        choice_ms: the player's distribution and the draw.
        play_ms: playing the moves.
        one_game_ms: all three for a batch of one game, the cost of the calls themselves.
    """

    batch_size: int
    plies: int
    mask_ms: float
    choice_ms: float
    play_ms: float
    one_game_ms: float

    @property
    def ply_ms(self) -> float:
        """All three together."""
        return self.mask_ms + self.choice_ms + self.play_ms


def time_games(
    player: str,
    board_size: int,
    batch_size: int,
    timing: Timing,
    only_tokens: bool = False,
    with_board: bool = False,
) -> Speed:
    """Play batches of whole games with their records.

    ``only_tokens`` plays them in kernels and keeps moves, captures and results only;
    ``with_board`` keeps what a model is told of every position as well.
    """
    device = timing.device
    kept = {name: TABLES[name] for name in ("moves", "captures", "lengths", "results")}

    def play(first: int, games: int = batch_size) -> int:
        if only_tokens:
            from tessera.go.kernels.games import play_tables

            numbers = torch.arange(first, first + games, device=device)
            played = play_tables(
                player, numbers, seed=0, board_size=board_size, rules=Rules(), tables=kept
            )
            return int(played["lengths"].sum())
        record = play_games(
            player,
            range(first, first + games),
            seed=0,
            board_size=board_size,
            device=device,
            needs=["board"] if with_board else [],
            trim=False,
        )
        return int(record.lengths.sum())

    play(0, _WARM_UP_GAMES)
    kind = "rule-based" if player == "rules" else player
    kept_too = "log-probabilities and boards" if with_board else "log-probabilities"
    what = f"{kind} games, tokens" if only_tokens else f"{kind} games with {kept_too}"
    runs = timing.repeat(lambda call: play(call * batch_size))
    return Speed("Tessera", what, board_size, batch_size, runs)


def time_plies(board_size: int, batch_size: int, timing: Timing, in_graph: bool = False) -> Speed:
    """Make the dense legal mask, then play a move from outside, ply by ply through whole games.

    The moves are those of uniform games that were played before; plies beyond the mean length of
    the games are left out, where few games would go on. ``in_graph`` captures some plies at a time
    in a CUDA graph.
    """
    record = play_games(
        "uniform", range(batch_size), seed=0, board_size=board_size, device=timing.device
    )
    mean = int(record.lengths.float().mean())
    plies = max(1, mean // _PLIES_IN_A_GRAPH) * _PLIES_IN_A_GRAPH if in_graph else mean
    width = max(plies, record.moves.shape[1])
    moves = record.moves.new_zeros(width, batch_size).long()
    moves[: record.moves.shape[1]] = record.moves.t()
    # A finished game ignores its move.
    moves.clamp_(max=board_size**2)
    engine = GPUGoEngine(batch_size, timing.device, board_size)

    def play_ply(move: Tensor) -> None:
        engine.get_legal_mask()
        engine.play_batch(move)

    play_ply(moves[0])
    engine.reset()
    if in_graph:
        part = moves[:_PLIES_IN_A_GRAPH].clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for move in part.unbind():
                play_ply(move)

    def play(_: int) -> int:
        engine.reset()
        if in_graph:
            for some in moves[:plies].split(_PLIES_IN_A_GRAPH):
                part.copy_(some)
                graph.replay()
        else:
            for move in moves[:plies].unbind():
                play_ply(move)
        return int(engine.move_number.sum())

    runs = timing.repeat(play)
    what = "mask and given move" + (", CUDA graph" if in_graph else "")
    return Speed("Tessera", what, board_size, batch_size, runs, engine.num_bytes() / batch_size)


def time_playouts(player: str, board_size: int, batch_size: int, timing: Timing) -> Speed:
    """Play games to their ends from positions half way through the player's games.

    What is counted are the plies after these positions. The games of a call are shared out among
    so many positions that each gets ``_GAMES_OF_A_POSITION``, or to one that gets all.
    """
    device, positions = timing.device, max(1, batch_size // _GAMES_OF_A_POSITION)
    num_games = batch_size // positions
    record = play_games(player, range(positions), seed=0, board_size=board_size, device=device)
    engine = GPUGoEngine(positions, device, board_size)
    for moves in record.moves[:, : int(record.lengths.float().mean()) // 2].long().t():
        engine.play_batch(moves)

    def play(seed: int, games: int = num_games) -> int:
        return int(play_out(engine, games, player=player, seed=seed).plies.sum())

    for seed in (0, 1):  # whose words are 32 and 64 bits, for which Triton compiles
        play(seed, 1)
    kind = "rule-based" if player == "rules" else player
    what, games = f"{kind} playouts from positions", positions * num_games
    return Speed("Tessera", what, board_size, games, timing.repeat(play), group="playouts")


def time_settled(board_size: int, batch_size: int, timing: Timing) -> Speed:
    """Find the settled points of positions from all stages of uniform games, none with suicide.

    The games are those of ``time_plies``, stopped at plies evenly apart up to their mean length.
    What is counted are positions.
    """
    device = timing.device
    record = play_games("uniform", range(batch_size), seed=0, board_size=board_size, device=device)
    mean = int(record.lengths.float().mean())
    stops = {max(1, mean * stop // _STOPS) for stop in range(1, _STOPS + 1)}
    engine = GPUGoEngine(batch_size, device, board_size)
    positions = []
    for ply, moves in enumerate(record.moves.long().t(), 1):
        engine.play_batch(moves)
        if ply in stops:
            planes = engine.boards
            positions.append((pack(planes[:, 0]), pack(planes[:, 1])))

    def find(_: int) -> int:
        for black, white in positions:
            settled_rows(black, white, suicide=False, backend=engine.backend)
        return len(positions) * batch_size

    settled_rows(*positions[-1], suicide=False, backend=engine.backend)
    runs = timing.repeat(find)
    return Speed(
        "Tessera", "settled points, positions/s", board_size, batch_size, runs, group="settled"
    )


def time_parts(board_size: int, batch_size: int, device: torch.device, seconds: float) -> Costs:
    """Time the three parts of a ply one by one, at this batch size and for one game."""
    plies, parts = _time_parts(board_size, batch_size, device, seconds)
    _, alone = _time_parts(board_size, 1, device, seconds)
    mask_ms, choice_ms, play_ms = parts
    return Costs(batch_size, plies, mask_ms, choice_ms, play_ms, sum(alone))


def _time_parts(
    board_size: int, batch_size: int, device: torch.device, seconds: float
) -> tuple[int, list[float]]:
    """Plies played, and the mean milliseconds a ply of mask, choice and play."""
    engine = GPUGoEngine(batch_size, device, board_size)
    player, numbers = get_player("uniform"), torch.arange(batch_size, device=device)
    totals, plies, began = [0.0, 0.0, 0.0], 0, now(device)
    while plies == 0 or (plies < board_size**2 and now(device) - began < seconds):
        times = [now(device)]
        engine.legal_rows()
        times.append(now(device))
        choice = player.choose(engine, random_words(0, numbers, plies, MOVE))
        times.append(now(device))
        engine.play_batch(choice.moves)
        times.append(now(device))
        totals = [sum_ + times[i + 1] - times[i] for i, sum_ in enumerate(totals)]
        plies += 1
    return plies, [1000 * total / plies for total in totals]


def now(device: torch.device) -> float:
    """The clock in seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
