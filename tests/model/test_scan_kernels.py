"""The Triton kernels equal the plain code in float64, interpreted without a GPU; all compile."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from tessera.model import MambaModel, SelectiveScan, backend, selective_scan
from tessera.model import heads as heads_module
from tessera.model.convolution import causal_convolution
from tessera.model.scans import selective as scan_module
from tessera.model.scans.mobius import plain_mobius_scan
from tessera.model.selective_mixing import mix_channels, triton_mixing
from tests.interpreted import begun, succeed
from tests.model.kernel_results import NO_TOKENS, PARTS, mixer_outputs, model_losses
from tests.model.mobius_cases import mobius_cases
from tests.model.scan_cases import (
    CONVOLUTIONS,
    LOSSES,
    MIXINGS,
    SCANS,
    Losses,
    Tensors,
    as_float64,
    run,
)

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

# Of the largest element, by the dtype that goes in and comes out.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything in ``kernel_results``, computed by the kernels in Triton's interpreter."""
    folder = tmp_path_factory.mktemp("kernels")
    # The scans take as long as all the rest, and the machine that runs the tests has two cores.
    shares = {"scans.pt": ["scans"], "rest.pt": [part for part in PARTS if part != "scans"]}
    module = "tests.model.kernel_results"
    succeed(*[begun(module, folder / name, *parts) for name, parts in shares.items()])
    return {k: v for name in shares for k, v in torch.load(folder / name).items()}


def assert_close(actual: Tensors, expected: Tensors, tolerance: float) -> None:
    """Every tensor is there, and no element is further off than a part of the largest."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        if value.numel():
            worst = (actual[name].to(value) - value).abs().max()
            assert worst <= tolerance * value.abs().max(), f"{name} is off by {worst:.2e}"


@needs_triton
@pytest.mark.parametrize("name", SCANS)
def test_the_interpreted_scan_and_all_gradients_are_the_plain_ones(name, interpreted) -> None:
    case = SCANS[name]
    expected = run(selective_scan, as_float64(case.inputs()))
    actual = interpreted["scans"][name]
    assert_close(actual, expected, TOLERANCES[case.dtype])
    assert actual["output"].dtype == actual["x_BLD"].dtype == case.dtype
    assert actual["last"].dtype == actual["A_DN"].dtype == torch.float32


@needs_triton
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_interpreted_convolution_and_its_gradients_are_the_plain_ones(
    name, interpreted
) -> None:
    case = CONVOLUTIONS[name]
    expected = run(causal_convolution, as_float64(case.inputs()))
    actual = interpreted["convolutions"][name]
    assert_close(actual, expected, TOLERANCES[case.dtype])
    assert actual["output"].dtype == actual["x_BLD"].dtype == case.dtype
    assert actual["taps_DK"].dtype == torch.float32


@needs_triton
@pytest.mark.parametrize("name", MIXINGS)
def test_the_interpreted_mixing_and_its_gradients_are_the_plain_ones(name, interpreted) -> None:
    case = MIXINGS[name]
    expected = run(mix_channels, as_float64(case.inputs()))
    actual = interpreted["mixings"][name]
    # Each part rounds to bfloat16, and the interpreter cuts digits off where a GPU rounds.
    assert_close(actual, expected, 1e-5 if case.dtype == torch.float32 else 5e-2)
    assert actual["output"].dtype == actual["xz_BLE"].dtype == case.dtype
    assert actual["select_MD"].dtype == actual["dt_DR"].dtype == torch.float32


@needs_triton
@pytest.mark.parametrize("name", LOSSES)
def test_the_interpreted_losses_and_their_gradient_are_the_plain_ones(name, interpreted) -> None:
    case = LOSSES[name]
    expected = run(case.plain, as_float64(case.inputs()))
    actual = interpreted["losses"][name]
    assert_close(actual, expected, TOLERANCES[case.dtype])
    is_pad = case.inputs()["targets_T"] == case.tokens - 2
    assert is_pad.any() and not actual["output"][is_pad].any()
    assert not actual["logits_TV"][is_pad].any() and actual["logits_TV"].dtype == case.dtype


@needs_triton
def test_a_target_that_is_no_token_has_no_number_and_touches_no_other(interpreted) -> None:
    case, actual = Losses(9, 7), interpreted["losses of no tokens"]
    expected = run(case.plain, as_float64(case.inputs()))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name][NO_TOKENS].isnan().all(), name
        others = [row for row in range(len(value)) if row not in NO_TOKENS]
        assert torch.allclose(actual[name][others].double(), value[others], atol=1e-5), name


@needs_triton
def test_the_mixings_products_are_counted_the_one_that_is_computed_again_too(interpreted) -> None:
    case = MIXINGS["new-games"]
    positions = case.games * case.length
    selected, again = (case.rank + 2 * case.states) * case.channels, case.rank * case.channels
    # A multiplication and an addition each; the backward takes two products for one.
    assert interpreted["flops"] == 2 * positions * (3 * (selected + again) + again)


@needs_triton
def test_pad_leaves_the_state_and_gets_no_gradient_bit_for_bit(interpreted) -> None:
    case = SCANS["frozen"]
    moves = case.length - case.pads
    inputs = as_float64(case.inputs())
    cut = {k: v[:, :moves] if v is not None and "BL" in k else v for k, v in inputs.items()}
    del cut["is_pad_BL"]
    actual = interpreted["scans"]["frozen"]
    assert_close({"last": actual["last"]}, {"last": selective_scan(**cut)[1]}, 1e-6)
    assert not actual["dt_BLD"][:, moves:].any() and not actual["B_BLN"][:, moves:].any()
    assert actual["dt_BLD"][:, :moves].all()


@needs_triton
def test_a_mixer_of_kernels_is_the_plain_mixer(interpreted) -> None:
    expected, actual = mixer_outputs("torch"), interpreted["mixer"]
    assert actual["autocast"].dtype == torch.bfloat16
    cast = {"autocast": actual.pop("autocast")}
    assert_close(cast, {"autocast": expected.pop("autocast").float()}, 2e-2)
    assert_close(actual, expected, 1e-5)


@needs_triton
def test_the_losses_of_a_model_of_kernels_are_those_of_the_plain_model(
    interpreted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "has_kernels", heads_module.has_kernels)  # put back after
    expected = model_losses("torch")
    assert expected["losses"].shape == (2, 4) and (expected["losses"] == 0).sum() == 1
    assert_close(interpreted["model"], expected, 1e-5)


@needs_triton
def test_torch_compile_sees_one_graph_and_changes_nothing(interpreted) -> None:
    compiled = interpreted["compiled mixer"]
    assert all(torch.equal(compiled[k], value) for k, value in interpreted["mixer"].items())


@needs_triton
def test_torch_accepts_the_operators(interpreted) -> None:
    said = interpreted["operators"]
    assert len(said) == 30 and set(said.values()) == {"SUCCESS"}, said


@needs_triton
@pytest.mark.parametrize("architecture", [80, 89, 90])
def test_every_kernel_compiles_without_a_gpu(architecture: int) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 replaces the compiler")
    from tests.go.compile_kernels import has_assembler
    from tests.model.compile_kernels import compile_all

    if not has_assembler():
        pytest.skip("this Triton brings no ptxas")
    for name, registers, spilled in compile_all(architecture):
        if name == "scan_backward_kernel":
            # A chunk's states and decays take half of all registers; a few more wait outside.
            assert 0 < registers <= 255 and spilled <= 1400, f"{name} spills {spilled} bytes"
        else:
            assert spilled == 0, f"{name} spills {spilled} bytes of registers"
            # With more registers a multiprocessor would hold fewer than 16 warps, or 24.
            most = 80 if name == "norm_forward_kernel" else 128
            assert 0 < registers <= most, f"{name} takes {registers} registers"


@needs_triton
@pytest.mark.parametrize("resident", [1, 2, 136, 1056])
@pytest.mark.parametrize("num_blocks", [1, 3, 16])
def test_the_backward_divides_all_work_over_a_full_gpu(resident: int, num_blocks: int) -> None:
    from tessera.model.kernels.scan_launch import divide

    for num_games in (1, 3, 64, 512, 1057, 4096, 16384):
        programs, splits = divide(num_games, num_blocks, resident)
        assert 1 <= programs <= num_games and 1 <= splits < 2 * num_blocks
        assert programs * splits <= max(resident, splits)
        # A split costs memory, so there is none where the games alone keep the GPU busy.
        if num_games >= 10 * resident:
            assert splits == 1
        if num_games * num_blocks >= 10 * resident:
            rounds = -(-num_games // programs)
            assert num_games * splits >= 0.9 * rounds * resident


def test_auto_takes_triton_then_mamba_ssm_then_the_plain_scan(monkeypatch, caplog) -> None:
    device = torch.device("cuda", 0)
    missing, kernel = "", object()
    monkeypatch.setattr(backend, "triton_obstacle", lambda device: missing)
    monkeypatch.setattr(scan_module, "_find_mamba_ssm", lambda: (kernel, "no mamba_ssm"))
    backend._log_fallback.cache_clear()
    assert backend._choose(SelectiveScan, "auto", device) == "triton"
    assert backend._choose(SelectiveScan, "auto", torch.device("cpu")) == "torch"
    assert not caplog.messages
    missing = "compute capability 8.0 or above, and this GPU has 7.5"
    assert [backend._choose(SelectiveScan, "auto", device) for _ in range(2)] == ["mamba_ssm"] * 2
    (message,) = caplog.messages
    assert "runs mamba_ssm for SelectiveScan: slower" in message and missing in message
    kernel = None
    assert [backend._choose(SelectiveScan, "auto", device) for _ in range(2)] == ["torch"] * 2
    assert "runs torch for SelectiveScan: slower" in caplog.messages[1]
    assert "no mamba_ssm" in caplog.messages[1]
    assert len(caplog.messages) == 2
    with pytest.raises(ValueError, match=r"auto or torch on cuda:0, got triton: Triton needs comp"):
        backend._choose(SelectiveScan, "triton", device)


@needs_triton
def test_the_kernels_refuse_tensors_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = MambaModel(84, 8, scan="triton")
    with pytest.raises(ValueError, match="on cpu, got triton: Triton needs a CUDA device"):
        model(torch.zeros(1, 3, dtype=torch.int64))


def test_asking_for_a_missing_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"auto or torch.*got triton.*pip install triton"):
        SelectiveScan("triton")
    assert SelectiveScan("auto").scan == "auto"


@needs_triton
def test_more_taps_or_digits_than_the_kernels_have_are_left_to_the_plain_form() -> None:
    from tessera.model.convolution import triton_convolution
    from tessera.model.scans.selective import triton_scan

    inputs = as_float64(SCANS["three-positions"].inputs())
    for actual, expected in zip(triton_scan(**inputs), selective_scan(**inputs), strict=True):
        assert actual.dtype == torch.float64 and torch.equal(actual, expected)
    inputs = as_float64(MIXINGS["new-games"].inputs())
    for actual, expected in zip(triton_mixing(**inputs), mix_channels(**inputs), strict=True):
        assert actual.dtype == torch.float64 and torch.equal(actual, expected)
    x_BLD, taps_DK = torch.randn(1, 3, 2), torch.randn(2, 9)
    expected = causal_convolution(x_BLD, taps_DK, taps_DK[:, 0])
    assert torch.equal(triton_convolution(x_BLD, taps_DK, taps_DK[:, 0]), expected)


@needs_triton
@pytest.mark.parametrize("name", mobius_cases())
def test_the_interpreted_hyperbolic_recurrence_and_its_gradients_are_the_plain_ones(
    name, interpreted
) -> None:
    expected = run(plain_mobius_scan, as_float64(mobius_cases()[name]))
    assert_close(interpreted["mobius"][name], expected, 2e-5)
