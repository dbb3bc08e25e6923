"""What ``tessera bench engine`` measures, and how a person and a program read it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from tessera.commands.bench.engine_limit import LimitUnknownError, shares_of_limits
from tessera.commands.bench.engine_speed import (
    Costs,
    Speed,
    Timing,
    now,
    time_games,
    time_parts,
    time_playouts,
    time_plies,
    time_settled,
)
from tessera.commands.bench.report import Report, measured, say
from tessera.commands.bench.rivals import RIVALS
from tessera.commands.machine import machine_name
from tessera.go import PLAYERS, Rules, kept_tables
from tessera.go.backend import resolve_backend
from tessera.go.record import bytes_per_ply

_BATCH_ON_A_CPU = 4096
_PLY_BATCH_ON_A_GPU = 16_384
_POINTS_ON_A_GPU = 24_000_000  # of all boards of a batch of whole games; more is no faster


@dataclass(frozen=True, slots=True)
class Census:
    """All legal positions of a board, counted with the engine's own code."""

    board_size: int
    legal_positions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EngineReport(Report):
    """Everything one run of ``bench engine`` measured.

    Attributes:
        costs: where the time of a ply goes in plain torch; None where kernels play.
        limits: by player and then by unit, the share of its peak that the kernels use, 0 to 1.
        census: None where there are no kernels.
    """

    costs: Costs | None
    limits: dict[str, dict[str, float]]
    census: Census | None

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        said = super(EngineReport, self).lines()
        if self.costs is not None:
            costs = self.costs
            said += [
                f"What bounds it: a ply of {costs.batch_size:,} games takes {costs.ply_ms:.1f} ms:"
                f" legal mask {costs.mask_ms:.1f}, player's choice {costs.choice_ms:.1f}, play"
                f" {costs.play_ms:.1f} (means over the first {costs.plies} plies).",
                f"The same calls on one game take {costs.one_game_ms:.1f} ms,"
                f" {costs.one_game_ms / costs.ply_ms:.0%} of that;"
                " the rest is work that grows with the games.",
            ]
        for player, shares in self.limits.items():
            parts = ", ".join(f"{unit} {share:.0%}" for unit, share in shares.items())
            said.append(f"What bounds whole {player} games, of the chip's peak: {parts}.")
        if self.limits:
            said.append("(Hardware counters over one launch of the kernel, read by ncu.)")
        if self.census is not None:
            census = self.census
            said.append(
                f"Legal positions on {census.board_size}×{census.board_size}, counted one by one:"
                f" {census.legal_positions:,} in {census.seconds:.1f} s."
            )
        return said


def measure(board_sizes: Sequence[int], batch_size: int | None, timing: Timing) -> EngineReport:
    """Time Tessera on every board, then every rival that is installed.

    Args:
        board_sizes: at least one.
        batch_size: of all of Tessera's rows; None for one that suits the device and its memory.
        timing: where and how long.
    """
    in_kernels = resolve_backend("auto", timing.device) == "triton"
    rows: list[tuple[str, str, Callable[[], Speed]]] = []
    for size in board_sizes:
        for time_row, batch in _rows(size, batch_size, timing.device, in_kernels):
            said = f"{size}×{size}, {batch:,} games"
            rows.append((said, "Tessera", partial(time_row, size, batch, timing)))
        for name, time_rival in RIVALS.items():
            rows.append((f"{size}×{size}, {name}", name, partial(time_rival, size, timing)))
    speeds, missing = measured(rows)
    costs, limits, census = None, {}, None
    if in_kernels:
        say("the limits of the chip")
        try:
            limits = {player: shares_of_limits(player, board_sizes[0]) for player in PLAYERS}
        except LimitUnknownError as error:
            missing["share of the limits"] = str(error)
        say("the census")
        from tessera.go.kernels.census import MAX_CENSUS_SIZE, count_legal_positions

        began = now(timing.device)
        legal = count_legal_positions(MAX_CENSUS_SIZE, timing.device)
        census = Census(MAX_CENSUS_SIZE, legal, now(timing.device) - began)
    else:
        batch = batch_size or _BATCH_ON_A_CPU
        costs = time_parts(board_sizes[0], batch, timing.device, timing.seconds)
    return EngineReport(machine_name(timing.device), speeds, missing, costs, limits, census)


def _rows(
    size: int, batch_size: int | None, device: torch.device, in_kernels: bool
) -> list[tuple[Callable[[int, int, Timing], Speed], int]]:
    """What is timed of Tessera on one board, and with how many games."""
    whole = batch_size or whole_games_batch(size, device)
    plies = batch_size or (_PLY_BATCH_ON_A_GPU if device.type == "cuda" else _BATCH_ON_A_CPU)
    games = [(partial(time_games, player), whole) for player in PLAYERS]
    boards = batch_size or whole_games_batch(size, device, ["board"])
    games.append((partial(time_games, "rules", with_board=True), boards))
    games += [(partial(time_playouts, player), whole) for player in PLAYERS]
    if not in_kernels:
        return [*games, (time_plies, plies), (time_settled, plies)]
    tokens = partial(time_games, "uniform", only_tokens=True)
    in_graph = partial(time_plies, in_graph=True)
    return [(tokens, whole), *games, (time_plies, plies), (in_graph, plies), (time_settled, plies)]


def whole_games_batch(size: int, device: torch.device, needs: Collection[str] = ()) -> int:
    """Whole games at once that keep the device busy, and whose record half its memory holds.

    ``needs`` are the optional tables of the record.
    """
    if device.type != "cuda":
        return _BATCH_ON_A_CPU
    free, _ = torch.cuda.mem_get_info(device)
    per_ply = bytes_per_ply(kept_tables(needs), size)
    fitting = free // 2 // (per_ply * Rules().move_limit(size))
    games = max(1, min(_POINTS_ON_A_GPU // size**2, fitting))
    return 2 ** (games.bit_length() - 1)
