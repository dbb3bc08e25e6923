"""The norm's kernels on a GPU: float64 at every size, the same bits twice, in models too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings
from tessera.model import norm as norm_module
from tessera.model.norm import add_and_normalize, triton_add_and_normalize
from tests.model.norm_cases import CASES, Case, checked_operators, kept_bytes, tolerance
from tests.model.scan_cases import Tensors, as_float64, relative_error

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
BFLOAT16 = torch.bfloat16
WIDTHS = [1, 2, 3, 31, 32, 33, 64, 100, 255, 256, 257, 384, 512, 768, 1000, 1024, 2048, 4096, 6000]


def assert_right(case: Case) -> None:
    """Results and gradients are those of float64, with the dtypes of the plain form."""
    inputs = case.inputs("cuda")
    actual = case.computed(triton_add_and_normalize, inputs)
    expected = case.computed(add_and_normalize, as_float64(inputs))
    plain = case.computed(add_and_normalize, inputs)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert actual[name] is None
            continue
        assert actual[name].dtype == plain[name].dtype, name
        assert actual[name].shape == value.shape and actual[name].isfinite().all(), name
        worst = (actual[name].double() - value).abs().max()
        assert worst <= tolerance(case) * value.abs().max(), f"{name} is off by {worst:.2e}"
        lost = relative_error(plain[name], value) if value.any() else 0.0
        assert not value.any() or relative_error(actual[name], value) <= 1.3 * lost + 1e-6, name


@pytest.mark.parametrize("name", CASES)
def test_the_norm_and_all_gradients_equal_float64(name: str) -> None:
    assert_right(CASES[name])


@pytest.mark.parametrize("width", WIDTHS)
def test_any_width_equals_float64(width: int) -> None:
    for rows in (1, 2, 77, 5000):
        assert_right(Case((rows, width)))
        assert_right(Case((rows, width), added=BFLOAT16, normed=BFLOAT16))


@pytest.mark.parametrize("rows", [1, 3, 4095, 4096, 4224, 8449, 132_096])
def test_few_and_many_vectors_equal_float64(rows: int) -> None:
    assert_right(Case((rows, 256), added=BFLOAT16, normed=BFLOAT16))
    assert_right(Case((rows, 96), added=None, normed=BFLOAT16))


def test_the_sum_is_torchs_bit_for_bit() -> None:
    for case in CASES.values():
        if case.reads_sum:
            inputs = case.inputs("cuda")
            ours, plain = (
                case.computed(norm, inputs)["last"]
                for norm in (triton_add_and_normalize, add_and_normalize)
            )
            assert torch.equal(ours, plain)


def test_gradients_are_the_same_bits_every_time() -> None:
    for case in (
        Case((132_096, 256), added=BFLOAT16, normed=BFLOAT16),
        Case((5001, 1000)),
        Case((3001, 4096), added=None, normed=BFLOAT16),
    ):
        inputs = case.inputs("cuda")
        first, second = (case.computed(triton_add_and_normalize, inputs) for _ in range(2))
        for name, value in first.items():
            assert value is None or torch.equal(second[name], value), name


def test_tensors_that_lie_otherwise_are_taken_too() -> None:
    inputs = Case((6, 40), added=BFLOAT16, normed=BFLOAT16).inputs("cuda")
    turned = {
        name: value if value is None or value.dim() == 1 else value.t().contiguous().t()
        for name, value in inputs.items()
    }
    expected = triton_add_and_normalize(**inputs, eps=1e-5, dtype=BFLOAT16)
    actual = triton_add_and_normalize(**turned, eps=1e-5, dtype=BFLOAT16)
    assert all(map(torch.equal, actual, expected))


def test_offsets_beyond_two_billion_elements_are_reached() -> None:
    if torch.cuda.get_device_properties(0).total_memory < 60e9:
        pytest.skip("needs 60 GB of GPU memory")
    shape = (2**20 + 5, 2048)
    hidden = torch.zeros(shape, device=GPU, dtype=BFLOAT16)
    hidden[-3:] = torch.randn(3, 2048, device=GPU)
    leaf, weight = hidden.clone().requires_grad_(), torch.ones(2048, device=GPU)
    total, normed = triton_add_and_normalize(leaf, hidden, weight, 1e-5)
    # Along the vectors themselves a gradient is what rounding leaves of zero.
    normed.backward(hidden.roll(1, 1))
    assert leaf.grad is not None
    end = hidden[-3:].clone().requires_grad_()
    # Of ones nothing is lost, and torch warns of a weight of another dtype.
    expected_total, expected = add_and_normalize(end, hidden[-3:], weight.to(BFLOAT16), 1e-5)
    expected.backward(hidden[-3:].roll(1, 1))
    assert end.grad is not None and torch.equal(total[-3:], expected_total)
    assert relative_error(normed[-3:], expected) < 1e-2
    assert relative_error(leaf.grad[-3:], end.grad) < 2e-2


def test_torch_accepts_the_operators() -> None:
    said = checked_operators("cuda")
    assert len(said) == 10 and set(said.values()) == {"SUCCESS"}, said


def test_nothing_but_the_sum_is_kept_for_the_backward() -> None:
    assert kept_bytes(triton_add_and_normalize, "cuda") == 4 + 2


def model(**settings: Any) -> GameModel:
    torch.manual_seed(0)
    built = GameModel(ModelSettings(vocab_size=84, d_model=64, n_layers=3, **settings))
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn(weight.shape)
            if name.startswith("head"):
                weight += torch.randn(weight.shape) / 8
    return built.to(GPU).train()


def tokens() -> Tensor:
    found = torch.randint(0, 82, (9, 65), generator=torch.Generator().manual_seed(4))
    found[0, 30:] = 82
    return found.to(GPU)


def trained(built: GameModel, autocast: bool = True) -> Tensors:
    """Losses and gradients of one batch."""
    built.zero_grad()
    with torch.autocast("cuda", BFLOAT16, enabled=autocast):
        losses = built(tokens(), tokens().roll(-1, 1))
    losses.mean().backward()
    found = {"losses": losses.detach()}
    for name, weight in built.named_parameters():
        assert weight.grad is not None
        found[name] = weight.grad.clone()
    return found


PARTS = pytest.mark.parametrize(
    "settings", [{}, {"feed_forward": "dense"}, {"mixer": "attention", "feed_forward": "dense"}]
)


@PARTS
def test_a_model_of_kernels_loses_no_more_than_the_plain_norm(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, fast_exact = trained(model(**settings)), trained(model(**settings), autocast=False)
    monkeypatch.setattr(norm_module, "has_kernels", lambda device: False)
    plain, exact = trained(model(**settings)), trained(model(**settings), autocast=False)
    for name, value in exact.items():
        assert relative_error(fast_exact[name], value) < 1e-4, name
        lost = relative_error(plain[name], value)
        assert relative_error(fast[name], value) < 1.3 * lost + 5e-3, name


@PARTS
@pytest.mark.parametrize("autocast", [False, True])
def test_activations_that_are_made_again_give_the_same_bits(
    settings: dict[str, Any], autocast: bool
) -> None:
    kept = trained(model(**settings), autocast)
    again = trained(model(**settings, checkpoint_activations=True), autocast)
    for name, value in kept.items():
        assert torch.equal(again[name], value), name


@PARTS
@torch.no_grad()
def test_steps_equal_the_whole_game(settings: dict[str, Any]) -> None:
    built, games = model(**settings).eval(), tokens()[1:, :20]
    whole = built(games)
    _, state = built.prefill(games[:, :5])
    held = built.init_state(len(games), max_moves=20)
    for ply in range(20):
        is_new = torch.full((len(games),), ply == 0, device=GPU)
        in_place = built.step_in_place(games[:, ply], held, is_new)
        torch.testing.assert_close(in_place, whole[:, ply], rtol=1e-4, atol=1e-4)
        if ply >= 5:
            logits, state = built.step(games[:, ply], state)
            torch.testing.assert_close(logits, whole[:, ply], rtol=1e-4, atol=1e-4)


def test_it_can_be_captured_in_a_graph() -> None:
    case = Case((513, 256), added=BFLOAT16, normed=BFLOAT16)
    inputs = case.inputs("cuda")
    expected = triton_add_and_normalize(**inputs, eps=1e-5, dtype=BFLOAT16)
    held = {name: torch.zeros_like(value) for name, value in inputs.items() if value is not None}
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = triton_add_and_normalize(**held, eps=1e-5, dtype=BFLOAT16)
    for name, value in held.items():
        new = inputs[name]
        assert new is not None
        value.copy_(new)
    graph.replay()
    assert all(map(torch.equal, found, expected))
