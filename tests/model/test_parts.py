"""One contract for all registered parts: every part that there is has a row, and keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tessera.model import ModelSettings
from tessera.model.embeddings import TokenEmbedding
from tessera.model.settings import part_names
from tessera.model.testing import (
    check_embedding,
    check_features,
    check_feed_forward,
    check_head,
    check_mixer,
    check_model,
    check_outcome,
)
from tessera.model.tied_head import TiedHead

D_MODEL, VOCAB_SIZE = 16, 12

# A part's name, and settings that make a small one whose every size is another.
ROWS: dict[str, list[dict[str, Any]]] = {
    "mamba": [{"d_state": 4}, {"d_state": 3, "d_conv": 2, "expand": 3}, {"d_conv": 1}],
    "mamba2": [{"d_state": 4}, {"d_state": 6, "headdim": 8}, {"d_conv": 1, "expand": 3}],
    "attention": [{"num_heads": 1}, {"num_heads": 4}, {}],
    "gated_delta": [
        {"key_dim": 6, "value_dim": 5, "num_heads": 3},
        {"key_dim": 4, "value_dim": 8, "negative": False, "writes": 3},
        {"d_conv": 1},
    ],
    "rotating_mamba": [{"d_state": 4}, {"d_state": 6, "d_conv": 2, "expand": 3}, {"d_conv": 1}],
    "adaptive_rank": [
        {"max_rank": 6, "min_rank": 5, "average": True},
        {"max_rank": 5, "min_rank": 2, "gate": "straight_through"},
        {"max_rank": 3, "min_rank": 1, "gate": "gumbel", "temperature": 0.5},
    ],
    "bk_core": [{}, {"num_chains": 5}],
    "tangent_attention": [
        {"num_heads": 4},
        {"mode": "exact", "num_heads": 2, "curvature": 0.7, "window": 20},
        {"mode": "hybrid", "num_heads": 2, "curvature": 0.6, "window": 4},
    ],
    "poincare_attention": [{"window": 3}, {"num_heads": 4, "window": 20}],
    "hyperbolic_ssm": [{}, {"d_state": 7}],
    "phase7_hybrid": [{"max_rank": 6, "min_rank": 5, "num_heads": 2, "window": 4}],
    "identity": [{}],
    "context_token": [
        {"d_context": 6},
        {"context_layers": 2, "token_layers": 3, "inputs": 3, "plan": "D", "expand": 2},
        {"d_context": 7, "context_layers": 2, "token_layers": 2, "inputs": 2, "plan": "E"},
        {"sweeps": 40},
    ],
    "dense": [{}, {"expand": 3}],
    "low_rank": [
        {"rank": 3},
        {"kind": "standard", "rank": 5},
        {"kind": "factored", "bias": False},
    ],
    "table": [{}],
    "tensor_train": [{"rank": 3}, {"rank": 2, "factors": "square", "phase": True}],
    "low_rank_table": [{}, {"rank": 3}],
    "kinds": [{}],
    "linear": [{}, {"bias": False}],
    "low_rank_linear": [{"rank": 3}, {}],
    "tied": [{}, {"bias": False}],
    "board": [
        {"channels": 5, "depth": 2, "squeeze": 3},
        {"channels": 4, "depth": 1, "squeeze": 1, "summary": "pooled"},
        {"channels": 6, "depth": 3, "squeeze": 2, "colour": True, "pooled": 2},
    ],
    "landmarks": [{}],
    "points": [{}, {"depth": 2}, {"decoded": 3, "channels": 7}],
    "win_and_score": [{}, {"width": 3}, {"width": 4, "ownership_weight": 1.5}],
}
CHECKS = {
    "features": check_features,
    "mixer": check_mixer,
    "feed_forward": check_feed_forward,
    "embedding": check_embedding,
    "head": check_head,
    "outcome": check_outcome,
}
MAP_CHANNELS = 5
SIZES = {"embedding": (VOCAB_SIZE, D_MODEL, VOCAB_SIZE - 2), "head": (D_MODEL, VOCAB_SIZE)}
_OF_MAP = (D_MODEL, VOCAB_SIZE, MAP_CHANNELS)
OTHER_SIZES = {"points": _OF_MAP, "win_and_score": _OF_MAP}
OTHER_SIZES |= {"board": (D_MODEL, 19), "landmarks": (D_MODEL, 19)}
MORE = {name: {"map_channels": MAP_CHANNELS} for name in ("points", "win_and_score")}
PARTS = [(kind, name) for kind in CHECKS for name in part_names(kind) if name != "none"]
CASES = [(kind, name, row) for kind, name in PARTS for row in ROWS.get(name, [])]
# Where a row's kernels take most of a minute to compile, fewer rows hold as much on a GPU: whatever
# is set above is set in one of them.
FEWER_ON_A_GPU: dict[str, list[dict[str, Any]]] = {
    "mamba2": [{"d_state": 6, "headdim": 8}, {"d_conv": 1, "expand": 3}],
    "gated_delta": [
        {"key_dim": 6, "value_dim": 5, "num_heads": 3, "negative": False, "writes": 3},
        {"d_conv": 1},
    ],
}
ON_A_GPU = [
    (kind, name, row)
    for kind, name in PARTS
    for row in FEWER_ON_A_GPU.get(name) or ROWS.get(name, [])
]

BOARD = {"channels": 5, "depth": 1, "squeeze": 2}
MODELS: dict[str, dict[str, Any]] = {
    "one bare layer": {},
    "bare attention": {"mixer": "attention"},
    "blocks": {"n_layers": 2, "mixer": "mamba2"},
    "Transformer": {"n_layers": 2, "mixer": "attention", "feed_forward": "dense"},
    "hybrid": {"n_layers": 4, "mixer": ["mamba", "attention", "mamba2"], "feed_forward": "dense"},
    "board": {"n_layers": 2, "features": "board", "head": "points", "board": BOARD},
    "board for the head alone": {
        **{"features": "board", "head": "points", "board": {**BOARD, "adds": False}},
        **{"mixer": "context_token"},
    },
    "board and nothing per point": {"features": "board", "board": BOARD},
    "landmarks": {"features": "landmarks", "n_layers": 2},
    "landmarks, and a board in the vector": {
        **{"features": "landmarks", "head": "points", "points": {"decoded": 2, "channels": 4}},
    },
    "outcome": {"outcome": "win_and_score", "win_and_score": {"width": 3}},
    "board and all of its end": {
        "features": "board",
        "outcome": "win_and_score",
        "board": {**BOARD, "colour": True, "pooled": 1},
        "win_and_score": {"ownership_weight": 1.5},
    },
    "board and outcome": {"features": "board", "outcome": "win_and_score", "board": BOARD},
    "position alone": {"mixer": "identity", "features": "board", "head": "points", "board": BOARD},
    "sibling designs": {
        "n_layers": 2,
        "mixer": ["phase7_hybrid", "bk_core"],
        "checkpoint_activations": True,
    },
    "layer norms": {"n_layers": 2, "norm": "layer", "feed_forward": "low_rank"},
    "shared norms": {
        **{"n_layers": 2, "norm": "layer", "shares_norm": True, "feed_forward": "low_rank"},
    },
    "one block with a shared norm": {"feed_forward": "dense", "shares_norm": True},
    "tied": {"n_layers": 2, "head": "tied"},
    "tied tensor train": {"embedding": "tensor_train", "head": "tied"},
    "tied low rank": {"embedding": "low_rank_table", "head": "tied"},
    "low rank": {"embedding": "low_rank_table", "head": "low_rank_linear", "n_layers": 2},
    "hybrid that keeps little": {
        "n_layers": 2,
        "mixer": ["attention", "mamba"],
        "checkpoint_activations": True,
    },
}


def trained(part: nn.Module) -> nn.Module:
    """The part with weights that look trained: nothing is as small as it is at the start."""
    with torch.no_grad():
        for name, parameter in part.named_parameters():
            if name.endswith(("dt_proj.bias", "dt_bias")):
                parameter += 2
            elif parameter.dim() > 1 and not name.endswith("A_log"):
                parameter *= 2
            else:
                parameter += 0.3 * torch.randn_like(parameter)
    return part


def whole(part: nn.Module) -> nn.Module:
    """The part with all that it reads: a tied head is asked with the embedding in it."""
    if isinstance(part, TiedHead):
        embedding = TokenEmbedding(VOCAB_SIZE, D_MODEL, VOCAB_SIZE - 2)
        part.add_module("embedding", embedding)
        part.tie(embedding, "table")
    return part


def check(kind: str, name: str, row: dict[str, Any], device: str, tolerance: float) -> None:
    """Hold a part against its contract."""
    settings = ModelSettings(**{name: row}).part(kind, name)
    build: Callable[..., Any] = lambda *sizes: trained(whole(settings.build(*sizes)))  # noqa: E731
    sizes = OTHER_SIZES.get(name) or SIZES.get(kind, (D_MODEL,))
    stated = settings.num_parameters(*sizes) + (name == "tied") * VOCAB_SIZE * D_MODEL
    check: Any = CHECKS[kind]
    before = torch.get_rng_state()
    check(build, D_MODEL, stated, device, tolerance=tolerance, **MORE.get(name, {}))
    assert torch.equal(torch.get_rng_state(), before), "the check draws random numbers"


def test_every_registered_part_has_a_row() -> None:
    assert {name for _, name in PARTS} == set(ROWS)
    for name, rows in FEWER_ON_A_GPU.items():
        assert {key for row in rows for key in row} == {key for row in ROWS[name] for key in row}


@pytest.mark.parametrize(("kind", "name", "row"), CASES, ids=str)
def test_a_part_keeps_its_contract(kind: str, name: str, row: dict[str, Any]) -> None:
    check(kind, name, row, "cpu", 1e-4)


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_a_model_of_parts_keeps_the_contract(model: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    check_model(ModelSettings(VOCAB_SIZE, D_MODEL, **model))
    assert torch.equal(torch.get_rng_state(), before), "the check draws random numbers"


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "name", "row"), ON_A_GPU, ids=str)
def test_a_part_keeps_its_contract_on_a_gpu(
    request: pytest.FixtureRequest, kind: str, name: str, row: dict[str, Any]
) -> None:
    if name == "mamba2":
        request.getfixturevalue("untuned_kernels")
    # mamba_ssm's products of float32 are rounded to TF32.
    check(kind, name, row, "cuda", 2e-2 if name == "mamba2" else 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_a_model_of_parts_keeps_the_contract_on_a_gpu(
    request: pytest.FixtureRequest, model: dict[str, Any]
) -> None:
    if "mamba2" in model.get("mixer", ""):
        request.getfixturevalue("untuned_kernels")
    check_model(ModelSettings(VOCAB_SIZE, D_MODEL, **model), "cuda", 2e-2)
