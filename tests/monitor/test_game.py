"""The monitor's own games are games, and playing them disturbs nothing."""

from __future__ import annotations

import itertools

import pytest
import torch

from tessera.go import RULES, Rules
from tessera.monitor import GameProbe


def samples(probe: GameProbe, num: int) -> list[dict[str, float]]:
    found = []
    for _ in range(num):
        probe.end()
        found.append(probe.read())
    return found


def test_one_sample_is_one_ply() -> None:
    probe = GameProbe(9, "full", "cpu", num_games=8)
    found = samples(probe, 12)
    assert [sample["move_number"] for sample in found] == list(range(12))
    assert found[0]["stones_on_board"] == 0 and found[0]["legal_moves_count"] == 81
    assert found[1]["stones_on_board"] == 1 and found[1]["legal_moves_count"] == 80
    for sample in found:
        assert sample["stones_on_board"] <= sample["move_number"]
        assert sample["stones_on_board"] + sample["legal_moves_count"] <= 81
        assert sample["time_legal_mask"] > 0 and sample["time_play_move"] > 0
    assert probe.read() == {}


@pytest.mark.parametrize("rules", ["full", Rules(max_moves=7)])
def test_finished_games_begin_anew_as_other_games(rules: str | Rules) -> None:
    probe = GameProbe(2, rules, "cpu", num_games=4)
    found = samples(probe, 60)
    numbers = [sample["move_number"] for sample in found]
    assert any(after < before for before, after in itertools.pairwise(numbers))
    assert int(probe._numbers.max()) >= 4
    assert len(set(probe._numbers.tolist())) == 4


def test_every_move_is_legal_and_all_legal_points_are_drawn() -> None:
    probe = GameProbe(3, RULES["full"], "cpu", num_games=500)
    engine = probe._engine
    drawn = set()
    for _ in range(30):
        legal = engine.get_legal_mask()
        moves = probe._draw(legal)
        assert legal.gather(1, moves.unsqueeze(1)).all()
        has_point = legal[:, :-1].any(1)
        assert (moves[has_point] < 9).all() and (moves[~has_point] == 9).all()
        drawn |= set(moves.tolist())
        probe.end()
    assert drawn == set(range(10))


def test_torchs_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    samples(GameProbe(5, "full", "cpu", num_games=4), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_samples_come_again() -> None:
    def counts() -> list[float]:
        found = samples(GameProbe(5, "full", "cpu", num_games=4), 20)
        return [sample["stones_on_board"] for sample in found]

    assert counts() == counts()


def test_warming_up_leaves_nothing_to_read() -> None:
    probe = GameProbe(5, "full", "cpu", num_games=4)
    probe.warm_up()
    assert probe.read() == {}
    assert samples(probe, 1)[0]["move_number"] == 0


@pytest.mark.gpu
def test_the_same_games_are_played_on_the_gpu() -> None:
    cpu, cuda = (GameProbe(9, "full", device, num_games=16) for device in ("cpu", "cuda"))
    names = ("move_number", "stones_on_board", "legal_moves_count")
    for _ in range(40):
        cpu.end()
        cuda.end()
        torch.cuda.synchronize()
        on_cpu, on_cuda = cpu.read(), cuda.read()
        assert [on_cpu[name] for name in names] == [on_cuda[name] for name in names]
        assert on_cuda["time_legal_mask"] > 0 and on_cuda["time_play_move"] > 0
