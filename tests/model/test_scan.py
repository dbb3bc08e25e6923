"""The plain scan against a naive float64 reference, and the choice between it and the kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model import MambaModel, SelectiveScan, selective_scan
from tessera.model.backend import has_kernels
from tessera.model.scans import selective as scan_module

Arguments = dict[str, Tensor]


def naive_scan(
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_D: Tensor,
    z_BLD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """The recurrence as the paper writes it, one game, position and formula at a time."""
    outputs, states = [], []
    for game in range(len(x_BLD)):
        state, rows = state_BDN[game], []
        for t in range(x_BLD.shape[1]):
            dt_D1 = torch.log1p(torch.exp(dt_BLD[game, t] + dt_bias_D))[:, None]
            state = torch.exp(dt_D1 * A_DN) * state
            state = state + dt_D1 * B_BLN[game, t][None] * x_BLD[game, t][:, None]
            y_D = (state * C_BLN[game, t][None]).sum(1) + D_D * x_BLD[game, t]
            rows.append(y_D * z_BLD[game, t] * torch.sigmoid(z_BLD[game, t]))
        outputs.append(torch.stack(rows))
        states.append(state)
    return torch.stack(outputs), torch.stack(states)


def arguments(length: int, dtype: torch.dtype = torch.float64, games: int = 2) -> Arguments:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "x_BLD": draw(games, length, 5),
        "dt_BLD": draw(games, length, 5),
        "A_DN": -torch.exp(draw(5, 3)),
        "B_BLN": draw(games, length, 3),
        "C_BLN": draw(games, length, 3),
        "D_D": draw(5),
        "z_BLD": draw(games, length, 5),
        "dt_bias_D": draw(5) - 1,
        "state_BDN": draw(games, 5, 3),
    }


def with_gradients(scan: object, inputs: Arguments) -> Arguments:
    """Output, last state, and the gradient of a random function of both in every argument."""
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    output, last = scan(**leaves)
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for value in (output, last)
    ]
    ((output * weights[0]).sum() + (last * weights[1]).sum()).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    return {"output": output.detach(), "last": last.detach(), **gradients}


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 129])
def test_outputs_states_and_all_gradients_equal_the_naive_scan(length: int) -> None:
    inputs = arguments(length)
    expected = with_gradients(naive_scan, inputs)
    actual = with_gradients(selective_scan, inputs)
    single = with_gradients(selective_scan, {k: v.float() for k, v in inputs.items()})
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        torch.testing.assert_close(actual[name], value, rtol=1e-9, atol=1e-9, msg=name)
        scale = value.abs().max().item()
        torch.testing.assert_close(
            single[name].double(), value, rtol=0, atol=2e-5 * scale, msg=name
        )


def test_no_state_means_zeros() -> None:
    inputs = arguments(4)
    zeros = selective_scan(**{**inputs, "state_BDN": torch.zeros_like(inputs["state_BDN"])})
    none = selective_scan(**{**inputs, "state_BDN": None})
    assert torch.equal(none[0], zeros[0]) and torch.equal(none[1], zeros[1])
    assert not torch.equal(none[0], selective_scan(**inputs)[0])


def test_a_sequence_can_be_cut_anywhere_and_carried_on() -> None:
    inputs = arguments(9)
    whole, last = selective_scan(**inputs)
    for cut in range(1, 9):
        head = {k: v[:, :cut] if "BL" in k else v for k, v in inputs.items()}
        tail = {k: v[:, cut:] if "BL" in k else v for k, v in inputs.items()}
        first, state = selective_scan(**head)
        second, end = selective_scan(**{**tail, "state_BDN": state})
        torch.testing.assert_close(torch.cat((first, second), 1), whole)
        torch.testing.assert_close(end, last)


def test_gradients_are_the_same_bits_every_time() -> None:
    inputs = arguments(65, torch.float32, games=16)
    first, second = (with_gradients(selective_scan, inputs) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_large_step_sizes_pass_the_softplus_unchanged() -> None:
    inputs = arguments(3, torch.float32)
    inputs["dt_BLD"] = inputs["dt_BLD"] + 200
    output, last = selective_scan(**inputs)
    assert output.isfinite().all()
    dt = inputs["dt_BLD"][:, -1] + inputs["dt_bias_D"]
    newest = (dt * inputs["x_BLD"][:, -1])[..., None] * inputs["B_BLN"][:, -1, None]
    torch.testing.assert_close(last, newest, rtol=1e-3, atol=1e-3)


def test_autocast_changes_nothing_and_the_state_stays_float32() -> None:
    inputs = arguments(33, torch.float32)
    inputs = {k: v.bfloat16() if "BL" in k else v for k, v in inputs.items()}
    plain = selective_scan(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = selective_scan(**inputs)
    assert torch.equal(plain[0], cast[0]) and torch.equal(plain[1], cast[1])
    assert cast[0].dtype == torch.bfloat16 and cast[1].dtype == torch.float32
    exact = selective_scan(**{k: v.double() for k, v in inputs.items()})
    torch.testing.assert_close(cast[1].double(), exact[1], rtol=1e-4, atol=1e-4)


def official_signature(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> tuple[Tensor, Tensor]:
    """mamba_ssm's entry point: channels before positions, no initial state."""
    assert D is not None and z is not None and delta_bias is not None
    assert delta_softplus and return_last_state
    state = u.new_zeros(*u.shape[:2], A.shape[1])
    outputs = []
    dt = F.softplus(delta + delta_bias[:, None])
    for t in range(u.shape[2]):
        state = torch.exp(dt[:, :, t, None] * A) * state
        state = state + (dt * u)[:, :, t, None] * B[:, None, :, t]
        outputs.append((state * C[:, None, :, t]).sum(-1))
    return (torch.stack(outputs, 2) + D[:, None] * u) * F.silu(z), state


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Puts a package named mamba_ssm in place: with its kernel, without it, or none at all."""

    def put(kernel: object, present: bool = True) -> None:
        interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
        interface.selective_scan_cuda = kernel
        interface.selective_scan_fn = official_signature
        ops = ModuleType("mamba_ssm.ops")
        ops.selective_scan_interface = interface
        for module in (ModuleType("mamba_ssm"), ops, interface):
            monkeypatch.setitem(sys.modules, module.__name__, module if present else None)
        scan_module._find_mamba_ssm.cache_clear()

    yield put
    scan_module._find_mamba_ssm.cache_clear()


def test_the_kernel_is_called_in_its_own_layout(install) -> None:
    install(kernel=object())
    inputs = {**arguments(7, torch.float32), "state_BDN": None}
    actual = scan_module.mamba_ssm_scan(**inputs)
    expected = selective_scan(**inputs)
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1], expected[1])


def test_the_kernel_leaves_an_initial_state_to_the_plain_scan(install) -> None:
    install(kernel=object())
    inputs = arguments(7, torch.float32)
    actual, expected = scan_module.mamba_ssm_scan(**inputs), selective_scan(**inputs)
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("present", [True, False])
def test_asking_for_a_missing_mamba_ssm_says_what_to_install(install, present: bool) -> None:
    install(kernel=None, present=present)
    with pytest.raises(ValueError, match=r"scan must be auto or torch.*mamba_ssm.*pip install .*"):
        MambaModel(84, 8, scan="mamba_ssm")
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    assert MambaModel(84, 8, scan="auto")(tokens).isfinite().all()


def test_the_kernel_refuses_tensors_on_the_cpu(install) -> None:
    install(kernel=object())
    model = MambaModel(84, 8, scan="mamba_ssm")
    with pytest.raises(ValueError, match="scan must be auto or torch on cpu, got mamba_ssm"):
        model(torch.zeros(1, 3, dtype=torch.int64))


def test_an_unknown_scan_is_refused() -> None:
    with pytest.raises(ValueError, match="scan must be auto, triton, mamba_ssm, torch, got 'fast'"):
        SelectiveScan("fast")


def test_an_answer_is_constant_when_compiled_as_torch_itself_would_say_it() -> None:
    def plain() -> None: ...

    marks = vars(torch.compiler.assume_constant_result(plain))
    assert marks and marks.items() <= vars(has_kernels).items()
