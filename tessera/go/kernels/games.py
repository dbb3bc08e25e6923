"""Launching the kernel that plays whole games."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.playout import play_games_kernel
from tessera.go.randomness import MOVE, seed_word
from tessera.go.record import Table
from tessera.go.rules import Rules
from tessera.go.zobrist import zobrist_keys

KO_CODES = {"simple": 0, "positional": 1, "situational": 2}
_ALWAYS = ("moves", "captures", "lengths", "results")
_OPTIONAL = ("log_probs", "entropies", "legal", "board", "landmarks", "settled")
_WARPS_PER_MULTIPROCESSOR = 32  # as many programs of one warp as a multiprocessor holds


def num_programs(num_games: int, device: torch.device) -> int:
    """How many programs play at once: what the device holds, and no more than there are games."""
    if device.type != "cuda":
        return 1
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return min(num_games, multiprocessors * _WARPS_PER_MULTIPROCESSOR)


def play_tables(
    player: str,
    numbers: Tensor,
    *,
    seed: int,
    board_size: int,
    rules: Rules,
    tables: Mapping[str, Table],
    skip_settled: bool = False,
) -> dict[str, Tensor]:
    """Play one game for each number; does not wait for the device.

    Args:
        player: "uniform" or "rules".
        numbers: (G,) int64 on the device that plays.
        seed: any whole number.
        board_size: n.
        rules: a Rules record.
        tables: what to write down, moves, captures, lengths and results in any case. Without
            log_probs and entropies no probability is computed.
        skip_settled: whether the players leave settled points alone.

    Returns:
        The tables by name, T = max_moves plies.
    """
    device, num_games = numbers.device, numbers.numel()
    max_moves = rules.move_limit(board_size)
    played = {
        name: table.new(num_games, max_moves, board_size, device) for name, table in tables.items()
    }
    assert set(played) <= {*_ALWAYS, *_OPTIONAL}, "the kernel knows no other table"
    # What is not written down may be any tensor.
    written = {name: numbers for name in _OPTIONAL} | played
    has_probabilities = not played.keys().isdisjoint(("log_probs", "entropies"))
    if has_probabilities:  # the kernel writes both of them
        for name in {"log_probs", "entropies"} - played.keys():
            written[name] = torch.empty(num_games, max_moves, device=device)
    programs = num_programs(num_games, device)
    has_superko = rules.ko != "simple"
    positions = torch.empty(
        programs if has_superko else 0, max_moves + 1, dtype=torch.int64, device=device
    )
    with current(device):
        play_games_kernel[(programs,)](
            numbers,
            torch.zeros(1, dtype=torch.int32, device=device),
            zobrist_keys(board_size**2, device),
            positions,
            written["moves"],
            written["captures"],
            written["log_probs"],
            written["entropies"],
            written["legal"],
            written["board"],
            written["landmarks"],
            written["settled"],
            written["lengths"],
            written["results"],
            seed_word(seed, MOVE),
            num_games,
            max_moves,
            float(rules.komi),
            SIZE=board_size,
            RULES_PLAYER=player == "rules",
            KO=KO_CODES[rules.ko],
            SUICIDE=rules.suicide,
            SINGLE=rules.capture == "single",
            PASS_ALIVE=rules.score == "pass_alive",
            SKIP_SETTLED=bool(skip_settled),
            WITH_PROBABILITIES=has_probabilities,
            WITH_LEGAL="legal" in tables,
            WITH_BOARD="board" in tables,
            WITH_LANDMARKS="landmarks" in tables,
            WITH_SETTLED="settled" in tables,
            num_warps=1,
            enable_fp_fusion=True,  # the default of every version, said aloud because 3.9 warns
        )
    return played
