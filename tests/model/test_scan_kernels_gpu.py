"""The Triton kernels on a GPU: the float64 reference at every length, the same bits twice."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tessera.model import MambaMixer, MambaModel, MambaStateCapture, selective_scan
from tessera.model.convolution import causal_convolution, triton_convolution
from tessera.model.scans.selective import triton_scan
from tessera.model.selective_mixing import mix_channels, triton_mixing
from tests.model.kernel_results import checked_operators
from tests.model.scan_cases import (
    Convolution,
    Losses,
    Mixing,
    Scan,
    Tensors,
    as_float64,
    lost_digits,
    relative_error,
    run,
)

pytestmark = pytest.mark.gpu

DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)],
    ids=["float32", "bfloat16"],
)
LENGTHS = [1, 2, 3, 63, 64, 65, 127, 129, 255, 257, 722]
LAYERS = pytest.mark.parametrize("n_layers", [1, 3])


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """The plain form's readout is a matrix product; it must not round to TF32."""
    assert not torch.backends.cuda.matmul.allow_tf32


def assert_close(actual: Tensors, expected: Tensors, tolerance: float) -> None:
    """Every tensor is there and finite, and close by its norm and at its worst element."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape and actual[name].isfinite().all(), name
        if value.numel() and value.any():
            assert relative_error(actual[name], value) < tolerance, name
            worst = (actual[name].double() - value.double()).abs().max()
            assert worst <= tolerance * value.abs().max(), f"{name} is off by {worst:.2e}"


@DTYPES
@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_and_all_gradients_equal_float64(length: int, dtype, tolerance) -> None:
    for case in (
        Scan(5, length, 64, 16, dtype=dtype),
        Scan(3, length, 64, 16, with_state=False, dtype=dtype),
        Scan(2, length, 40, 5, pads=length // 3, dtype=dtype),
    ):
        inputs = case.inputs("cuda")
        assert_close(run(triton_scan, inputs), run(selective_scan, as_float64(inputs)), tolerance)


@pytest.mark.parametrize("states", [1, 8, 16, 32, 64])
def test_any_number_of_states_up_to_64_equals_float64(states: int) -> None:
    inputs = Scan(3, 37, 96, states).inputs("cuda")
    assert_close(run(triton_scan, inputs), run(selective_scan, as_float64(inputs)), 1e-4)


@pytest.mark.parametrize(
    ("games", "length", "channels"), [(1, 40, 512), (700, 9, 512), (2500, 8, 64), (9000, 3, 32)]
)
def test_few_and_many_games_equal_float64(games: int, length: int, channels: int) -> None:
    inputs = Scan(games, length, channels, 16, with_state=False).inputs("cuda")
    assert_close(run(triton_scan, inputs), run(selective_scan, as_float64(inputs)), 1e-4)


@DTYPES
@pytest.mark.parametrize("length", LENGTHS)
def test_the_convolution_and_its_gradients_equal_float64(length: int, dtype, tolerance) -> None:
    for case in (
        Convolution(5, length, 64, 4, dtype=dtype),
        Convolution(300, length, 128, 4, with_before=False, dtype=dtype),
        Convolution(2, length, 70, 8, dtype=dtype),
    ):
        inputs = case.inputs("cuda")
        expected = run(causal_convolution, as_float64(inputs))
        assert_close(run(triton_convolution, inputs), expected, tolerance)


@DTYPES
@pytest.mark.parametrize("length", LENGTHS)
def test_the_mixing_and_its_gradients_equal_float64(length: int, dtype, tolerance) -> None:
    for case in (
        Mixing(5, length, 64, 16, 4, dtype=dtype),
        Mixing(300, length, 128, 16, 8, carried=False, dtype=dtype),
        Mixing(2, length, 40, 5, 3, pads=length // 3, dtype=dtype),
    ):
        inputs = case.inputs("cuda")
        expected, actual = run(mix_channels, as_float64(inputs)), run(triton_mixing, inputs)
        if dtype == torch.float32:
            assert_close(actual, expected, tolerance)
            continue
        # Its parts round to bfloat16, one after the other, as those of the plain form do.
        with torch.autocast("cuda", dtype):
            rounded = run(mix_channels, inputs)
        assert not lost_digits(actual, rounded, expected)


@DTYPES
@pytest.mark.parametrize("tokens", [7, 84, 364])
def test_losses_and_their_gradient_equal_float64(tokens: int, dtype, tolerance) -> None:
    case = Losses(70_000, tokens, dtype=dtype)
    inputs = case.inputs("cuda")
    assert_close(run(case.kernel, inputs), run(case.plain, as_float64(inputs)), tolerance)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_models_losses_are_those_of_its_logits(lively, autocast: bool) -> None:
    model, tokens = lively(d_model=64).cuda(), tokens_with_pad(9, 65)
    targets = tokens.roll(-1, 1)
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        losses, logits = model(tokens, targets), model(tokens)
    expected = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=82, reduction="none"
    )
    assert losses.dtype == torch.float32 and (losses == 0).sum() == (targets == 82).sum() > 0
    assert relative_error(losses.flatten(), expected) < (1e-3 if autocast else 1e-5)


def test_gradients_are_the_same_bits_every_time() -> None:
    games = 600  # more than run at once; the numbers are drawn on the CPU, which takes its time
    scan = Scan(games, 65, 512, 16, dtype=torch.bfloat16).inputs("cuda")
    convolution = Convolution(games, 65, 512, 4, dtype=torch.bfloat16).inputs("cuda")
    mixing = Mixing(games, 65, 512, 16, 16, carried=False, dtype=torch.bfloat16).inputs("cuda")
    cases = ((triton_scan, scan), (triton_convolution, convolution), (triton_mixing, mixing))
    for function, inputs in cases:
        first, second = (run(function, inputs) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_offsets_beyond_two_billion_elements_are_reached() -> None:
    games, length, channels, states = 4200, 512, 1024, 16
    if torch.cuda.get_device_properties(0).total_memory < 60e9:
        pytest.skip("needs 60 GB of GPU memory")
    assert games * length * channels > 2**31
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda", dtype=torch.bfloat16)

    rows = draw(games, length, channels)
    B, C = draw(games, length, states), draw(games, length, states)
    A = -torch.rand(channels, states, device="cuda")
    ones = torch.ones(channels, device="cuda")
    leaf = rows.clone().requires_grad_()
    y, _ = triton_scan(leaf, rows, A, B, C, ones, rows, ones)
    y.backward(rows)
    end = rows[-1:].clone().requires_grad_()
    expected, _ = selective_scan(end, end.detach(), A, B[-1:], C[-1:], ones, end.detach(), ones)
    expected.backward(rows[-1:])
    assert relative_error(y[-1:], expected) < 2e-2
    assert relative_error(leaf.grad[-1:], end.grad) < 2e-2


def test_torch_accepts_the_operators() -> None:
    said = checked_operators("cuda")
    assert len(said) == 30 and set(said.values()) == {"SUCCESS"}, said


# Inductor's advice to round float32 to TF32; this test is about digits that TF32 has not.
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")
def test_torch_compile_sees_one_graph_of_a_mixer() -> None:
    torch.manual_seed(0)
    mixer = MambaMixer(64, scan="triton").cuda()
    hidden = torch.randn(7, 33, 64, device="cuda")
    expected = mixer(hidden)
    expected.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in mixer.named_parameters()}
    mixer.zero_grad(set_to_none=True)
    actual = torch.compile(mixer, fullgraph=True)(hidden)
    actual.square().sum().backward()
    assert relative_error(actual, expected) < 1e-5
    for name, parameter in mixer.named_parameters():
        assert relative_error(parameter.grad, gradients[name]) < 1e-4, name


def tokens_with_pad(games: int, length: int) -> torch.Tensor:
    tokens = torch.randint(0, 82, (games, length), generator=torch.Generator().manual_seed(4))
    tokens[0, length // 2 :] = 82
    return tokens.cuda()


def gradients(model: MambaModel, tokens: torch.Tensor) -> Tensors:
    model.zero_grad(set_to_none=True)
    logits = model(tokens)[:, :-1].flatten(0, 1).float()
    F.cross_entropy(logits, tokens[:, 1:].flatten(), ignore_index=82).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@LAYERS
def test_a_model_of_kernels_is_the_plain_model_in_float32(lively, n_layers: int) -> None:
    fast = lively(d_model=64, n_layers=n_layers, scan="triton").cuda()
    plain = lively(d_model=64, n_layers=n_layers, scan="torch").cuda()
    tokens = tokens_with_pad(9, 65)
    assert relative_error(fast(tokens), plain(tokens)) < 1e-4
    expected = gradients(plain, tokens)
    for name, gradient in gradients(fast, tokens).items():
        assert relative_error(gradient, expected[name]) < 1e-4, name


@LAYERS
def test_under_autocast_the_kernels_lose_no_more_than_the_plain_form(lively, n_layers) -> None:
    fast = lively(d_model=64, n_layers=n_layers, scan="triton").cuda()
    plain = lively(d_model=64, n_layers=n_layers, scan="torch").cuda()
    exact = lively(d_model=64, n_layers=n_layers, scan="torch").double().cuda()
    tokens = tokens_with_pad(9, 65)
    expected = {"logits": exact(tokens), **gradients(exact, tokens)}
    with torch.autocast("cuda", torch.bfloat16):
        actual = {"logits": fast(tokens), **gradients(fast, tokens)}
        rounded = {"logits": plain(tokens), **gradients(plain, tokens)}
    for name, value in expected.items():
        lost = relative_error(rounded[name], value)
        assert relative_error(actual[name], value) < 1.3 * lost + 5e-3, name


@LAYERS
def test_a_training_step_gives_the_same_bits_twice(lively, n_layers: int) -> None:
    model = lively(d_model=64, n_layers=n_layers, scan="triton").cuda()
    tokens = tokens_with_pad(300, 65)
    with torch.autocast("cuda", torch.bfloat16):
        first = {name: value.clone() for name, value in gradients(model, tokens).items()}
        second = gradients(model, tokens)
    assert all(torch.equal(first[name], second[name]) for name in first)


@LAYERS
def test_auto_takes_the_kernels(lively, n_layers: int) -> None:
    fast = lively(d_model=64, n_layers=n_layers, scan="triton").cuda()
    auto = lively(d_model=64, n_layers=n_layers).cuda()
    tokens = tokens_with_pad(3, 64)
    assert torch.equal(auto(tokens), fast(tokens))


@LAYERS
@torch.no_grad()
def test_stepping_and_prefilling_equal_the_whole_game(lively, n_layers: int) -> None:
    model = lively(d_model=64, n_layers=n_layers, scan="triton").cuda()
    tokens = tokens_with_pad(3, 100)[1:]
    with MambaStateCapture(model) as capture:
        whole = model(tokens)
        captured = capture.states
    _, state = model.prefill(tokens[:, :30])
    logits, state = model.prefill(tokens[:, 30:41], state)
    torch.testing.assert_close(logits, whole[:, 30:41], rtol=1e-4, atol=1e-4)
    for ply in range(41, 100):
        logits, state = model.step(tokens[:, ply], state)
        torch.testing.assert_close(logits, whole[:, ply], rtol=1e-4, atol=1e-4)
    for own, layer in zip(captured, state.layers, strict=True):
        torch.testing.assert_close(own, layer.ssm, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_step_can_be_captured_in_a_graph(lively) -> None:
    model = lively(d_model=64, scan="triton").cuda()
    tokens = tokens_with_pad(5, 20)[1:]
    state = model.init_state(4)
    model.step(tokens[:, 0], state)
    token, held = tokens[:, 0].clone(), state.map(torch.clone)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits, after = model.step(token, held)
    for ply in range(20):
        token.copy_(tokens[:, ply])
        graph.replay()
        expected, state = model.step(tokens[:, ply], state)
        assert torch.equal(logits, expected)
        for kept, new in zip(held.layers, after.layers, strict=True):
            kept.conv.copy_(new.conv)
            kept.ssm.copy_(new.ssm)
