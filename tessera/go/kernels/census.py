"""Counting all legal positions of a small board with the engine's own sets and floods.

Many small boards lie side by side in the lanes and columns of one warp, with an empty line between
them that no flood crosses. They share all rows but the last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.board import LANES, flood, neighbours, popcount

MAX_CENSUS_SIZE = 5


@triton.jit
def census_kernel(
    states,
    last_rows,
    counts,
    SIZE: tl.constexpr,
    ACROSS: tl.constexpr,
    NUM_STATES: tl.constexpr,
    NUM_LAST: tl.constexpr,
    PROGRAM_ROWS: tl.constexpr,
    LOOPS: tl.constexpr,
):
    """Count the legal positions whose first rows are those of this program.

    Args:
        states: (2, NUM_STATES) int32, black and white stones of each state of a row, repeated
            ACROSS times.
        last_rows: (NUM_LAST, 3, 32) int32: for every step through the states of the last row the
            black and white stones in the lanes that hold last rows, and in the lanes that hold
            first rows a bit above each board that counts.
        counts: (programs,) int64, written.
        PROGRAM_ROWS: how many first rows differ from program to program.
        LOOPS: number of states of the rows between those and the last.
    """
    lane = tl.arange(0, LANES)
    row = lane % (SIZE + 1)
    on_board = (row < SIZE) & (lane < LANES // (SIZE + 1) * (SIZE + 1))
    # One board, then repeated: all columns, and the bit above them, which is in the gap.
    unit = 0
    for board in tl.static_range(ACROSS):
        unit += 1 << (board * (SIZE + 1))
    every = tl.where(on_board, unit * ((1 << SIZE) - 1), 0)
    above = unit * (1 << SIZE)
    total = tl.zeros([LANES], tl.int32)
    loop = 0
    while loop < LOOPS:
        code = loop
        black_rows = tl.zeros([LANES], tl.int32)
        white_rows = tl.zeros([LANES], tl.int32)
        for line in tl.static_range(SIZE - 1):
            if line == SIZE - 1 - PROGRAM_ROWS:
                code = tl.program_id(0)
            state = code % NUM_STATES
            code = code // NUM_STATES
            here = on_board & (row == SIZE - 2 - line)
            black_rows = tl.where(here, tl.load(states + state), black_rows)
            white_rows = tl.where(here, tl.load(states + NUM_STATES + state), white_rows)
        step = 0
        while step < NUM_LAST:
            table = last_rows + step * 3 * LANES + lane
            black = black_rows | tl.load(table)
            white = white_rows | tl.load(table + LANES)
            empty = every & ~(black | white)
            beside = neighbours(empty)
            dead = (black & ~flood(beside, black)) | (white & ~flood(beside, white))
            # A bit above every board that holds a dead stone, gathered in the board's first row.
            found = (dead + unit * ((1 << SIZE) - 1)) & above
            found = found | tl.gather(found, (lane + 1) & 31, 0)
            if SIZE > 2:
                found = found | tl.gather(found, (lane + 2) & 31, 0)
            if SIZE > 4:
                found = found | tl.gather(found, (lane + 1) & 31, 0)
            total += popcount(tl.load(table + 2 * LANES) & ~found)
            step += 1
        loop += 1
    tl.store(counts + tl.program_id(0), tl.sum(total.to(tl.int64), 0))


def count_legal_positions(board_size: int, device: str | torch.device = "cuda") -> int:
    """How many positions of the board have no chain without a liberty.

    Args:
        board_size: n, 2 to 5.
        device: a CUDA device.

    Raises:
        ValueError: for another board size.
    """
    if not 2 <= board_size <= MAX_CENSUS_SIZE:
        raise ValueError(f"board_size must be 2 to {MAX_CENSUS_SIZE}, got {board_size}.")
    num_states = 3**board_size
    across = 31 // (board_size + 1)
    states, last_rows = _tables(board_size, across)
    program_rows = board_size // 2
    programs = num_states**program_rows
    counts = torch.zeros(programs, dtype=torch.int64, device=device)
    with current(counts.device):
        census_kernel[(programs,)](
            states.to(device),
            last_rows.to(device),
            counts,
            SIZE=board_size,
            ACROSS=across,
            NUM_STATES=num_states,
            NUM_LAST=last_rows.shape[0],
            PROGRAM_ROWS=program_rows,
            LOOPS=num_states ** (board_size - 1 - program_rows),
            num_warps=1,
            enable_fp_fusion=True,
        )
    return int(counts.sum())


def _tables(size: int, across: int) -> tuple[Tensor, Tensor]:
    """The kernel's ``states`` and ``last_rows``."""
    stride = size + 1
    down, num_states = 32 // stride, 3**size
    stones = [[0] * num_states, [0] * num_states]
    for state in range(num_states):
        for column in range(size):
            point = state // 3**column % 3
            if point:
                stones[point - 1][state] |= 1 << column
    unit = sum(1 << board * stride for board in range(across))
    steps = -(-num_states // (across * down))
    last_rows = torch.zeros(steps, 3, 32, dtype=torch.int32)
    for state in range(num_states):
        step, place = divmod(state, across * down)
        lane, shift = place // across * stride, place % across * stride
        for colour in (0, 1):
            last_rows[step, colour, lane + size - 1] += stones[colour][state] << shift
        last_rows[step, 2, lane] += 1 << (shift + size)
    return torch.tensor(stones, dtype=torch.int32) * unit, last_rows
