"""The Triton kernels give the plain code's bits, interpreted without a GPU; all compile."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from tessera.go import GPUGoEngine, play_games
from tessera.go.features import BOARD_SETS, LANDMARK_SETS
from tests.go.kernel_cases import (
    BRANCHED,
    GAMES,
    HOSTILE,
    PLAYOUTS,
    PLIES,
    SCORED,
    SETTLED,
    SKIPPING,
    SOME,
    TOLD,
    branch,
    count_playouts,
    follow_hostile,
    follow_plies,
    play_case,
    score_ends,
    settle,
    tell,
)
from tests.interpreted import begun

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

Plies = dict[str, list[Tensor]]
Records = dict[str, dict[str, Tensor]]
Interpreted = tuple[Records, Plies, int, Plies, Plies, Plies, Records, Plies, Plies, Plies]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Interpreted:
    """Everything in ``kernel_cases``, played by the kernels in Triton's interpreter."""
    path = tmp_path_factory.mktemp("kernels") / "interpreted.pt"
    process = begun("tests.go.kernel_cases", path)
    said = process.communicate()[1]
    assert process.returncode == 0, said[-4000:]
    return torch.load(path)


def assert_same_record(plain: dict[str, Tensor], fast: dict[str, Tensor]) -> None:
    assert plain.keys() == fast.keys()
    for name, tensor in plain.items():
        if name in ("log_probs", "entropies"):
            torch.testing.assert_close(fast[name], tensor, atol=1e-5, rtol=0)
        else:
            assert torch.equal(fast[name], tensor), name


def assert_same_tensors(plain: list[Tensor], fast: list[Tensor]) -> None:
    assert len(plain) == len(fast)
    for number, (expected, found) in enumerate(zip(plain, fast, strict=True)):
        assert expected.dtype == found.dtype
        assert torch.equal(expected, found), f"tensor {number}"


@pytest.mark.parametrize("optional", SOME)
def test_an_optional_table_alone_is_as_with_the_others(
    optional: str, interpreted: Interpreted
) -> None:
    whole, some = interpreted[0]["uniform-3-positional"], interpreted[6][optional]
    assert whole[optional].any() and torch.equal(some["numbers"], whole["numbers"])
    for name in ("moves", "captures", optional):
        entries = whole[name].shape[1]
        assert torch.equal(some[name][:, :entries], whole[name]), name
    assert not some[optional][:, entries:].any()
    assert torch.equal(some["results"], whole["results"])


@pytest.mark.parametrize("name", GAMES | SKIPPING)
def test_interpreted_games_are_those_of_the_plain_code(name: str, interpreted: Interpreted) -> None:
    assert_same_record(play_case(name, "torch"), interpreted[0][name])


@pytest.mark.parametrize("name", PLIES)
def test_interpreted_plies_are_those_of_the_plain_code(name: str, interpreted: Interpreted) -> None:
    assert_same_tensors(follow_plies(*PLIES[name], backend="torch"), interpreted[1][name])


@pytest.mark.parametrize("name", HOSTILE)
def test_interpreted_plies_of_any_tokens_leave_the_state_of_the_plain_code(
    name: str, interpreted: Interpreted
) -> None:
    assert_same_tensors(follow_hostile(*HOSTILE[name], backend="torch"), interpreted[3][name])


@pytest.mark.parametrize("name", BRANCHED)
def test_interpreted_branches_hold_what_the_plain_code_does(
    name: str, interpreted: Interpreted
) -> None:
    assert_same_tensors(branch(*BRANCHED[name], backend="torch"), interpreted[9][name])


@pytest.mark.parametrize("name", SETTLED)
def test_interpreted_settled_points_are_those_of_the_plain_code(
    name: str, interpreted: Interpreted
) -> None:
    plain = settle(*SETTLED[name], backend="torch")
    assert_same_tensors(plain, interpreted[4][name])
    assert all(rows.any() for rows in plain[:4])


@pytest.mark.parametrize("name", SCORED)
def test_interpreted_pass_alive_scores_are_those_of_the_plain_code(
    name: str, interpreted: Interpreted
) -> None:
    size, rules, numbers = SCORED[name]
    results, scores, owners = plain = score_ends(size, rules, numbers, backend="torch")
    assert_same_tensors(plain, interpreted[5][name])
    assert torch.equal(results, scores)
    by_area = score_ends(size, replace(rules, score="area"), numbers, backend="torch")
    assert not torch.equal(by_area[1], scores) and not torch.equal(by_area[2], owners)


@pytest.mark.parametrize("name", SKIPPING)
def test_games_without_settled_points_are_others_in_the_games_that_are_compared(name: str) -> None:
    player, size, rules, numbers = SKIPPING[name]
    found = play_games(player, numbers, seed=5, board_size=size, rules=rules)
    skipping = play_case(name, "torch")
    assert skipping["settled"].any()
    assert not torch.equal(found.lengths, skipping["lengths"])


@pytest.mark.parametrize("name", [name for name in GAMES if "pass-alive" in name])
def test_pass_alive_scores_are_others_in_the_games_that_are_compared(name: str) -> None:
    player, size, rules, numbers = GAMES[name]
    results = [
        play_games(player, numbers, seed=5, board_size=size, rules=replace(rules, score=score))
        for score in ("area", "pass_alive")
    ]
    assert not torch.equal(results[0].results, results[1].results)


def test_what_is_told_of_a_position_is_what_the_plain_code_tells(interpreted: Interpreted) -> None:
    seen = {name: 0 for name in (*BOARD_SETS, *LANDMARK_SETS)}
    for name, case in TOLD.items():
        plain = tell(*case, backend="torch")
        assert_same_tensors(plain, interpreted[7][name])
        for entries, names in zip(plain, itertools.cycle((BOARD_SETS, LANDMARK_SETS))):
            for nth, which in enumerate(names):
                seen[which] += int(entries[0, nth].count_nonzero())
    assert all(seen.values()), seen


@pytest.mark.parametrize("name", PLAYOUTS)
def test_interpreted_playouts_are_those_of_the_plain_code(
    name: str, interpreted: Interpreted
) -> None:
    plain = count_playouts(*PLAYOUTS[name], backend="torch")
    assert_same_tensors(plain, interpreted[8][name])
    plies = int(plain[0].sum())
    assert (plies == 0) == (name == "rules-3-over")


def test_the_interpreted_census_finds_the_57_legal_positions_of_2x2(
    interpreted: Interpreted,
) -> None:
    assert interpreted[2] == 57


@pytest.mark.parametrize("architecture", [80, 89, 90])
def test_every_kernel_compiles_without_a_gpu(architecture: int) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 replaces the compiler")
    from tests.go.compile_kernels import compile_all, has_assembler

    if not has_assembler():
        pytest.skip("this Triton brings no ptxas")
    for name, registers, spilled in compile_all(architecture):
        assert spilled <= 64, f"{name} spills {spilled} bytes of registers"
        # With more registers a multiprocessor would hold fewer than 24 warps.
        assert 0 < registers <= 80, f"{name} takes {registers} registers"


def test_a_cpu_is_refused_outside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="backend triton needs a CUDA device, got cpu"):
        GPUGoEngine(1, device="cpu", backend="triton")
    with pytest.raises(ValueError, match="backend triton needs a CUDA device, got cpu"):
        play_games("uniform", range(1), seed=0, board_size=5, backend="triton")


def test_a_19x19_game_takes_at_most_8_kb_with_its_superko_history() -> None:
    games = 4
    engine = GPUGoEngine(games, device="cpu", board_size=19)
    assert engine.num_bytes() <= games * 8192
