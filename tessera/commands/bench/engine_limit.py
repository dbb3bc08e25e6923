"""How near the kernel that plays whole games comes to the limits of the chip.

The limits are the chip's own: what its busiest units could have issued in the cycles that passed,
read from the hardware's counters by NVIDIA's ``ncu`` over one launch of the kernel.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys

import torch

# Counters, each as a share of its peak, and their names for a person.
COUNTERS = {
    "sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active": "integer units",
    "sm__inst_issued.avg.pct_of_peak_sustained_active": "instruction issue",
    "lts__t_sectors.avg.pct_of_peak_sustained_elapsed": "L2 cache",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory",
}
_TIMEOUT_S = 180


class LimitUnknownError(Exception):
    """The counters could not be read; the message says why."""


def shares_of_limits(player: str, board_size: int) -> dict[str, float]:
    """How much of each limit the kernel uses while it plays games of this player, 0 to 1.

    Raises:
        LimitUnknownError: if ncu is not installed, or may not read the counters.
    """
    program = shutil.which("ncu")
    if program is None:
        raise LimitUnknownError("ncu, of NVIDIA's CUDA toolkit, is not installed")
    kernel = ["-k", "regex:play_games", "--launch-skip", "1", "--launch-count", "1"]
    command = [program, *kernel, "--csv", "--metrics", ",".join(COUNTERS)]
    command += [sys.executable, "-m", __name__, player, str(board_size)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LimitUnknownError(f"ncu took more than {_TIMEOUT_S} s") from error
    shares = read_counters(done.stdout)
    if not shares:
        lines = (done.stdout + done.stderr).splitlines()
        said = [line for line in lines if "ERR" in line] or lines[-1:] or ["nothing"]
        raise LimitUnknownError(f"ncu read no counters: {said[0].strip()}")
    return shares


def read_counters(output: str) -> dict[str, float]:
    """The shares in what ``ncu --csv`` printed, by the names of COUNTERS; absent if not there."""
    lines = output.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith('"ID"')]
    if not starts:
        return {}
    return {
        COUNTERS[row["Metric Name"]]: float(value) / 100
        for row in csv.DictReader(lines[starts[0] :])
        if row.get("Metric Name") in COUNTERS
        and (value := row["Metric Value"].replace(",", "")).replace(".", "").isdigit()
    }


def main(player: str, board_size: int) -> None:
    """Launch the kernel twice, with two games for every place in which one is played."""
    from tessera.go.kernels.games import num_programs, play_tables
    from tessera.go.record import kept_tables
    from tessera.go.rules import resolve_rules

    device = torch.device("cuda")
    games = 2 * num_programs(2**20, device)
    for _ in range(2):
        play_tables(
            player,
            torch.arange(games, device=device),
            seed=1,
            board_size=board_size,
            rules=resolve_rules("full"),
            tables=kept_tables(),
        )
    torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
