"""Criterion 5: a sound model plays long games, and each planted fault is found."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tessera.commands.check.criteria import judge_long_games
from tessera.commands.check.long_games_trial import new_model, play_long_games
from tessera.commands.check.trials import PlayedBatch, Scale
from tessera.go import GPUGoEngine
from tessera.go.position import Removed
from tessera.go.randomness import MOVE, random_words
from tessera.model import MambaModel, ModelState
from tessera.play.model_player import draw_choice
from tests.commands.check.small import NOT_TRAINED

CPU = torch.device("cpu")


def long_games(
    model: MambaModel | None = None, size: int = 5, plies: int = 12, num_batches: int = 2
) -> list[PlayedBatch]:
    model = new_model(size, 8, CPU, 0) if model is None else model
    scale = Scale(NOT_TRAINED, size, num_batches, long_games=4, plies=plies)
    return play_long_games(model, scale, 0, lambda done: None)


def test_a_model_plays_long_games() -> None:
    batches = long_games()
    assert [batch.faults for batch in batches] == [(), ()]
    assert [batch.plies for batch in batches] == [4 * 12] * 2
    for batch in batches:
        assert batch.figures["longest_game"] == 12 and batch.figures["num_unbroken_games"] == 4
        assert 0 < batch.figures["max_ssm_state_norm"] < 100
    assert judge_long_games(batches, 12).verdict == "passed"


def test_the_same_seed_plays_the_same_games_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, second = long_games(), long_games()
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert first[0].figures != first[1].figures  # other games


def test_a_game_with_nothing_left_to_play_makes_room_for_a_new_one() -> None:
    # On 2×2 superko soon leaves nothing, long before 40 moves.
    (batch,) = long_games(size=2, plies=40, num_batches=1)
    assert batch.figures["num_restarts"] > 4 and batch.figures["num_unbroken_games"] == 0
    # They ended well, but no game has shown that it gets that far.
    (fault,) = batch.faults
    assert fault.startswith("no game got beyond move ")


def test_a_new_game_is_another_one_and_begins_with_an_empty_state() -> None:
    class Recording(MambaModel):
        """Keeps what it reads and answers."""

        def step_in_place(
            self, tokens: Tensor, state: ModelState, is_new: Tensor, features: Any = ()
        ) -> Tensor:
            logits = super().step_in_place(tokens, state, is_new, features)
            seen.append((tokens.clone(), logits))
            return logits

    seen: list[tuple[Tensor, Tensor]] = []
    model = Recording(7, 8).eval()
    with torch.no_grad():
        model.head.weight *= 1000  # so that the state can be read off the logits
    (batch,) = long_games(model, size=2, plies=40, num_batches=1)
    tokens, logits = (torch.stack(column, 1) for column in zip(*seen, strict=True))
    begins = tokens == 6
    assert int(begins.sum()) - 4 <= batch.figures["num_restarts"] <= int(begins.sum())
    first = logits[0, 0].expand_as(logits[begins])
    assert torch.allclose(logits[begins], first, atol=1e-5)
    games = ["".join(map(str, row)).split("6")[1:-1] for row in tokens.tolist()]
    for played in games:
        assert len(set(played)) > len(played) / 2 > 1


def test_a_nan_in_the_model_fails() -> None:
    model = new_model(5, 8, CPU, 0)
    with torch.no_grad():
        model.head.bias[3] = math.nan
    batches = long_games(model)
    assert batches[0].faults == ("a logit or a state is not finite (4 games)",)
    finding = judge_long_games(batches, 12)
    assert finding.verdict == "failed" and "not finite" in finding.measured


def test_a_nan_that_comes_late_fails() -> None:
    model = new_model(5, 8, CPU, 0)
    calls: list[int] = []

    def spoil(module: nn.Module, args: Any, output: Any) -> Any:
        calls.append(1)
        return output + math.nan if len(calls) == 12 else output

    model.head.register_forward_hook(spoil)
    assert [len(batch.faults) for batch in long_games(model)] == [1, 0]


@pytest.mark.parametrize(("scale", "is_sound"), [(1.0, True), (1e4, False)])
def test_a_state_that_grows_too_large_fails(scale: float, is_sound: bool) -> None:
    model = new_model(5, 8, CPU, 0)
    with torch.no_grad():
        model.embedding.weight *= scale
    for batch in long_games(model):
        assert (batch.figures["max_ssm_state_norm"] <= 100) == is_sound
        assert any("norm is above 100" in fault for fault in batch.faults) != is_sound


def test_an_engine_that_miscounts_its_captures_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Removed.counts
    monkeypatch.setattr(Removed, "counts", lambda self, games: 0 * count(self, games))
    faults = [fault for batch in long_games(plies=60) for fault in batch.faults]
    assert any("stones are not plies less passes and captures" in fault for fault in faults)


def test_an_engine_that_ends_games_too_early_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPUGoEngine, "is_game_over", lambda self: self.move_number >= 5)
    faults = [batch.faults[0] for batch in long_games()]
    assert faults == ["the game ended although moves were legal (4 games)"] * 2


def test_an_engine_that_raises_is_a_fault_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: GPUGoEngine) -> Tensor:
        raise RuntimeError("no mask")

    monkeypatch.setattr(GPUGoEngine, "get_legal_mask", broken)
    batches = long_games()
    assert [batch.faults for batch in batches] == [("RuntimeError: no mask",)] * 2
    assert [batch.plies for batch in batches] == [0, 0] and not batches[0].figures
    assert judge_long_games(batches, 12).verdict == "failed"


def test_moves_are_drawn_from_the_models_distribution_over_the_legal_ones() -> None:
    logits = torch.tensor([0.0, 1.0, 5.0, -1.0]).expand(40_000, -1)
    legal = torch.tensor([True, True, False, True]).expand(40_000, -1)
    words = random_words(0, torch.arange(40_000), 0, MOVE)
    seen = draw_choice(logits, legal, words).moves.bincount(minlength=4) / 40_000
    expected = torch.tensor([0.0, 1.0, -math.inf, -1.0]).softmax(0)
    assert torch.allclose(seen, expected, atol=0.01) and seen[2] == 0


@pytest.mark.parametrize("word", [0, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf, 1e30])
def test_no_draw_is_illegal(word: int, value: float) -> None:
    for column in range(5):
        legal = torch.zeros(1, 5, dtype=torch.bool)
        legal[0, column] = True
        scores = torch.full((1, 5), value)
        assert draw_choice(scores, legal, torch.tensor([word])).moves == column
    legal = torch.tensor([[False, True, True, True, False]])
    assert draw_choice(torch.randn(1, 5), legal, torch.tensor([word])).moves in (1, 2, 3)
