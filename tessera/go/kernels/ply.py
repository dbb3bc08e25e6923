"""One ply of many games whose moves come from outside, one warp a game; beside ``engine``.

Shapes: B games, n rows, P = n² points. Every kernel works on the engine's own tensors in place,
asks the host nothing and allocates nothing, so all of them may be captured in a CUDA graph. Sets of
points are (B, n) here, so that a board is read in one piece.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import (
    LANES,
    no_suicide,
    place,
    popcount,
    row_above,
    row_below,
    rows_of_board,
)
from tessera.go.kernels.scoring import area_difference
from tessera.go.kernels.superko import stone_repeats, suicide_repeats, zobrist_sum


@triton.jit
def load_rows(rows, game, SIZE: tl.constexpr):
    """One game's set out of (B, n)."""
    lane = tl.arange(0, LANES)
    return tl.load(rows + game * SIZE + lane, mask=lane < SIZE, other=0)


@triton.jit
def _store_rows(rows, game, points, SIZE: tl.constexpr):
    lane = tl.arange(0, LANES)
    tl.store(rows + game * SIZE + lane, points, mask=lane < SIZE)


@triton.jit
def bits_at(points, tokens, SIZE: tl.constexpr):
    """1 where the token's point is in the set, else 0; tokens beyond the board give 0."""
    row = tokens // SIZE
    return (tl.gather(points, row, 0) >> (tokens - row * SIZE)) & 1


@triton.jit
def play_kernel(
    moves,
    own_rows,
    opponent_rows,
    atari_rows,
    turns,
    move_numbers,
    passes,
    last_captures,
    taken_sides,
    captured,
    history,
    ko_points,
    own_lost_rows,
    opponent_lost_rows,
    own_exposed_flags,
    opponent_exposed_flags,
    hashes,
    positions,
    filters,
    keys,
    max_moves,
    SIZE: tl.constexpr,
    KO: tl.constexpr,
    SINGLE: tl.constexpr,
):
    """Play one move in every game that is not over, in place; see ``GPUGoEngine.play_batch``.

    Args:
        moves: (B,) int64, any values.
        own_rows, opponent_rows, atari_rows: (B, n) int32, the positions.
        turns, move_numbers, passes, last_captures: (B,) int64.
        taken_sides: (B,) uint8.
        captured: (B, 2) int64.
        history: (B, max_moves) int16.
        ko_points: (B,) int64, -1 for none; read and written under simple ko only. What follows is
            read and written under superko only.
        own_lost_rows, opponent_lost_rows: (B, n) int32.
        own_exposed_flags, opponent_exposed_flags: (B,) uint8.
        hashes: (B,) int64.
        positions: (B, max_moves + 1) int64.
        filters: (B, 128) int32.
        keys: (2, P + 1) int64.
        max_moves: plies of the longest game.
    """
    NUM_POINTS: tl.constexpr = SIZE * SIZE
    lane = tl.arange(0, LANES)
    game = tl.program_id(0).to(tl.int64)
    # Compared before it is shortened: 2^32 is no point.
    move = tl.load(moves + game)
    move = tl.where((move >= 0) & (move <= NUM_POINTS), move, NUM_POINTS + 1).to(tl.int32)
    turn = tl.load(turns + game).to(tl.int32)
    ply = tl.load(move_numbers + game).to(tl.int32)
    passed = tl.load(passes + game).to(tl.int32)
    num_removed = tl.zeros([], tl.int32)
    sides = tl.zeros([], tl.int32)
    if (passed < 2) & (ply < max_moves):
        own = load_rows(own_rows, game, SIZE)
        opponent = load_rows(opponent_rows, game, SIZE)
        atari = load_rows(atari_rows, game, SIZE)
        own_lost = tl.zeros([LANES], tl.int32)
        opponent_lost = tl.zeros([LANES], tl.int32)
        if KO != 0:
            own_lost = load_rows(own_lost_rows, game, SIZE)
            opponent_lost = load_rows(opponent_lost_rows, game, SIZE)
        row = move // SIZE
        stone = tl.where((lane == row) & (move < NUM_POINTS), 1 << (move - row * SIZE), 0)
        # Whatever the rules, what a move leaves without liberties comes off.
        (
            own, opponent, atari, taken, suicides, num_taken, num_suicides,
            token, placed, was_lost, is_ko,
        ) = place(
            own, opponent, atari, stone & ~(own | opponent), own_lost, SIZE, True, SINGLE
        )  # fmt: skip
        num_removed = num_taken + num_suicides
        if num_taken != 0:
            sides = (((stone << 1) & taken) != 0).to(tl.int32)
            sides |= (((stone >> 1) & taken) != 0).to(tl.int32) << 1
            sides |= ((row_below(stone) & taken) != 0).to(tl.int32) << 2
            sides |= ((row_above(stone) & taken) != 0).to(tl.int32) << 3
            sides = tl.sum(sides, 0)

        if (placed != 0) | (move == NUM_POINTS):
            if KO == 0:
                ko_point = tl.full([], -1, tl.int32)
                if (is_ko != 0) & (num_taken == 1):
                    taken_tokens = tl.where(taken != 0, lane * SIZE + popcount(taken - 1), 0)
                    ko_point = tl.sum(taken_tokens, 0)
                tl.store(ko_points + game, ko_point.to(tl.int64))
            else:
                own_keys = keys + turn * (NUM_POINTS + 1)
                opponent_keys = keys + (1 - turn) * (NUM_POINTS + 1)
                own_exposed = tl.load(own_exposed_flags + game).to(tl.int32)
                opponent_exposed = tl.load(opponent_exposed_flags + game).to(tl.int32)
                position = tl.load(hashes + game)
                # A stone on a point that has lost none stands in no earlier position.
                own_exposed = own_exposed & (1 - (placed & (1 - was_lost)))
                if placed != 0:
                    position += tl.load(own_keys + token)
                if num_taken != 0:
                    position -= zobrist_sum(taken, opponent_keys, SIZE)
                    opponent_lost = opponent_lost | taken
                    opponent_exposed = opponent_exposed | 1
                if num_suicides != 0:
                    position -= zobrist_sum(suicides, own_keys, SIZE)
                    own_lost = own_lost | suicides
                    own_exposed = own_exposed | 1
                word = position
                if KO == 2:
                    word += tl.load(keys + NUM_POINTS) * (1 - turn)
                tl.store(hashes + game, position)
                tl.store(positions + game * (max_moves + 1) + ply + 1, word)
                at = word.to(tl.int32) & 4095
                slot = filters + game * 128 + (at & 127)
                tl.store(slot, tl.load(slot) | (1 << (at >> 7)))
                _store_rows(own_lost_rows, game, opponent_lost, SIZE)
                _store_rows(opponent_lost_rows, game, own_lost, SIZE)
                tl.store(own_exposed_flags + game, opponent_exposed.to(tl.uint8))
                tl.store(opponent_exposed_flags + game, own_exposed.to(tl.uint8))

            _store_rows(own_rows, game, opponent, SIZE)
            _store_rows(opponent_rows, game, own, SIZE)
            _store_rows(atari_rows, game, atari, SIZE)
            tl.store(history + game * max_moves + ply, move.to(tl.int16))
            tl.store(move_numbers + game, (ply + 1).to(tl.int64))
            tl.store(passes + game, ((passed + 1) * (1 - placed)).to(tl.int64))
            tl.store(turns + game, (1 - turn).to(tl.int64))
            tl.store(taken_sides + game, sides.to(tl.uint8))
            if num_removed != 0:
                by_mover = captured + game * 2 + turn
                by_other = captured + game * 2 + 1 - turn
                tl.store(by_mover, tl.load(by_mover) + num_taken)
                tl.store(by_other, tl.load(by_other) + num_suicides)
    tl.store(last_captures + game, num_removed.to(tl.int64))


@triton.jit
def legal_kernel(
    own_rows,
    opponent_rows,
    atari_rows,
    turns,
    move_numbers,
    ko_points,
    own_lost_rows,
    own_exposed_flags,
    hashes,
    positions,
    filters,
    keys,
    rows,
    mask,
    max_moves,
    SIZE: tl.constexpr,
    KO: tl.constexpr,
    SUICIDE: tl.constexpr,
    SINGLE: tl.constexpr,
    AS_MASK: tl.constexpr,
):
    """Write the legal moves of every game; see ``GPUGoEngine.get_legal_mask``.

    Args:
        rows: (B, n) int32, written unless AS_MASK.
        mask: (B, P + 1) uint8, written AS_MASK.
    """
    NUM_POINTS: tl.constexpr = SIZE * SIZE
    lane = tl.arange(0, LANES)
    game = tl.program_id(0).to(tl.int64)
    own = load_rows(own_rows, game, SIZE)
    opponent = load_rows(opponent_rows, game, SIZE)
    atari = load_rows(atari_rows, game, SIZE)
    safe = no_suicide(own, opponent, atari, SIZE, SINGLE)
    allowed = safe
    if SUICIDE:
        allowed = rows_of_board(SIZE) & ~(own | opponent)
    if KO == 0:
        ko_point = tl.load(ko_points + game).to(tl.int32)
        row = tl.where(ko_point < 0, LANES, ko_point // SIZE)
        allowed = allowed & ~tl.where(lane == row, 1 << (ko_point - row * SIZE), 0)
    else:
        suspects = tl.zeros([LANES], tl.int32)
        if tl.load(own_exposed_flags + game) != 0:
            suspects = safe & load_rows(own_lost_rows, game, SIZE)
        look = suspects
        if SUICIDE:
            look = look | (allowed & ~safe)
        if tl.max(look, 0) != 0:
            turn = tl.load(turns + game).to(tl.int32)
            num_positions = tl.load(move_numbers + game).to(tl.int32) + 1
            own_keys = keys + turn * (NUM_POINTS + 1)
            opponent_keys = keys + (1 - turn) * (NUM_POINTS + 1)
            now = tl.load(hashes + game)
            if KO == 2:
                now += tl.load(keys + NUM_POINTS) * (1 - turn)
            words = filters + game * 128 + lane
            f0 = tl.load(words)
            f1 = tl.load(words + 32)
            f2 = tl.load(words + 64)
            f3 = tl.load(words + 96)
            earlier = positions + game * (max_moves + 1)
            allowed = allowed & ~stone_repeats(
                own, opponent, atari, suspects, now, own_keys, opponent_keys,
                earlier, num_positions, f0, f1, f2, f3, SIZE,
            )  # fmt: skip
            if SUICIDE:
                allowed = allowed & ~suicide_repeats(
                    own, allowed & ~safe, now, own_keys, earlier, num_positions,
                    f0, f1, f2, f3, SIZE,
                )  # fmt: skip
    if AS_MASK:
        for start in tl.static_range(0, NUM_POINTS + 1, LANES):
            token = start + lane
            bit = tl.where(token == NUM_POINTS, 1, bits_at(allowed, token, SIZE))
            tl.store(
                mask + game * (NUM_POINTS + 1) + token, bit.to(tl.uint8), mask=token <= NUM_POINTS
            )
    else:
        _store_rows(rows, game, allowed, SIZE)


@triton.jit
def score_kernel(
    own_rows,
    opponent_rows,
    turns,
    scores,
    owners,
    komi,
    SIZE: tl.constexpr,
    PASS_ALIVE: tl.constexpr,
    SUICIDE: tl.constexpr,
    AS_OWNERSHIP: tl.constexpr,
):
    """Write the area score, or who owns each point; see ``GPUGoEngine.score``, ``.ownership``.

    Args:
        scores: (B,) float32, written unless AS_OWNERSHIP.
        owners: (B, n, n) int64, written AS_OWNERSHIP.
    """
    NUM_POINTS: tl.constexpr = SIZE * SIZE
    game = tl.program_id(0).to(tl.int64)
    own = load_rows(own_rows, game, SIZE)
    opponent = load_rows(opponent_rows, game, SIZE)
    black_moves = tl.load(turns + game) == 0
    black = tl.where(black_moves, own, opponent)
    white = tl.where(black_moves, opponent, own)
    area, black_area, white_area = area_difference(black, white, SIZE, PASS_ALIVE, SUICIDE)
    if AS_OWNERSHIP:
        for start in tl.static_range(0, NUM_POINTS, LANES):
            token = start + tl.arange(0, LANES)
            owner = bits_at(black_area, token, SIZE) - bits_at(white_area, token, SIZE)
            at = owners + game * NUM_POINTS + token
            tl.store(at, owner.to(tl.int64), mask=token < NUM_POINTS)
    else:
        tl.store(scores + game, area.to(tl.float32) - komi)
