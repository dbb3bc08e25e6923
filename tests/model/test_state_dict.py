"""Parameters are those of mamba_ssm.Mamba: names, shapes, marks, initial values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from tessera.model import MambaMixer, MambaModel
from tessera.model.scans import selective as scan_module

# Read from mamba_ssm 2.3.2's Mamba(256).
MAMBA_SSM_256 = {
    "A_log": (512, 16),
    "D": (512,),
    "in_proj.weight": (1024, 256),
    "conv1d.weight": (512, 1, 4),
    "conv1d.bias": (512,),
    "x_proj.weight": (48, 512),
    "dt_proj.weight": (512, 16),
    "dt_proj.bias": (512,),
    "out_proj.weight": (256, 512),
}


def test_names_shapes_and_dtypes_are_those_of_mamba_ssm() -> None:
    mixer = MambaMixer(256)
    assert {name: tuple(t.shape) for name, t in mixer.state_dict().items()} == MAMBA_SSM_256
    assert all(t.dtype == torch.float32 for t in mixer.state_dict().values())
    assert sum(parameter.numel() for parameter in mixer.parameters()) == 437_760


def test_odd_sizes_round_the_rank_of_dt_up() -> None:
    shapes = {k: tuple(v.shape) for k, v in MambaMixer(40, 8, 3, 3).state_dict().items()}
    assert shapes["dt_proj.weight"] == (120, 3)
    assert shapes["x_proj.weight"] == (3 + 2 * 8, 120)
    assert shapes["conv1d.weight"] == (120, 1, 3)
    assert shapes["A_log"] == (120, 8)


def test_one_layer_has_the_mixer_under_mamba() -> None:
    names = set(MambaModel(84, 256).state_dict())
    outer = {"embedding.weight", "head.weight", "head.bias"}
    assert names == outer | {f"blocks.mixers.0.{name}" for name in MAMBA_SSM_256}
    assert set(MambaModel(84, 256).mamba.state_dict()) == MAMBA_SSM_256.keys()


@pytest.mark.parametrize(
    "copied", [lambda mixer: mixer, copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))]
)
def test_the_marks_for_optimizers_are_there_in_copies_too(copied: Any) -> None:
    mixer = copied(MambaMixer(16))
    marked = {n for n, p in mixer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D"}
    assert mixer.dt_proj.bias._no_reinit


def test_initial_values_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    mixer = MambaMixer(256)
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17).expand(512, 16))
    assert torch.equal(mixer.D, torch.ones(512))
    dt = torch.nn.functional.softplus(mixer.dt_proj.bias.detach())
    assert dt.min() >= 0.99e-3 and dt.max() <= 1.01e-1
    # Log-uniform: as many below the geometric middle as above it.
    assert 0.4 < (dt < 1e-2).float().mean() < 0.6
    weight = mixer.dt_proj.weight.abs()
    assert weight.max() <= 16**-0.5 and 0.45 < weight.mean() / 16**-0.5 < 0.55


def test_a_checkpoint_moves_between_models(lively) -> None:
    source, target = lively(n_layers=2), MambaModel(84, 24, n_layers=2)
    tokens = torch.arange(20).reshape(2, 10)
    assert not torch.allclose(source(tokens), target(tokens), atol=1e-2)
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(tokens), target(tokens))


def test_the_real_mamba_ssm_has_the_same_state_dict() -> None:
    found, problem = scan_module._find_mamba_ssm()
    if found is None:
        pytest.skip(f"needs mamba_ssm: {problem}")
    import mamba_ssm

    torch.manual_seed(5)
    theirs = mamba_ssm.Mamba(48).state_dict()
    torch.manual_seed(5)
    ours = MambaMixer(48).state_dict()
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, msg=name)
    MambaMixer(48).load_state_dict(theirs)
    mamba_ssm.Mamba(48).load_state_dict(ours)
