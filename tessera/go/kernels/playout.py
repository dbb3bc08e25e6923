"""Whole games in one kernel, one warp a game; Triton beside ``record``.

Each program plays games from start to end until none is left. The position, the sets that superko
needs and the last 32 plies of the record stay in registers; memory sees the game's positions (one
64-bit word a ply, read only where superko has to compare) and the record, 32 plies at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import (
    LANES,
    no_suicide,
    place,
    rows_of_board,
    true_eyes,
)
from tessera.go.kernels.features import large_atari, write_board, write_landmarks
from tessera.go.kernels.players import choose_rules, choose_uniform, game_word, ply_words
from tessera.go.kernels.scoring import area_difference
from tessera.go.kernels.settled import settled_points
from tessera.go.kernels.superko import filter_add, stone_repeats, suicide_repeats, zobrist_sum

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["seeded", "num_games", "max_moves"])
def play_games_kernel(
    numbers,
    next_game,
    keys,
    positions,
    moves,
    captures,
    log_probs,
    entropies,
    legal,
    board,
    landmarks,
    settled,
    lengths,
    results,
    seeded,
    num_games,
    max_moves,
    komi,
    SIZE: tl.constexpr,
    RULES_PLAYER: tl.constexpr,
    KO: tl.constexpr,
    SUICIDE: tl.constexpr,
    SINGLE: tl.constexpr,
    PASS_ALIVE: tl.constexpr,
    SKIP_SETTLED: tl.constexpr,
    WITH_PROBABILITIES: tl.constexpr,
    WITH_LEGAL: tl.constexpr,
    WITH_BOARD: tl.constexpr,
    WITH_LANDMARKS: tl.constexpr,
    WITH_SETTLED: tl.constexpr,
):
    """Play the games ``numbers`` from start to end and write their record.

    Args:
        numbers: (G,) int64, the games' numbers.
        next_game: one int32, 0: how many games have been taken up.
        keys: (2, P + 1) int64 from ``zobrist_keys``.
        positions: (programs, max_moves + 1) int64, room for each program's positions.
        moves: (G, max_moves) int16, PAD already written.
        captures: (G, max_moves) int16, zeros.
        log_probs, entropies: (G, max_moves) float32, zeros; written WITH_PROBABILITIES.
        legal: (G, max_moves, n) int32, zeros; written WITH_LEGAL.
        board: (G, max_moves + 1, 5, n) int32, zeros; written WITH_BOARD.
        landmarks: (G, max_moves + 1, 3, n) int32, zeros; written WITH_LANDMARKS.
        settled: (G, max_moves + 1, n) int32, zeros; written WITH_SETTLED.
        lengths: (G,) int32.
        results: (G,) float32.
        seeded: the seed's first mix, as a signed 64-bit integer.
        num_games: G.
        max_moves: plies of the longest game.
        komi: points for white.
        KO: 0 simple, 1 positional, 2 situational.
    """
    lane = tl.arange(0, LANES)
    NUM_POINTS: tl.constexpr = SIZE * SIZE
    WITH_FEATURES: tl.constexpr = WITH_BOARD or WITH_LANDMARKS
    positions += tl.program_id(0).to(tl.int64) * (max_moves + 1)
    to_move_key = tl.load(keys + NUM_POINTS)
    game = tl.atomic_add(next_game, 1)
    while game < num_games:
        stream = game_word(seeded, tl.load(numbers + game))
        record = game.to(tl.int64) * max_moves
        own = tl.zeros([LANES], tl.int32)
        opponent = tl.zeros([LANES], tl.int32)
        atari = tl.zeros([LANES], tl.int32)
        last = tl.zeros([LANES], tl.int32)
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
        if KO != 0:
            tl.store(positions, position)
            f0, f1, f2, f3 = filter_add(f0, f1, f2, f3, position)
        draws = ply_words(stream, lane)
        packed = tl.zeros([LANES], tl.int32)
        totals = tl.zeros([LANES], tl.int32)
        exponent_sums = tl.zeros([LANES], tl.float32)
        if WITH_FEATURES:
            newest = tl.zeros([LANES], tl.int32)  # what the last ply took
        passes = 0
        ply = 0
        running = 1
        while running != 0:
            turn = ply & 1
            safe = no_suicide(own, opponent, atari, SIZE, SINGLE)
            allowed = safe
            if SUICIDE:
                allowed = rows_of_board(SIZE) & ~(own | opponent)
            otherwise = allowed
            if KO == 0:
                allowed = allowed & ~ko_point
            else:
                own_keys = keys + turn * (NUM_POINTS + 1)
                opponent_keys = keys + (1 - turn) * (NUM_POINTS + 1)
                now = position
                if KO == 2:
                    now += to_move_key * (1 - turn)
                if own_exposed != 0:
                    suspects = safe & own_lost
                    if tl.max(suspects, 0) != 0:
                        tl.debug_barrier()
                        allowed = allowed & ~stone_repeats(
                            own, opponent, atari, suspects, now, own_keys, opponent_keys,
                            positions, ply + 1, f0, f1, f2, f3, SIZE,
                        )  # fmt: skip
                if SUICIDE:
                    suicides = allowed & ~safe
                    if tl.max(suicides, 0) != 0:
                        tl.debug_barrier()
                        allowed = allowed & ~suicide_repeats(
                            own, suicides, now, own_keys, positions, ply + 1, f0, f1, f2, f3, SIZE
                        )
            forbidden = otherwise & ~allowed
            if SKIP_SETTLED or WITH_SETTLED:
                for_ever = settled_points(own, opponent, SIZE, SUICIDE)
                if WITH_SETTLED:
                    entry = record + game + ply
                    tl.store(settled + entry * SIZE + lane, for_ever, mask=lane < SIZE)
                if SKIP_SETTLED:
                    allowed = allowed & ~for_ever
            if WITH_LEGAL:
                tl.store(legal + (record + ply) * SIZE + lane, allowed, mask=lane < SIZE)
            if WITH_BOARD:
                entry = record + game + ply
                write_board(board, entry, own, opponent, atari, newest, forbidden, SIZE)
            if WITH_LANDMARKS:
                entry = record + game + ply
                large = large_atari(own, atari, last)
                write_landmarks(landmarks, entry, newest, forbidden, large, SIZE)

            here = ply & 31
            word = tl.gather(draws, tl.zeros([LANES], tl.int32) + here, 0)
            candidates = allowed & ~true_eyes(own, opponent, SIZE)
            if RULES_PLAYER:
                early = ply < NUM_POINTS // 4
                stone, total, exponent, exponent_sum = choose_rules(
                    candidates, own, opponent, atari, last, early, word, SIZE
                )
                last = stone
            else:
                stone, total, exponent, exponent_sum = choose_uniform(candidates, word)
                if WITH_LANDMARKS:
                    last = stone
            (
                own, opponent, atari, taken, suicides, num_taken, num_suicides,
                token, placed, was_lost, is_ko,
            ) = place(own, opponent, atari, stone, own_lost, SIZE, SUICIDE, SINGLE)  # fmt: skip

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
                if SUICIDE:
                    if num_suicides != 0:
                        position -= zobrist_sum(suicides, own_keys, SIZE)
                        own_lost = own_lost | suicides
                        own_exposed = 1
                word = position
                if KO == 2:
                    word += to_move_key * (1 - turn)
                tl.store(positions + ply + 1, word)
                f0, f1, f2, f3 = filter_add(f0, f1, f2, f3, word)
                own_lost, opponent_lost = opponent_lost, own_lost
                own_exposed, opponent_exposed = opponent_exposed, own_exposed
            own, opponent = opponent, own
            if WITH_FEATURES:
                newest = taken

            token = tl.where(placed != 0, token, NUM_POINTS)
            entry = token | ((num_taken + num_suicides) << 9) | (exponent << 18)
            packed = tl.where(lane == here, entry, packed)
            if WITH_PROBABILITIES:
                totals = tl.where(lane == here, total, totals)
                if RULES_PLAYER:
                    exponent_sums = tl.where(lane == here, exponent_sum, exponent_sums)
            passes = (passes + 1) * (1 - placed)
            ply += 1
            running = ((passes < 2) & (ply < max_moves)).to(tl.int32)
            if (here == 31) | (running == 0):
                start = ply - 1 - here
                at = record + start + lane
                inside = lane <= here
                tl.store(moves + at, (packed & 511).to(tl.int16), mask=inside)
                tl.store(captures + at, ((packed >> 9) & 511).to(tl.int16), mask=inside)
                if WITH_PROBABILITIES:
                    weight = tl.maximum(totals, 1).to(tl.float32)
                    log_total = tl.log(weight)
                    log_prob = (packed >> 18).to(tl.float32) * _LN_2 - log_total
                    log_prob = tl.where(totals > 0, tl.minimum(log_prob, 0.0), 0.0)
                    entropy = tl.maximum(log_total - exponent_sums / weight * _LN_2, 0.0)
                    tl.store(log_probs + at, log_prob, mask=inside)
                    tl.store(entropies + at, entropy, mask=inside)
                draws = ply_words(stream, ply + lane)

        # The end of the game forbids every stone that was not suicide.
        if WITH_BOARD or WITH_LANDMARKS:
            forbidden = rows_of_board(SIZE) & ~(own | opponent)
            if not SUICIDE:
                forbidden = no_suicide(own, opponent, atari, SIZE, SINGLE)
        if WITH_BOARD:
            write_board(board, record + game + ply, own, opponent, atari, newest, forbidden, SIZE)
        if WITH_LANDMARKS:
            large = large_atari(own, atari, last)
            write_landmarks(landmarks, record + game + ply, newest, forbidden, large, SIZE)
        if WITH_SETTLED:
            entry = record + game + ply
            for_ever = settled_points(own, opponent, SIZE, SUICIDE)
            tl.store(settled + entry * SIZE + lane, for_ever, mask=lane < SIZE)
        black = own
        white = opponent
        if (ply & 1) != 0:
            black = opponent
            white = own
        area, _, _ = area_difference(black, white, SIZE, PASS_ALIVE, SUICIDE)
        tl.store(lengths + game, ply)
        tl.store(results + game, area.to(tl.float32) - komi)
        game = tl.atomic_add(next_game, 1)
