"""Whole games from given positions in one kernel, one warp a game; Triton beside ``playouts``.

Each program takes up game after game until none is left. It begins with a copy of the engine's
superko history, so that the engine stays as it is, and adds what came out to the position's counts.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import LANES, no_suicide, place, rows_of_board, true_eyes
from tessera.go.kernels.players import choose_rules, choose_uniform, game_word, ply_words
from tessera.go.kernels.ply import bits_at, load_rows
from tessera.go.kernels.scoring import area_difference
from tessera.go.kernels.superko import filter_add, stone_repeats, suicide_repeats, zobrist_sum

_CHUNK = tl.constexpr(128)  # words of the history that are copied at once
# With more a multiprocessor would not hold 32 programs; left alone the assembler takes 96.
REGISTERS = 64


@triton.jit
def _point(token, SIZE: tl.constexpr):
    """The point of a token, a scalar, as a set; the empty set for what is no point."""
    row = token // SIZE
    is_there = (tl.arange(0, LANES) == row) & (token >= 0) & (token < SIZE * SIZE)
    return tl.where(is_there, 1 << (token - row * SIZE), 0)


@triton.jit
def _add(counts, at, value):
    tl.atomic_add(counts + at, value.to(tl.int64), sem="relaxed")


@triton.jit(
    do_not_specialize=["seeded", "streamed", "first", "num_games", "num_each", "max_moves"],
)
def playouts_kernel(
    own_rows,
    opponent_rows,
    atari_rows,
    turns,
    move_numbers,
    passes,
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
    numbers,
    next_game,
    copies,
    plies,
    wins,
    draws,
    areas,
    area_squares,
    owners,
    first_moves,
    first_areas,
    seeded,
    streamed,
    first,
    num_games,
    num_each,
    max_moves,
    komi,
    SIZE: tl.constexpr,
    RULES_PLAYER: tl.constexpr,
    KO: tl.constexpr,
    SUICIDE: tl.constexpr,
    SINGLE: tl.constexpr,
    PASS_ALIVE: tl.constexpr,
):
    """Play games from the engine's positions to their ends and count; see ``play_out``.

    Args:
        own_rows, …, ko_points: the engine's games, as in ``play_kernel``; none is written.
        own_lost_rows, …, filters: what superko remembers of them, read under superko only.
        keys: (2, P + 1) int64.
        numbers: (B,) int64, the positions' numbers.
        next_game: one int32, 0: how many games have been taken up.
        copies: (programs, max_moves + 1) int64, room for the positions of each program's game.
        plies, wins, draws, areas, area_squares: (B,) int64, added to.
        owners: (B, P) int64, added to.
        first_moves, first_areas: (B, P + 1) int64, added to.
        seeded: the seed's first mix for the hash of playouts, as a signed 64-bit integer.
        streamed: the same for the draws of moves.
        first: k of each position's first game.
        num_games: of all positions together, the product of B and ``num_each``.
        num_each: games of each position.
        max_moves: plies of the longest game.
        komi: points for white.
        KO: 0 simple, 1 positional, 2 situational.
    """
    lane = tl.arange(0, LANES)
    NUM_POINTS: tl.constexpr = SIZE * SIZE
    copies += tl.program_id(0).to(tl.int64) * (max_moves + 1)
    game = tl.atomic_add(next_game, 1)
    while game < num_games:
        origin = (game // num_each).to(tl.int64)
        k = first.to(tl.int64) + game % num_each
        playout = ply_words(game_word(seeded, tl.load(numbers + origin)), k)
        stream = game_word(streamed, playout)
        own = load_rows(own_rows, origin, SIZE)
        opponent = load_rows(opponent_rows, origin, SIZE)
        atari = load_rows(atari_rows, origin, SIZE)
        turn = tl.load(turns + origin).to(tl.int32)
        ply = tl.load(move_numbers + origin).to(tl.int32)
        passed = tl.load(passes + origin).to(tl.int32)
        newest = tl.load(history + origin * max_moves + tl.maximum(ply - 1, 0)).to(tl.int32)
        last = _point(newest, SIZE)
        ko_point = tl.zeros([LANES], tl.int32)
        own_lost = tl.zeros([LANES], tl.int32)
        opponent_lost = tl.zeros([LANES], tl.int32)
        f0 = tl.zeros([LANES], tl.int32)
        f1 = tl.zeros([LANES], tl.int32)
        f2 = tl.zeros([LANES], tl.int32)
        f3 = tl.zeros([LANES], tl.int32)
        own_exposed = 0
        opponent_exposed = 0
        position = tl.zeros([], tl.int64)
        if KO == 0:
            ko_point = _point(tl.load(ko_points + origin).to(tl.int32), SIZE)
        else:
            own_lost = load_rows(own_lost_rows, origin, SIZE)
            opponent_lost = load_rows(opponent_lost_rows, origin, SIZE)
            own_exposed = tl.load(own_exposed_flags + origin).to(tl.int32)
            opponent_exposed = tl.load(opponent_exposed_flags + origin).to(tl.int32)
            position = tl.load(hashes + origin)
            words = filters + origin * 128 + lane
            f0 = tl.load(words)
            f1 = tl.load(words + 32)
            f2 = tl.load(words + 64)
            f3 = tl.load(words + 96)
            # The lanes that still read the last game's positions come first.
            tl.debug_barrier()
            start = 0
            while start <= ply:
                at = start + tl.arange(0, _CHUNK)
                word = tl.load(positions + origin * (max_moves + 1) + at, mask=at <= ply, other=0)
                tl.store(copies + at, word, mask=at <= ply)
                start += _CHUNK
        draws_of_plies = ply_words(stream, (ply & ~31) + lane)
        first_move = NUM_POINTS + 1
        running = ((passed < 2) & (ply < max_moves)).to(tl.int32)
        while running != 0:
            safe = no_suicide(own, opponent, atari, SIZE, SINGLE)
            allowed = safe
            if SUICIDE:
                allowed = rows_of_board(SIZE) & ~(own | opponent)
            own_keys = keys + turn * (NUM_POINTS + 1)
            opponent_keys = keys + (1 - turn) * (NUM_POINTS + 1)
            # To a word it is added where white is to move next.
            to_move = tl.zeros([], tl.int64)
            if KO == 2:
                to_move = tl.load(keys + NUM_POINTS) * (1 - turn)
            if KO == 0:
                allowed = allowed & ~ko_point
            else:
                now = position + to_move
                if own_exposed != 0:
                    suspects = safe & own_lost
                    if tl.max(suspects, 0) != 0:
                        tl.debug_barrier()
                        allowed = allowed & ~stone_repeats(
                            own, opponent, atari, suspects, now, own_keys, opponent_keys,
                            copies, ply + 1, f0, f1, f2, f3, SIZE,
                        )  # fmt: skip
                if SUICIDE:
                    suicides = allowed & ~safe
                    if tl.max(suicides, 0) != 0:
                        tl.debug_barrier()
                        allowed = allowed & ~suicide_repeats(
                            own, suicides, now, own_keys, copies, ply + 1, f0, f1, f2, f3, SIZE
                        )

            here = ply & 31
            draw = tl.gather(draws_of_plies, tl.zeros([LANES], tl.int32) + here, 0)
            candidates = allowed & ~true_eyes(own, opponent, SIZE)
            if RULES_PLAYER:
                early = ply < NUM_POINTS // 4
                stone, _, _, _ = choose_rules(
                    candidates, own, opponent, atari, last, early, draw, SIZE
                )
                last = stone
            else:
                stone, _, _, _ = choose_uniform(candidates, draw)
            # Where a position was set, chains without liberties may stand: whatever the rules, what
            # a move leaves without liberties comes off, as in ``play_kernel``.
            (
                own, opponent, atari, taken, suicides, num_taken, num_suicides,
                token, placed, was_lost, is_ko,
            ) = place(own, opponent, atari, stone, own_lost, SIZE, True, SINGLE)  # fmt: skip

            if KO == 0:
                ko_point = tl.where((is_ko != 0) & (num_taken == 1), taken, 0)
            else:
                # A stone on a point that has lost none stands in no earlier position.
                own_exposed = own_exposed & (1 - (placed & (1 - was_lost)))
                if placed != 0:
                    position += tl.load(own_keys + token)
                if num_taken != 0:
                    position -= zobrist_sum(taken, opponent_keys, SIZE)
                    opponent_lost = opponent_lost | taken
                    opponent_exposed = 1
                if num_suicides != 0:
                    position -= zobrist_sum(suicides, own_keys, SIZE)
                    own_lost = own_lost | suicides
                    own_exposed = 1
                tl.store(copies + ply + 1, position + to_move)
                f0, f1, f2, f3 = filter_add(f0, f1, f2, f3, position + to_move)
                own_lost, opponent_lost = opponent_lost, own_lost
                own_exposed, opponent_exposed = opponent_exposed, own_exposed
            own, opponent = opponent, own
            turn = 1 - turn
            move = tl.where(placed != 0, token, NUM_POINTS)
            first_move = tl.where(first_move > NUM_POINTS, move, first_move)
            passed = (passed + 1) * (1 - placed)
            ply += 1
            running = ((passed < 2) & (ply < max_moves)).to(tl.int32)
            if here == 31:
                draws_of_plies = ply_words(stream, ply + lane)

        black = own
        white = opponent
        if turn != 0:
            black = opponent
            white = own
        area, black_area, white_area = area_difference(black, white, SIZE, PASS_ALIVE, SUICIDE)
        result = area.to(tl.float32) - komi
        _add(plies, origin, ply - tl.load(move_numbers + origin).to(tl.int32))
        _add(wins, origin, (result > 0).to(tl.int32))
        _add(draws, origin, (result == 0).to(tl.int32))
        _add(areas, origin, area)
        _add(area_squares, origin, area * area)
        if first_move <= NUM_POINTS:
            at = origin * (NUM_POINTS + 1) + first_move
            _add(first_moves, at, (first_move <= NUM_POINTS).to(tl.int32))
            _add(first_areas, at, area)
        for start in range(0, NUM_POINTS, LANES):
            token = start + lane
            owner = bits_at(black_area, token, SIZE) - bits_at(white_area, token, SIZE)
            at = owners + origin * NUM_POINTS + token
            mask = (token < NUM_POINTS) & (owner != 0)
            tl.atomic_add(at, owner.to(tl.int64), mask=mask, sem="relaxed")
        game = tl.atomic_add(next_game, 1)
