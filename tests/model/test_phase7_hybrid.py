"""Phase 7's hybrid is its three parts, and both of them are heard."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model import GameModel, ModelSettings
from tessera.model.mixers.phase7_hybrid import Phase7HybridMixer

D_MODEL = 16


def new(**settings: int) -> Phase7HybridMixer:
    torch.manual_seed(0)
    return Phase7HybridMixer(D_MODEL, max_rank=6, min_rank=2, num_heads=2, window=4, **settings)


def joined(mixer: Phase7HybridMixer, hidden: Tensor, share: Tensor) -> Tensor:
    far, near = mixer.ranks(hidden), mixer.attention(hidden)
    weight, bias = mixer.norm.weight, mixer.norm.bias
    return F.layer_norm(share * near + (1 - share) * far, (D_MODEL,), weight, bias)


@torch.no_grad()
def test_it_is_its_parts_joined_by_the_chain_s_imaginary_part() -> None:
    mixer, hidden = new(), torch.randn(2, 9, D_MODEL)
    share = (1.0 * mixer.chain(hidden, None, None).imag.abs()).sigmoid()
    torch.testing.assert_close(mixer(hidden), joined(mixer, hidden, share))
    # With w = 1 the local part has at least half; a negative w leaves it less.
    assert (share > 0.5).all()
    mixer.resonance.fill_(-3.0)
    share = (-3 * mixer.chain(hidden, None, None).imag.abs()).sigmoid()
    assert (share < 0.5).all()
    torch.testing.assert_close(mixer(hidden), joined(mixer, hidden, share))
    # Which part a position hears is not the same everywhere.
    assert share.std() > 0.01


@torch.no_grad()
def test_it_remembers_what_its_window_has_forgotten() -> None:
    mixer, hidden = new(), torch.randn(1, 30, D_MODEL)
    changed = hidden.clone()
    changed[0, 3] += 3
    moved = (mixer(changed) - mixer(hidden))[0].norm(dim=-1)
    assert not moved[:3].any()
    assert (moved[3:] > 0).all()
    assert not (mixer.attention(changed) - mixer.attention(hidden))[0, 8:].any()


def test_all_of_it_learns_and_its_ranks_cost() -> None:
    settings = ModelSettings(84, D_MODEL, mixer="phase7_hybrid", n_layers=2)
    model = GameModel(settings)
    assert model.blocks.penalty_names == ("effective_rank", "penalty")
    model.blocks.at_step(0)
    mixer = model.blocks.mixer(1)
    assert isinstance(mixer, Phase7HybridMixer)
    assert float(mixer.ranks.rank) == 4
    tokens, targets = torch.randint(0, 81, (2, 2, 12))
    model(tokens, targets, penalized=True)[::2].sum().backward()
    # Of the last keys' and gates' gradients none is exactly zero.
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
