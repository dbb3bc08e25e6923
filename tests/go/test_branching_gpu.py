"""Branching games on a GPU: the plain code's bits, in graphs, and without waiting."""

from __future__ import annotations

import pytest
import torch

from tessera.go import GPUGoEngine, Rules
from tessera.go.branching import copy_games
from tests.go.kernel_cases import BRANCHED, branch
from tests.go.states import everything
from tests.go.test_kernels import assert_same_tensors
from tests.waiting import no_waiting

pytestmark = pytest.mark.gpu

CASES = {**BRANCHED, "19-positional": (19, Rules()), "13-simple": (13, Rules(ko="simple"))}


@pytest.mark.parametrize("name", CASES)
def test_branches_in_kernels_hold_what_the_plain_code_does(name: str) -> None:
    plain, fast = (branch(*CASES[name], backend, "cuda") for backend in ("torch", "triton"))
    assert_same_tensors(plain, fast)


@pytest.mark.parametrize("rules", [Rules(), Rules(ko="simple")], ids=lambda rules: rules.ko)
def test_branches_are_captured_replayed_and_never_wait(rules: Rules) -> None:
    engine, other = (GPUGoEngine(64, "cuda", 9, rules, "triton") for _ in range(2))
    games = torch.arange(64, device="cuda")
    for ply in range(60):
        engine.play_batch((games * 7 + ply * 5) % 81)
    held = everything(engine)

    def both() -> None:
        copy_games(engine, games.flip(0), games, other)
        engine.branch(games[:32], games[32:])

    both()  # which compiles
    copy_games(other, games.flip(0), games, engine)
    for name, tensor in held.items():
        assert torch.equal(everything(engine)[name], tensor), name
    other.reset()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        both()
    with no_waiting():
        graph.replay()
    for name, tensor in held.items():
        assert torch.equal(everything(other)[name], tensor.flip(0)), name
        assert torch.equal(everything(engine)[name], tensor[games % 32]), name


def test_branched_games_go_on_as_their_originals() -> None:
    engine, other = (GPUGoEngine(256, "cuda", 5, Rules(), "triton") for _ in range(2))
    games = torch.arange(256, device="cuda")
    for ply in range(100):
        if ply == 50:
            copy_games(engine, games.flip(0), games, other)
        for each, numbers in ((engine, games), (other, games.flip(0))):
            legal = each.get_legal_mask()[:, :-1]
            nth = (numbers * 1031 + ply * 77) % legal.sum(1).clamp(min=1)
            moves = (legal.cumsum(1) > nth.unsqueeze(1)).int().argmax(1)
            if each is engine or ply >= 50:
                each.play_batch(moves.masked_fill(~legal.any(1), 25))
    for name, tensor in everything(engine).items():
        assert torch.equal(everything(other)[name], tensor.flip(0)), name
