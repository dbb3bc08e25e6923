"""Launching the kernel that plays whole games."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.playout import play_games_kernel
from tessera.go.randomness import MOVE, seed_word
from tessera.go.rules import Rules
from tessera.go.zobrist import zobrist_keys
from tessera.vocabulary import Vocabulary

KO_CODES = {"simple": 0, "positional": 1, "situational": 2}
_WARPS_PER_MULTIPROCESSOR = 32  # as many programs of one warp as a multiprocessor holds


@dataclass(frozen=True, slots=True)
class Tables:
    """What the kernel wrote; G games, T = max_moves plies, n rows. As in ``GameRecord``."""

    moves: Tensor
    captures: Tensor
    log_probs: Tensor
    entropies: Tensor
    legal: Tensor | None
    lengths: Tensor
    results: Tensor


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
    with_legal: bool = False,
    with_probabilities: bool = True,
) -> Tables:
    """Play one game for each number; does not wait for the device.

    Args:
        player: "uniform" or "rules".
        numbers: (G,) int64 on the device that plays.
        seed: any whole number.
        board_size: n.
        rules: a Rules record.
        with_legal: whether to record the legal points before each ply.
        with_probabilities: whether to record log-probabilities and entropies; without it their
            tables are empty, (0,).
    """
    device, num_games = numbers.device, numbers.numel()
    max_moves = rules.move_limit(board_size)

    def table(dtype: torch.dtype, wanted: bool = True, rows: int = 1, fill: int = 0) -> Tensor:
        shape = (num_games, max_moves) if rows == 1 else (num_games, max_moves, rows)
        return torch.full(shape if wanted else (0,), fill, dtype=dtype, device=device)

    tables = Tables(
        moves=table(torch.int16, fill=Vocabulary(board_size).pad_token),
        captures=table(torch.int16),
        log_probs=table(torch.float32, with_probabilities),
        entropies=table(torch.float32, with_probabilities),
        legal=table(torch.int32, rows=board_size) if with_legal else None,
        lengths=torch.empty(num_games, dtype=torch.int32, device=device),
        results=torch.empty(num_games, dtype=torch.float32, device=device),
    )
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
            tables.moves,
            tables.captures,
            tables.log_probs,
            tables.entropies,
            tables.lengths if tables.legal is None else tables.legal,
            tables.lengths,
            tables.results,
            seed_word(seed, MOVE),
            num_games,
            max_moves,
            float(rules.komi),
            SIZE=board_size,
            RULES_PLAYER=player == "rules",
            KO=KO_CODES[rules.ko],
            SUICIDE=rules.suicide,
            SINGLE=rules.capture == "single",
            WITH_PROBABILITIES=with_probabilities,
            WITH_LEGAL=with_legal,
            num_warps=1,
            enable_fp_fusion=True,  # the default of every version, said aloud because 3.9 warns
        )
    return tables
