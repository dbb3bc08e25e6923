"""Mamba-2 as a mixer: mamba_ssm.Mamba2's parameters, training, depth, and errors.

What it shares with Mamba-1 (causality, steps, PAD, the state and its capture) is in the tests that
name it in MIXERS.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from tessera.model import DualScan, Mamba2Mixer, MambaModel, MambaStateCapture

# Read from mamba_ssm 2.3.2's Mamba2(256, d_state=16), in the order of its state_dict.
MAMBA_SSM_256 = {
    "dt_bias": (8,),
    "A_log": (8,),
    "D": (8,),
    "in_proj.weight": (2 * 512 + 2 * 16 + 8, 256),  # z, x, B, C, dt
    "conv1d.weight": (544, 1, 4),
    "conv1d.bias": (544,),
    "norm.weight": (512,),
    "out_proj.weight": (256, 512),
}


def random_tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 82, shape, generator=torch.Generator().manual_seed(1))


def test_names_shapes_and_order_are_those_of_mamba_ssm() -> None:
    state = Mamba2Mixer(256).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == MAMBA_SSM_256
    assert list(state) == list(MAMBA_SSM_256)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    large = {k: tuple(v.shape) for k, v in Mamba2Mixer(64, 128, 3, 4).state_dict().items()}
    assert large["in_proj.weight"] == (2 * 256 + 2 * 128 + 4, 64)
    assert large["conv1d.weight"] == (512, 1, 3)


def test_initial_values_and_marks_are_those_of_mamba_ssm() -> None:
    torch.manual_seed(0)
    mixer = Mamba2Mixer(256, headdim=1)
    assert torch.equal(mixer.D, torch.ones(512)) and torch.equal(mixer.norm.weight, mixer.D)
    rates = mixer.A_log.detach().exp()
    assert 0.99 < rates.min() < 1.2 and 15.8 < rates.max() < 16.01
    assert 8 < rates.mean() < 9
    dt = F.softplus(mixer.dt_bias.detach())
    assert dt.min() >= 0.99e-3 and dt.max() <= 1.01e-1
    assert 0.4 < (dt < 1e-2).float().mean() < 0.6
    for one in (mixer, copy.deepcopy(mixer)):
        marked = {n for n, p in one.named_parameters() if getattr(p, "_no_weight_decay", False)}
        assert marked == {"dt_bias", "A_log", "D"}


@pytest.mark.parametrize(
    ("d_model", "expand", "headdim"), [(256, 2, 64), (32, 2, 64), (24, 2, 16), (5, 3, 1)]
)
def test_a_head_is_the_largest_power_of_two_that_divides(
    d_model: int, expand: int, headdim: int
) -> None:
    mixer = Mamba2Mixer(d_model, expand=expand)
    assert (mixer.headdim, mixer.num_heads) == (headdim, d_model * expand // headdim)
    mixed, state = mixer.advance(torch.randn(2, 7, d_model))
    assert mixed.shape == (2, 7, d_model)
    assert state.ssm.shape == (2, d_model * expand, 16)
    assert state.conv.shape == (2, 3, d_model * expand + 32)


def test_what_is_wrong_is_said_in_one_line_each() -> None:
    with pytest.raises(ValueError, match=r"^headdim must divide d_inner, 24, got 16\.$"):
        Mamba2Mixer(12, headdim=16)
    with pytest.raises(ValueError) as error:
        Mamba2Mixer(0, d_state=-1, headdim=0)
    assert [line.split()[0] for line in str(error.value).splitlines()] == [
        "d_model",
        "d_state",
        "headdim",
    ]
    with pytest.raises(ValueError, match=r"^mixer must be mamba or mamba2, got mamba3\.$"):
        MambaModel(84, 8, mixer="mamba3")
    for n_layers in (1, 2):
        with pytest.raises(ValueError, match="scan must be auto, mamba_ssm, torch, got 'tri"):
            MambaModel(84, 8, n_layers=n_layers, scan="triton", mixer="mamba2")


@torch.no_grad()
def test_the_norm_is_that_of_the_gated_vectors() -> None:
    mixer, y, z = Mamba2Mixer(12), torch.randn(2, 3, 24), torch.randn(2, 3, 24)
    mixer.norm.weight.copy_(torch.arange(24.0))
    gated = y * z / (1 + torch.exp(-z))
    expected = gated / (gated.square().mean(2, keepdim=True) + 1e-5).sqrt() * torch.arange(24.0)
    torch.testing.assert_close(mixer.norm(y, z), expected)
    torch.testing.assert_close(mixer.norm(gated, None), expected)
    assert mixer.norm(y.bfloat16(), z.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_model_without_a_mixer_named_is_the_one_it_always_was(n_layers: int) -> None:
    torch.manual_seed(3)
    default = MambaModel(84, 16, n_layers=n_layers)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    named = MambaModel(84, 16, 16, 4, 2, n_layers, "auto", 82, False, "mamba")
    assert torch.equal(drawn, torch.rand(1))
    assert list(default.state_dict()) == list(named.state_dict())
    for name, tensor in named.state_dict().items():
        assert torch.equal(tensor, default.state_dict()[name]), name
    assert not any(isinstance(module, DualScan) for module in default.modules())


@pytest.mark.parametrize(("d_model", "n_layers"), [(8, 1), (64, 1), (64, 3)])
def test_a_new_model_starts_at_the_uniform_loss(d_model: int, n_layers: int) -> None:
    torch.manual_seed(d_model + n_layers)
    model, tokens = MambaModel(84, d_model, n_layers=n_layers, mixer="mamba2"), random_tokens(4, 32)
    tokens[2, 5:] = model.pad_token
    log_probs = model(tokens).log_softmax(-1)
    assert (log_probs + math.log(84)).abs().max() < 0.05
    F.nll_loss(log_probs.flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


@pytest.mark.parametrize("n_layers", [1, 3])
def test_training_learns_a_sequence_by_heart(n_layers: int) -> None:
    torch.manual_seed(0)
    model, tokens = MambaModel(84, 32, n_layers=n_layers, mixer="mamba2"), random_tokens(4, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert abs(losses[0] - math.log(84)) < 0.05 and losses[-1] < 1.0


def test_gradients_of_many_blocks_stay_finite_behind_padding() -> None:
    torch.manual_seed(0)
    model = MambaModel(84, 16, n_layers=24, mixer="mamba2")
    tokens = F.pad(random_tokens(2, 9), (5, 0), value=model.pad_token)
    logits = model(tokens)[:, 5:]
    F.cross_entropy(logits.flatten(0, 1), tokens[:, 5:].flatten()).backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@torch.no_grad()
def test_a_checkpoint_goes_into_models_of_its_own_mixer_only() -> None:
    source = MambaModel(84, 16, n_layers=2, mixer="mamba2")
    target = MambaModel(84, 16, n_layers=2, mixer="mamba2")
    target.load_state_dict(source.state_dict())
    tokens = random_tokens(2, 9)
    assert torch.equal(source(tokens), target(tokens))
    with pytest.raises(RuntimeError, match=r"dt_bias"):
        MambaModel(84, 16, n_layers=2).load_state_dict(source.state_dict())


# Beside the real one.


def trained_looks(mixer: torch.nn.Module) -> None:
    """Larger step sizes, and skips and norms that differ from channel to channel."""
    with torch.no_grad():
        mixer.dt_bias += 1
        mixer.D += torch.linspace(-0.5, 0.5, len(mixer.D)).to(mixer.D)
        mixer.norm.weight += torch.linspace(-0.5, 0.5, len(mixer.norm.weight)).to(mixer.D)


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 257])
def test_the_real_mamba2_has_the_same_state_dict_outputs_and_gradients(
    untuned_kernels: None, fused: bool, length: int
) -> None:
    from mamba_ssm import Mamba2

    # A width at which in_proj's rows are multiples of 8, which causal_conv1d asks for.
    torch.manual_seed(5)
    theirs = Mamba2(256, d_state=16, use_mem_eff_path=fused)
    torch.manual_seed(5)
    ours = Mamba2Mixer(256, scan="torch")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    trained_looks(ours)
    theirs.load_state_dict(ours.state_dict())
    kernels = Mamba2Mixer(256, scan="mamba_ssm")
    kernels.load_state_dict(theirs.state_dict())

    hidden, weight = torch.randn(3, length, 256).cuda(), torch.randn(3, length, 256).cuda()

    def results(mixer: torch.nn.Module) -> dict[str, torch.Tensor]:
        mixer, leaf = mixer.cuda(), hidden.clone().requires_grad_()
        mixed = mixer(leaf)
        (mixed * weight).sum().backward()
        grads = {name: parameter.grad for name, parameter in mixer.named_parameters()}
        return {"mixed": mixed.detach(), "hidden": leaf.grad, **grads}

    expected, plain, kernel = results(theirs), results(ours), results(kernels)
    for name, tensor in expected.items():
        for found in (plain[name], kernel[name]):
            # Its products of float32 are rounded to TF32, and sums over all positions may cancel.
            error = float((found - tensor).norm() / (tensor.norm() + 1e-6))
            assert error < (5e-2 if name in ("dt_bias", "A_log", "D") else 1e-2), (name, error)


@pytest.mark.gpu
@pytest.mark.parametrize("n_layers", [1, 3])
@torch.no_grad()
def test_stepping_reaches_the_outputs_and_the_state_of_the_kernels(
    untuned_kernels: None, n_layers: int
) -> None:
    torch.manual_seed(1)
    model = MambaModel(84, 64, n_layers=n_layers, mixer="mamba2").cuda()
    model.head.weight *= 100
    tokens = random_tokens(3, 100).cuda()
    with MambaStateCapture(model) as capture:
        whole = model(tokens)
        captured = capture.states
    _, state = model.prefill(tokens[:, :30])
    logits, state = model.prefill(tokens[:, 30:70], state)
    torch.testing.assert_close(logits, whole[:, 30:70], rtol=1e-2, atol=1e-2)
    for ply in range(70, 100):
        logits, state = model.step(tokens[:, ply], state)
        torch.testing.assert_close(logits, whole[:, ply], rtol=1e-2, atol=1e-2)
    for own, layer in zip(captured, state.layers, strict=True):
        torch.testing.assert_close(own, layer.ssm, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
def test_training_in_bfloat16_on_a_gpu_learns_a_sequence_by_heart(untuned_kernels: None) -> None:
    torch.manual_seed(0)
    model = MambaModel(84, 64, n_layers=2, mixer="mamba2").cuda()
    tokens = random_tokens(4, 17).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.0
