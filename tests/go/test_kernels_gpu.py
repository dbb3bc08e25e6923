"""The Triton kernels on a GPU: the plain code's bits, in graphs, and without waiting.

The plain code plays on the CPU, where its many small operations cost the least; that it gives the
same bits on a GPU is what ``test_gpu`` says.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest
import torch

from tessera.go import (
    GameLoop,
    GPUGoEngine,
    Rules,
    get_player,
    kept_tables,
    play_games,
    play_out,
    replayed,
)
from tests.go.kernel_cases import (
    OPTIONAL,
    TOLD,
    count_playouts,
    follow_hostile,
    follow_plies,
    record_tensors,
    settle,
    tell,
)
from tests.go.states import everything, hostile_moves
from tests.go.test_kernels import assert_same_record, assert_same_tensors
from tests.waiting import no_waiting

pytestmark = pytest.mark.gpu

RULES = {
    "simple": Rules(ko="simple"),
    "simple-suicide": Rules(ko="simple", suicide=True),
    "positional": Rules(),
    "positional-suicide": Rules(suicide=True),
    "situational": Rules(ko="situational"),
    "situational-suicide": Rules(ko="situational", suicide=True),
    "single-stones": Rules(ko="simple", capture="single"),
    "pass-alive": Rules(max_moves=100, score="pass_alive"),
    "pass-alive-suicide": Rules(ko="simple", suicide=True, max_moves=90, score="pass_alive"),
}


# Where each of the two plays.
BACKENDS = (("torch", "cpu"), ("triton", "cuda"))
# The plain code is slow on large boards, so they play by some of the rules only.
CASES = [(size, rules) for size in (2, 5, 9) for rules in RULES]
CASES += [(13, "situational-suicide"), (19, "positional"), (19, "situational")]
# Of whole games on 19×19 the default run has one by each rule.
GAMES = [(size, rules, player) for size, rules in CASES for player in ("uniform", "rules")]
LONGEST = [(19, "positional", "rules"), (19, "situational", "uniform")]
GAMES = [pytest.param(*game, marks=pytest.mark.slow) if game in LONGEST else game for game in GAMES]


@pytest.mark.parametrize(("size", "rules", "player"), GAMES)
def test_games_in_kernels_are_those_of_the_plain_code(size: int, rules: str, player: str) -> None:
    plain, fast = (
        record_tensors(
            play_games(
                player,
                range(256),  # 1.1 million plies in all cases together
                seed=3,
                board_size=size,
                rules=RULES[rules],
                device=device,
                backend=backend,
                needs=OPTIONAL,
            )
        )
        for backend, device in BACKENDS
    )
    assert_same_record(plain, fast)


@pytest.mark.parametrize(
    ("size", "rules"),
    [(5, "positional-suicide"), (9, "situational"), (9, "pass-alive-suicide"), (13, "pass-alive")],
)
@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_games_that_leave_settled_points_alone_are_those_of_the_plain_code(
    size: int, player: str, rules: str
) -> None:
    needs = (*OPTIONAL, "settled")
    own: dict[str, Any] = {"seed": 3, "board_size": size, "rules": RULES[rules]}
    own["skip_settled"] = True
    plain, fast = (
        play_games(player, range(96), device=device, backend=backend, needs=needs, **own)
        for backend, device in BACKENDS
    )
    loop = GameLoop(get_player(player), 96, 32, tables=kept_tables(needs), device="cuda", **own)
    expected = record_tensors(plain)
    assert expected["settled"].any()
    assert_same_record(expected, record_tensors(fast))
    assert_same_record(expected, record_tensors(loop.play(fast.numbers).trimmed()))


@pytest.mark.parametrize(("size", "rules"), CASES)
def test_plies_in_kernels_are_those_of_the_plain_code(size: int, rules: str) -> None:
    plies = {2: 10, 5: 60, 9: 200, 13: 100, 19: 200}[size]
    plain, fast = (
        follow_plies(size, RULES[rules], plies, backend, games=64, device=device)
        for backend, device in BACKENDS
    )
    assert_same_tensors(plain, fast)


@pytest.mark.parametrize(("size", "rules"), CASES)
def test_plies_of_any_tokens_leave_the_state_of_the_plain_code(size: int, rules: str) -> None:
    plies = {2: 12, 5: 80, 9: 250, 13: 150, 19: 250}[size]
    plain, fast = (
        follow_hostile(size, RULES[rules], plies, backend, games=64, device=device)
        for backend, device in BACKENDS
    )
    assert_same_tensors(plain, fast)


@pytest.mark.parametrize(("size", "rules", "player"), GAMES)
def test_playouts_in_kernels_are_those_of_the_plain_code(
    size: int, player: str, rules: str
) -> None:
    board = " ".join(["." * size] * size)
    plain, fast = (
        count_playouts(player, RULES[rules], board, size**2, 25, backend, device, positions=16)
        for backend, device in BACKENDS
    )
    assert_same_tensors(plain, fast)
    assert plain[0].any()


@pytest.mark.parametrize("suicide", [False, True])
@pytest.mark.parametrize("size", range(2, 20))
def test_settled_points_in_kernels_are_those_of_the_plain_code(size: int, suicide: bool) -> None:
    plain, fast, on_cpu = (
        settle(size, suicide, 2000, size, backend, device)
        for backend, device in (("torch", "cuda"), ("triton", "cuda"), ("torch", "cpu"))
    )
    assert_same_tensors(plain, fast)
    assert_same_tensors(plain, on_cpu)
    assert all(rows.any() for rows in plain[:4])


@pytest.mark.parametrize("rules", ["full", "tromp-taylor"])
@pytest.mark.parametrize("size", [9, 13, 19])
def test_settled_points_of_games_are_captured_replayed_and_never_wait(
    size: int, rules: str
) -> None:
    moves = play_games("uniform", range(256), seed=2, board_size=size, rules=rules, device="cuda")
    engines = [GPUGoEngine(256, device, size, rules, backend=kind) for kind, device in BACKENDS]
    plain, captured = engines
    captured.settled_points()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = captured.settled_points()
    for ply, move in enumerate(moves.moves.long().t()):
        for engine in engines:
            engine.play_batch(move.to(engine.device))
        if ply % 20 == 0:
            with no_waiting():
                graph.replay()
                again = captured.settled_points()
            expected = list(astuple(plain.settled_points()))
            for settled in (found, again):
                assert_same_tensors(expected, [rows.cpu() for rows in astuple(settled)])


@pytest.mark.parametrize("player", ["uniform", "rules"])
@pytest.mark.parametrize("rules", RULES)
def test_the_loops_graph_and_games_played_again_tell_what_the_kernel_of_games_does(
    player: str, rules: str
) -> None:
    games, size, by = 200, 9, RULES[rules]  # in kernels that the games above compile as well
    record = play_games(
        player, range(games), seed=2, board_size=size, rules=by, device="cuda", needs=OPTIONAL
    )
    loop = GameLoop(
        get_player(player),
        games,
        32,
        board_size=size,
        device="cuda",
        rules=by,
        seed=2,
        tables=kept_tables(OPTIONAL),
    )
    again = loop.play(record.numbers).trimmed()
    for name in OPTIONAL:
        assert torch.equal(getattr(again, name), getattr(record, name)), name
    for name in ("board", "landmarks"):
        told = replayed(name, record.moves, size, by, "cuda")
        assert told.any() and torch.equal(told, getattr(record, name)), name


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told_of_a_position_is_what_the_plain_code_tells(name: str) -> None:
    plain, fast = (tell(*TOLD[name], *where) for where in BACKENDS)
    assert_same_tensors(plain, fast)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_a_captured_ply_of_any_tokens_never_waits_and_tears_no_game(dtype: torch.dtype) -> None:
    games, size = 256, 5
    engines = [GPUGoEngine(games, "cuda", size, backend=kind) for kind in ("triton", "torch")]
    captured, plain = engines
    moves = torch.stack([hostile_moves(size, games, ply, 1, "cuda") for ply in range(60)]).to(dtype)
    move = moves[0].clone()
    captured.play_batch(move)
    captured.reset()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.play_batch(move)
    captured.reset()
    for ply in range(len(moves)):
        with no_waiting():
            if ply % 2:
                move.copy_(moves[ply])
                graph.replay()
            else:
                captured.play_batch(moves[ply])
        plain.play_batch(moves[ply])
        for name, tensor in everything(plain).items():
            assert torch.equal(everything(captured)[name], tensor), name


def test_games_are_played_without_waiting_for_the_gpu() -> None:
    numbers = torch.arange(64, device="cuda")
    options: dict = {"board_size": 9, "device": "cuda", "needs": OPTIONAL, "trim": False}
    play_games("rules", numbers, seed=1, **options)
    with no_waiting():
        record = play_games("rules", numbers, seed=2, **options)
    assert record.moves.shape == (64, 2 * 81)


def test_many_playouts_of_one_position_never_wait_and_are_those_of_a_cpu() -> None:
    engines = [GPUGoEngine(1, device, 9) for device in ("cuda", "cpu")]
    moves = play_games("rules", range(1), seed=4, board_size=9).moves[0, :40].long()
    for engine in engines:
        for move in moves:
            engine.play_batch(move.reshape(1))
    fast, _ = engines
    play_out(fast, 10)
    with no_waiting():
        many = play_out(fast, 5_000, seed=1)  # more than the plain code plays at once
    plain = play_out(engines[1], 5_000, seed=1)
    for name in ("plies", "wins", "areas", "area_squares", "owners", "first_moves", "scores"):
        assert torch.equal(getattr(many, name).cpu(), getattr(plain, name)), name


def test_a_captured_ply_replays_and_never_waits() -> None:
    games = play_games("uniform", range(32), seed=1, board_size=9, device="cuda")
    moves = games.moves.long().t().contiguous()
    engines = [GPUGoEngine(32, "cuda", 9, backend=backend) for backend in ("triton", "torch")]
    captured, plain = engines
    move = torch.empty_like(moves[0])
    captured.get_legal_mask(), captured.score(), captured.ownership()
    captured.play_batch(moves[0])
    captured.reset()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mask = captured.get_legal_mask()
        captured.play_batch(move)
        score, ownership = captured.score(), captured.ownership()
    for ply in range(60):
        with no_waiting():
            move.copy_(moves[ply])
            graph.replay()
        assert torch.equal(mask, plain.get_legal_mask())
        plain.play_batch(moves[ply])
        assert torch.equal(captured.boards, plain.boards)
        assert torch.equal(score, plain.score())
        assert torch.equal(ownership, plain.ownership())
        if ply == 30:
            over = torch.arange(32, device="cuda") % 3 == 0
            with no_waiting():
                captured.reset(over)
            plain.reset(over)
            moves[ply + 1 :, over] = moves[: -ply - 1, over].clone()


@pytest.mark.parametrize(
    ("size", "legal"), [(2, 57), (3, 12_675), (4, 24_318_165), (5, 414_295_148_741)]
)
def test_the_census_counts_the_known_numbers_of_legal_positions(size: int, legal: int) -> None:
    from tessera.go.kernels.census import count_legal_positions

    # Source: Tromp and Farnebäck, "Combinatorics of Go" (2007).
    assert count_legal_positions(size, "cuda") == legal
