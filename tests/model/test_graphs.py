"""On a GPU: a replayed training step is the step, bit for bit, whatever is asked around it."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tessera.accelerator import current
from tessera.model import GameModel, MambaStateCapture, ModelSettings, graphs
from tessera.model.norm import ResidualNorm
from tessera.model.scans import dual as dual_module
from tessera.training.module import decay_groups
from tessera.training.optimizer import GraphedAdamW

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
ONE_AT_A_TIME = "training steps are launched one kernel at a time"
MODELS: dict[str, dict[str, Any]] = {
    "one bare block": {},
    "four blocks": {"n_layers": 4},
    "activations made again": {"n_layers": 2, "checkpoint_activations": True},
    "hybrid": {"n_layers": 2, "mixer": ["mamba", "attention"], "feed_forward": "dense"},
    "mamba2": {"n_layers": 2, "mixer": "mamba2"},
    "undoing": {"n_layers": 2, "mixer": ["gated_delta", "rotating_mamba"]},
    "board": {"n_layers": 2, "features": "board", "head": "points"},
    "landmarks": {"features": "landmarks", "head": "points", "points": {"decoded": 2}},
    "outcome": {"features": "board", "outcome": "win_and_score"},
}


def new_model(**settings: Any) -> GameModel:
    torch.manual_seed(0)
    return GameModel(ModelSettings(vocab_size=84, d_model=64, **settings)).to(GPU).train()


def batch(step: int, model: GameModel | None = None) -> tuple[Any, ...]:
    """Tokens and targets; some end early, and every third batch is longer.

    For a model also what it reads beside them, and scores if it has an outcome.
    """
    generator = torch.Generator(GPU).manual_seed(step)
    length = 24 if step % 3 else 40
    tokens = torch.randint(81, (16, length + 1), generator=generator, device=GPU)
    tokens[3, 10:] = tokens[7, 2:] = 82
    both = tokens[:, :-1], tokens[:, 1:]
    if model is None or model.features is None:
        return both
    shape = (16, length, model.features.num_sets, 9)
    rows = torch.randint(512, shape, generator=generator, device=GPU, dtype=torch.int32)
    scores = torch.randn(16, length, generator=generator, device=GPU) * 9
    tables = model.features.begun(rows)
    return (*both, tables) if model.outcome is None else (*both, tables, scores)


def trained(
    model: GameModel, steps: int = 9, accumulated: int = 1, bfloat16: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """The losses of some steps, and the weights after them."""
    decayed, plain = decay_groups(model)
    optimizer = GraphedAdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], 1e-3)
    optimizer.clip = (0.5, "norm")
    losses = []
    for step in range(steps * accumulated):
        with torch.autocast("cuda", torch.bfloat16, bfloat16):
            loss = model(*batch(step, model)).sum() / 300 / accumulated
        if step % accumulated == 0:
            optimizer.zero_grad()
        loss.backward()
        losses.append(loss.detach())  # and loss lives on, with all that torch keeps of it
        if (step + 1) % accumulated == 0:
            optimizer.set_lr(1e-3 * (step + 1))
            optimizer.step()
    return losses, [weight.detach().clone() for weight in model.parameters()]


def graphed(model: GameModel) -> GameModel:
    model.graph_training()
    return model


def num_captured(model: GameModel) -> int:
    assert model._graphs is not None
    return len(model._graphs._steps)


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_a_replayed_training_is_the_training_bit_for_bit(
    request: pytest.FixtureRequest, name: str, accumulated: int, bfloat16: bool
) -> None:
    if name == "mamba2" and dual_module._find_dual_kernel()[0]:
        request.getfixturevalue("untuned_kernels")
    plain = trained(new_model(**MODELS[name]), accumulated=accumulated, bfloat16=bfloat16)
    model = graphed(new_model(**MODELS[name]))
    replayed = trained(model, accumulated=accumulated, bfloat16=bfloat16)
    assert num_captured(model) == 2
    for ours, theirs in zip(replayed, plain, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_graphs_tell_apart_what_stands_beside_the_tokens() -> None:
    settings = MODELS["outcome"]
    plain, model = new_model(**settings), graphed(new_model(**settings))
    tokens, targets, tables, scores = batch(1, plain)
    generator = torch.Generator(GPU).manual_seed(0)
    shape = (*tokens.shape, 9)
    excluded = torch.randint(512, shape, generator=generator, device=GPU, dtype=torch.int32)
    points = (excluded.unsqueeze(-1) >> torch.arange(9, device=GPU) & 1).bool().flatten(2)
    is_excluded = torch.nn.functional.pad(points, (0, 3)).gather(2, targets[..., None])[..., 0]
    targets = targets.masked_fill(is_excluded, 81)
    for _ in range(2):
        for others in ((), (scores,), (None, excluded), (scores, excluded)):
            found = []
            for each in (plain, model):
                each.zero_grad()
                losses = each(tokens, targets, tables, *others)
                losses.sum().backward()
                found.append([losses, *(weight.grad for weight in each.parameters())])
            for ours, theirs in zip(*found, strict=True):
                assert (ours is None) == (theirs is None)
                assert ours is None or (ours.isfinite().all() and torch.equal(ours, theirs))
    assert num_captured(model) == 4


def test_the_gradients_that_others_put_in_place_are_added_to() -> None:
    model, plain = graphed(new_model()), new_model()
    for each in (model, plain):
        for step in (1, 2, 4, 5):
            each.zero_grad()
            for weight in each.parameters():
                weight.grad = torch.full_like(weight, 0.5)
            each(*batch(step)).sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


def test_a_parameter_without_a_part_in_the_loss_has_no_gradient() -> None:
    model = new_model()
    model.unused = nn.Parameter(torch.ones(3, device=GPU))
    graphed(model)
    for step in (1, 2, 4):
        model.zero_grad()
        model(*batch(step)).sum().backward()
    assert num_captured(model) == 1 and model.unused.grad is None


def test_a_second_batch_before_the_first_ones_backward_is_as_good() -> None:
    model, plain = graphed(new_model()), new_model()
    for each in (model, plain):
        for step in (1, 2, 4):
            each.zero_grad()
            (each(*batch(step)).sum() * each(*batch(step + 10)).mean()).backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


def test_a_loss_that_was_dropped_leaves_the_next_one_alone() -> None:
    model, plain = graphed(new_model()), new_model()
    for step in (1, 2, 4):
        model(*batch(step))
    found = model(*batch(5))
    assert torch.equal(found, plain(*batch(5)))
    kept = found.detach().clone()
    found.sum().backward()
    model(*batch(7))
    assert torch.equal(found, kept)  # it is no memory of the graph's
    with pytest.raises(RuntimeError):
        found.sum().backward()


def test_watchers_see_the_states_and_keep_them() -> None:
    model, plain = graphed(new_model(n_layers=2)), new_model(n_layers=2)
    with MambaStateCapture(model) as ours, MambaStateCapture(plain) as theirs:
        for step in (1, 2, 4):
            model(*batch(step)).sum().backward()
        states = ours.states
        plain(*batch(4))
        assert all(map(torch.equal, states, theirs.states))
        model(*batch(5)).sum().backward()
        assert all(map(torch.equal, states, theirs.states))
        assert not torch.equal(ours.states[0], states[0])
    assert num_captured(model) == 1


def test_hooks_inside_the_model_are_called_at_every_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = graphed(new_model(n_layers=2))
    outside: list[int] = []
    model.register_forward_hook(lambda *_: outside.append(1))
    for step in (1, 2, 4):
        model(*batch(step)).sum().backward()
    assert num_captured(model) == 1 and not caplog.messages
    inside: list[int] = []
    handle = model.blocks.norms[1].register_forward_hook(lambda *_: inside.append(1))
    for step in (1, 2):
        model(*batch(step)).sum().backward()
    handle.remove()
    model(*batch(4)).sum().backward()
    assert len(outside) == 6 and len(inside) == 2
    why = "while a module inside the model or a parameter has a hook"
    assert caplog.messages == [f"{ONE_AT_A_TIME} {why}"]


def test_batches_of_too_many_shapes_run_as_ever_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graphs, "_MOST_STEPS", 1)
    model = graphed(new_model())
    losses = trained(model, steps=9)[0]  # of two lengths
    assert all(map(torch.equal, losses, trained(new_model(), steps=9)[0]))
    assert num_captured(model) == 1
    assert caplog.messages == [f"{ONE_AT_A_TIME} for batches of other shapes than the first 1"]


def test_what_cannot_be_captured_runs_as_ever_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Waiting(ResidualNorm):
        def forward(self, hidden: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
            hidden.sum().item()
            return super().forward(hidden, added)

    model, plain = new_model(n_layers=2), new_model(n_layers=2)
    model.blocks.final_norm = Waiting(64).to(GPU)
    graphed(model)
    with caplog.at_level(logging.WARNING):
        losses = trained(model, steps=6)[0]
    assert all(map(torch.equal, losses, trained(plain, steps=6)[0]))
    said = [record.message for record in caplog.records]
    assert len(said) == 1 and said[0].startswith(f"{ONE_AT_A_TIME}: ")
    torch.cuda.empty_cache()
    torch.randn(1, device=GPU)  # nothing believes that a capture goes on
    other = graphed(new_model())
    trained(other, steps=3)
    assert num_captured(other) == 2


def test_a_part_that_keeps_a_parameter_to_itself_is_not_captured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Keeping(ResidualNorm):
        def __init__(self) -> None:
            super().__init__(64)
            self.scale = nn.Parameter(torch.ones(64))
            self.kept = [self.scale]

        def forward(self, hidden: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
            total, normed = super().forward(hidden, added)
            return total, normed * self.kept[0]

    model = new_model(n_layers=2)
    model.blocks.final_norm = Keeping().to(GPU)
    graphed(model)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 4):
            model.zero_grad()
            model(*batch(step)).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert ["elsewhere than in its attributes" in record.message for record in caplog.records]


def test_a_copy_of_a_model_trains_by_itself() -> None:
    model = graphed(new_model())
    for step in (1, 2, 4):
        model(*batch(step)).sum().backward()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(*batch(5)), model(*batch(5)))


def test_a_moved_model_is_captured_anew() -> None:
    model = graphed(new_model())
    for step in (1, 2, 4):
        model(*batch(step)).sum().backward()
    model.cpu().to(GPU)
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
    plain = new_model()
    plain.load_state_dict(model.state_dict())
    for step in (5, 7, 8):
        losses = [each(*batch(step)) for each in (model, plain)]
        assert torch.equal(*losses)
        for each, loss in zip((model, plain), losses, strict=True):
            each.zero_grad()
            loss.sum().backward()
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert ours.grad is not None and theirs.grad is not None
            assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_what_another_gpu_runs_is_in_the_graph_whichever_is_current() -> None:
    for there in (torch.device("cuda:0"), torch.device("cuda:1")):
        source, graph = torch.ones(3, device=there), torch.cuda.CUDAGraph()
        assert (source * 2).tolist() == [2.0] * 3  # what is launched first is loaded first
        with current(there), graphs.Capture(graph):
            twice = source * 2
        for value in (5.0, 7.0):
            source.fill_(value)
            graph.replay()
            assert twice.tolist() == [2 * value] * 3
    assert torch.cuda.current_device() == 0
