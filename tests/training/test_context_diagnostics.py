"""Checks of vectors are logged on request, beside those of an untrained model; nothing learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model import GameModel, ModelSettings
from tessera.model.context_blocks import ContextBlock
from tessera.training.context_checks import by_sweep, by_token, change, repeated
from tessera.training.context_diagnostics import ContextDiagnostics
from tessera.training.context_vectors import (
    GameRecurrence,
    has_constant_state,
    passed_through,
    untrained,
)
from tests.runs import fit, tessera
from tests.training.test_geometry import tags_of

ON = ("--trainer.callbacks+=tessera.training.context_diagnostics.ContextDiagnostics",)
OF_VECTORS = {
    *("effective_rank", "effective_rank_centred", "effective_rank_rows", "effective_rank_width"),
    *("norm", "spread", "cosine"),
}
OF_PASSES = {"pass_change", "pass_change_last", "pass_slope", "pass_verdict"}
PAD = 10


def new_model(**settings: Any) -> GameModel:
    torch.manual_seed(3)
    return GameModel(ModelSettings(vocab_size=12, d_model=8, **settings)).eval()


def some_tokens(games: int = 4, length: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, PAD, (games, length), generator=generator)
    tokens[-1, length // 2 :] = PAD
    return tokens


@pytest.mark.parametrize("mixer", [pytest.param("mamba", marks=pytest.mark.slow), "context_token"])
def test_they_are_logged_beside_their_control_and_train_nothing(folder: Path, mixer: str) -> None:
    options = ("--model.mixer", mixer, "--trainer.max_steps", 20)
    assert fit(*options, "--run_name", "plain") == 0
    assert fit(*options, *ON, "--run_name", "watched") == 0
    plain, watched = tags_of("plain"), tags_of("watched")
    names = watched.keys() - plain.keys()
    own = {name for name in names if not name.startswith("untrained_")}
    assert own >= OF_VECTORS | OF_PASSES and {f"untrained_{name}" for name in own} <= names | {
        *("untrained_memory_tokens", "untrained_context_memory_tokens"),
    }
    assert ("context_effective_rank" in own) == (mixer == "context_token")
    assert all(watched[name] == values for name, values in plain.items())
    # The control learns nothing; what is trained changes, of the same number of vectors.
    assert len(set(watched["untrained_effective_rank"])) == 1
    assert len(watched["effective_rank"]) == len(set(watched["effective_rank"])) == 2
    rows = watched["effective_rank_rows"] + watched["untrained_effective_rank_rows"]
    assert len(set(rows)) == 1 and rows[0] > 20
    weights = [
        torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "watched")
    ]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_command_shows_them_beside_the_control(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.max_steps", 4) == 0
    last = ("--ckpt_path", "last", "--run_name", "small", "--json", "x.json")
    capsys.readouterr()
    assert tessera("test", *last, *ON) == 0
    shown = capsys.readouterr().out.splitlines()
    found = json.loads(Path("x.json").read_text())
    (row,) = (line.split() for line in shown if line.startswith("effective_rank "))
    for cell, name in zip(row[1:], ("effective_rank", "untrained_effective_rank"), strict=True):
        assert float(cell) == pytest.approx(found[f"test/{name}"], rel=1e-3)


def test_a_mistake_is_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(*ON, "--trainer.callbacks.passes", 2) == 2
    assert capsys.readouterr().err.strip() == "tessera: passes must be at least 3, got 2."


@pytest.mark.parametrize(
    "settings", [{"mixer": "mamba", "n_layers": 2}, {"mixer": "context_token"}]
)
def test_a_pass_is_the_game_once_more_behind_itself(settings: dict[str, Any]) -> None:
    model, tokens = new_model(**settings), some_tokens()
    recurrence = GameRecurrence(model, tokens)
    with torch.no_grad():
        (found,) = repeated(recurrence, 2)
        for game, length in ((0, 9), (3, 4)):
            one = tokens[game : game + 1, :length]
            twice, _, _ = model.read_on(torch.cat([one, one], 1), None)
            first, second = twice.split(length, 1)
            scale = recurrence.sequential(recurrence.sequential()[1])[0][recurrence.counted_BL]
            expected = (second - first).square().mean(-1) / scale.square().mean()
            torch.testing.assert_close(
                found[game, :length], expected[0].double(), atol=1e-5, rtol=1e-3
            )
    assert float(found[recurrence.counted_BL].min()) > 0


def test_where_pad_stands_makes_no_difference() -> None:
    model, tokens = new_model(mixer="mamba"), some_tokens()
    in_front = tokens.flip(1)
    in_front[-1, -4:] = tokens[-1, :4]
    in_front[:-1] = tokens[:-1]
    with torch.no_grad():
        one, other = (GameRecurrence(model, each).sequential()[0] for each in (tokens, in_front))
    torch.testing.assert_close(one[-1, :4], other[-1, :4])


def test_a_state_that_grows_has_no_passes() -> None:
    model = new_model(mixer="attention", n_layers=2, feed_forward="dense")
    assert not has_constant_state(model) and has_constant_state(new_model(mixer="mamba"))
    found = ContextDiagnostics().measured(model, some_tokens())
    assert found.keys() == OF_VECTORS


def test_as_many_sweeps_as_positions_are_the_sequential_pass() -> None:
    model, tokens = new_model(mixer="context_token", context_token={"inputs": 2}), some_tokens()
    with torch.no_grad():
        (recurrence,) = passed_through(model, tokens).contexts
        truth, memory = recurrence.sequential()
        contexts = torch.zeros_like(truth)
        for _ in range(tokens.shape[1]):
            contexts = recurrence.sweep(contexts)
        counted = recurrence.counted_BL
        assert float(change(contexts, truth, counted)[counted].max()) < 1e-9
        assert torch.equal(memory[-1], truth[-1, 3]), "behind the last move of the game"
        assert by_sweep(recurrence, tokens.shape[1])[-1][1] == 1
        found = ContextDiagnostics().measured(model, tokens)
        assert found["context_norm"] == pytest.approx(float(truth[counted].norm(dim=1).mean()))
        assert found["context_sweep_right_10"] == 1 and "context_cosine" not in found
        # What the mixer itself makes of them is what the model says.
        assert torch.equal(truth, model.blocks.mixer(0).contexts(recurrence.inputs, ~counted)[-1])


def test_the_control_is_the_same_each_time_and_draws_from_nobody() -> None:
    model = new_model(mixer="mamba")
    before = torch.random.get_rng_state()
    controls = []
    for seed in (0, 0, 1):
        with untrained(model, seed) as control:
            controls.append(torch.cat([p.flatten() for p in control.parameters()]))
            assert not control.training
    assert torch.equal(before, torch.random.get_rng_state())
    own = torch.cat([p.flatten() for p in model.parameters()])
    assert torch.equal(controls[0], controls[1])
    assert not torch.equal(controls[0], controls[2]) and not torch.equal(controls[0], own)


@pytest.mark.gpu
@pytest.mark.parametrize("mixer", ["mamba", "mamba2", "context_token"])
def test_figures_on_a_gpu_are_those_of_the_cpu(mixer: str) -> None:
    model, tokens = new_model(mixer=mixer), some_tokens(8, 40)
    expected = ContextDiagnostics().measured(model, tokens)
    found = ContextDiagnostics().measured(model.cuda(), tokens.cuda())
    assert found == pytest.approx(expected, rel=1e-2, abs=1e-3)
    with untrained(model, 0) as control:
        assert next(control.parameters()).is_cuda
        assert ContextDiagnostics().measured(control, tokens.cuda()).keys() == found.keys()


class Published:
    """An untrained context block of a sibling's size over words as often as Zipf's law has them."""

    def __init__(self, d_context: int, d_input: int, length: int) -> None:
        torch.manual_seed(0)
        self.block = ContextBlock(d_context, d_input, layers=1, expand=0)
        words = F.layer_norm(torch.randn(1000, d_input), (d_input,))
        drawn = torch.multinomial(1 / torch.arange(1.0, 1001.0), length, replacement=True)
        self.of_inputs = self.block.of_inputs(words[drawn][None])
        self.counted_BL = torch.ones(1, length, dtype=torch.bool)

    def sequential(self, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        start = torch.zeros(1, self.block.d_context) if memory is None else memory
        contexts = self.block.sequential(start, self.of_inputs)[-1]
        return contexts, contexts[:, -1]

    def sweep(self, previous_BLC: Tensor) -> Tensor:
        return self.block.sweep(previous_BLC, self.of_inputs)[-1]


def test_an_untrained_block_of_the_published_size_settles_as_was_published() -> None:
    with torch.no_grad():
        recurrence = Published(500, 768, 300)
        rates = [by_sweep(recurrence, 20)[sweep - 1][0] for sweep in (5, 10, 15, 20)]
        # 0.2, 4, 71 and 99.4 %
        assert rates[0] < 0.03 and 0.01 < rates[1] < 0.12 and 0.5 < rates[2] < 0.9
        assert rates[3] > 0.98
        along = by_token(repeated(recurrence, 2)[0], recurrence.counted_BL)
    # 0.75 at the first token, 0.12 at the tenth, 2e-4 at the thirtieth, then 0
    assert 0.6 < along[0] < 0.95 and 0.02 < along[10] < 0.25
    assert along[30] < 2e-3 and along[100] < 1e-9
