"""Mamba-2's scan: chunks against the recurrence, precision, choice of the code, and errors."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest
import torch

from tessera.model import DualScan, backend, dual_scan
from tessera.model.scans import dual as dual_module
from tessera.model.scans.dual import dual_step, mamba_ssm_dual_scan
from tests.model.dual_cases import arguments, one_by_one, relative_errors, results

LENGTHS = pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 127, 129, 257])
STATES = pytest.mark.parametrize("with_state", [False, True], ids=["new", "carried"])
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@LENGTHS
@STATES
def test_chunks_are_the_recurrence_with_all_gradients(length: int, with_state: bool) -> None:
    given = arguments(length, with_state)
    expected = results(one_by_one, given)
    errors = relative_errors(results(dual_scan, given), expected)
    assert max(errors.values()) < 1e-12, errors
    single = [tensor.float() for tensor in given]
    errors = relative_errors(results(dual_scan, single), expected)
    assert max(errors.values()) < 1e-4, errors
    # At the first position of a new game nothing has decayed yet.
    felt = ("y", "last", "x", "dt", "B", "C") + (("A",) if length > 1 or with_state else ())
    assert all(expected[name].abs().max() > 1e-3 for name in felt)


@STATES
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_size_of_a_chunk_changes_nothing(chunk: int, with_state: bool) -> None:
    given = arguments(30, with_state)
    expected = results(dual_scan, given)
    found = results(lambda *leaves: dual_scan(*leaves, *[None] * (8 - len(leaves)), chunk), given)
    assert max(relative_errors(found, expected).values()) < 1e-12


@STATES
def test_a_step_is_a_sequence_of_one_position(with_state: bool) -> None:
    given = arguments(1, with_state)
    errors = relative_errors(results(dual_step, given), results(one_by_one, given))
    assert max(errors.values()) < 1e-12, errors


def test_a_step_size_of_zero_freezes_the_state_exactly() -> None:
    x, dt, A, B, C, D, bias, state = (t.float() for t in arguments(1, with_state=True))
    dt = torch.full_like(dt, -1e4)
    assert torch.equal(dual_step(x, dt, A, B, C, D, bias, state)[1], state)


def test_extreme_decays_leave_finite_gradients() -> None:
    given = [tensor.float() for tensor in arguments(200, with_state=True)]
    given[1] = given[1] + 30.0
    given[2] = given[2] - 100.0
    found = results(dual_scan, given)
    assert all(tensor.isfinite().all() for tensor in found.values())


def test_gradients_keep_their_digits_where_memories_are_short() -> None:
    given = arguments(129, with_state=True)
    given[1] = given[1].clamp(-1, 1) + 1.0
    given[2] = given[2] - 3.0
    found = results(dual_scan, [tensor.float() for tensor in given])
    errors = relative_errors(found, results(one_by_one, given))
    assert max(errors.values()) < 3e-5, errors
    # Of the last state alone, nothing but the last positions matters.
    found = results(dual_scan, [tensor.float() for tensor in given], y_weight=0.0)
    errors = relative_errors(found, results(one_by_one, given, y_weight=0.0))
    assert max(errors[name] for name in ("A", "dt", "x", "B")) < 1e-6, errors


def test_inside_autocast_it_computes_in_float32_and_answers_in_the_dtype_of_x() -> None:
    x, *others = (tensor.float() for tensor in arguments(70, with_state=True))
    y, last = dual_scan(x.bfloat16(), *others)
    assert y.dtype == torch.bfloat16 and last.dtype == torch.float32
    for scan in (dual_scan, DualScan()):
        with torch.autocast("cpu", torch.bfloat16):
            again, carried = scan(x.bfloat16(), *others)
        assert torch.equal(again, y) and torch.equal(carried, last)


def test_the_module_steps_where_there_is_one_position() -> None:
    given = [tensor.float() for tensor in arguments(1, with_state=True)]
    for found, expected in zip(DualScan()(*given), dual_step(*given), strict=True):
        assert torch.equal(found, expected)
    longer = [tensor.float() for tensor in arguments(9, with_state=True)]
    for found, expected in zip(DualScan()(*longer), dual_scan(*longer), strict=True):
        assert torch.equal(found, expected)


# What runs where.


@pytest.fixture
def mamba_ssm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU on which mamba_ssm can be imported, or cannot."""
    problem = "" if request.param else "mamba_ssm cannot be imported (No module)"
    kernel = dual_scan if request.param else None
    monkeypatch.setattr(dual_module, "_find_dual_kernel", lambda: (kernel, problem))
    monkeypatch.setattr(backend, "triton_obstacle", lambda device: "")


@pytest.mark.parametrize("mamba_ssm", [True], indirect=True)
def test_with_mamba_ssm_its_kernels_run_on_a_gpu_and_only_there(mamba_ssm: None) -> None:
    assert DualScan.choose_for("auto", CUDA)[0] == "mamba_ssm"
    assert DualScan.choose_for("mamba_ssm", CUDA) == ("mamba_ssm", "as asked")
    assert DualScan.choose_for("torch", CUDA) == ("torch", "as asked")
    assert DualScan.choose_for("auto", CPU) == ("torch", "the kernels need a CUDA device")
    with pytest.raises(ValueError, match="scan must be auto or torch on cpu, got mamba_ssm"):
        DualScan.choose_for("mamba_ssm", CPU)


@pytest.mark.parametrize("mamba_ssm", [False], indirect=True)
def test_without_mamba_ssm_the_plain_form_runs_and_says_so_once(
    mamba_ssm: None, caplog: pytest.LogCaptureFixture
) -> None:
    taken, why = DualScan.choose_for("auto", CUDA)
    assert taken == "torch" and "cannot be imported" in why and "pip install" in why
    backend._log_fallback.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert backend._choose(DualScan, "auto", CUDA) == "torch"
    assert len(caplog.messages) == 1 and caplog.messages[0].endswith(why)
    with pytest.raises(ValueError, match=r"must be auto or torch here, got mamba_ssm: .* pip"):
        DualScan("mamba_ssm")


@pytest.mark.parametrize("asked", [None, "0"])
def test_mamba_ssm_is_told_to_add_in_a_fixed_order_unless_the_user_has_told_it(
    monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    said: list[bool] = []
    contents = {"": {}, ".ops": {}, ".ops.triton": {}, ".utils": {}}
    contents[".ops.triton.ssd_combined"] = {"mamba_chunk_scan_combined": dual_scan}
    contents[".utils.determinism"] = {"set_deterministic_mode": said.append}
    for name, values in contents.items():
        module = ModuleType("mamba_ssm" + name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delenv("MAMBA_DETERMINISTIC", raising=False)
    if asked is not None:
        monkeypatch.setenv("MAMBA_DETERMINISTIC", asked)
    find = dual_module._find_dual_kernel.__wrapped__
    assert find() == (dual_scan, "")
    assert said == ([True] if asked is None else [])
    # A release that knows no such mode runs as it is.
    monkeypatch.delitem(sys.modules, "mamba_ssm.utils.determinism")
    assert find() == (dual_scan, "")


@pytest.mark.parametrize("scan", ["triton", "fast"])
def test_a_scan_that_mamba2_has_not_is_refused_in_one_line(scan: str) -> None:
    with pytest.raises(ValueError) as error:
        DualScan(scan)
    assert str(error.value) == f"scan must be auto, mamba_ssm, torch, got {scan!r}."


# On a GPU with mamba_ssm.


# Products of float32 are rounded to TF32, of bfloat16 to bfloat16.
@pytest.mark.gpu
@LENGTHS
@STATES
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-3), (torch.bfloat16, 3e-2)])
def test_the_kernel_is_the_recurrence_with_all_gradients(
    untuned_kernels: None, length: int, with_state: bool, dtype: torch.dtype, bound: float
) -> None:
    sizes = {"games": 3, "heads": 4, "headdim": 64, "states": 16}
    given = arguments(length, with_state, **sizes)
    # What bfloat16 cannot hold is no error of the kernel.
    rounded = [
        tensor.to(dtype if index in (0, 1, 3, 4) else torch.float32).cuda()
        for index, tensor in enumerate(given)
    ]
    expected = results(one_by_one, [tensor.double().cpu() for tensor in rounded])
    errors = relative_errors(results(mamba_ssm_dual_scan, rounded), expected)
    assert max(errors.values()) < bound, errors


@pytest.mark.gpu
def test_more_games_than_a_grid_holds_are_cut(
    untuned_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [tensor.float().cuda() for tensor in arguments(65, with_state=True, games=5)]
    whole = mamba_ssm_dual_scan(*given)
    monkeypatch.setattr(dual_module, "_MOST_CHUNKS", 4)
    for found, expected in zip(mamba_ssm_dual_scan(*given), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.gpu
@STATES
def test_the_plain_form_on_a_gpu_is_the_recurrence(with_state: bool) -> None:
    given = arguments(129, with_state)
    on_gpu = [tensor.float().cuda() for tensor in given]
    errors = relative_errors(results(dual_scan, on_gpu), results(one_by_one, given))
    assert max(errors.values()) < 1e-4, errors
