"""The contracts of what knows no other position: feed-forward, embedding, head, outcome."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.embeddings import Embedding
from tessera.model.feed_forward import FeedForward
from tessera.model.heads import Head
from tessera.model.outcome import Outcome, OutcomeHead
from tessera.model.testing.any_part import (
    answers_and_gradients,
    check_any,
    require,
    require_near,
    trying,
)
from tessera.model.trial import maps_of

_GAMES, _LENGTH = 3, 7
_TOLERANCE = 1e-4
_VOCAB_SIZE = 12


def check_feed_forward(
    build: Callable[[int], FeedForward],
    d_model: int = 16,
    num_parameters: int | None = None,
    device: torch.device | str = "cpu",
    tolerance: float = _TOLERANCE,
) -> None:
    """As ``check_mixer``, of a feed-forward layer: zero stays zero, and each position is alone."""
    place = torch.device(device)
    hidden = torch.randn(_GAMES, _LENGTH, d_model, generator=torch.Generator().manual_seed(1))
    hidden = hidden.to(place)

    def new() -> FeedForward:
        return build(d_model).to(place)

    with trying(new, FeedForward, place, d_model) as layer:
        with torch.no_grad():
            answer = layer(hidden)
            require(not layer(torch.zeros_like(hidden)).any(), "zero does not stay zero")
            changed = hidden.roll(1, 0)
            changed[:, 2] = hidden[:, 2]
            is_alone = torch.equal(layer(changed)[:, 2], answer[:, 2])
            require(is_alone, "not position by position: another one makes a difference")
            single = layer(hidden[:, 2])
            what = "not position by position: a single one is answered in another way"
            require_near(single, answer[:, 2], tolerance, what)
        check_any(layer, new, lambda own: (own(hidden),), num_parameters, place)


def check_embedding(
    build: Callable[[int, int, int], Embedding],
    d_model: int = 16,
    num_parameters: int | None = None,
    device: torch.device | str = "cpu",
    vocab_size: int = _VOCAB_SIZE,
    tolerance: float = _TOLERANCE,
) -> None:
    """As ``check_mixer``, of an embedding: PAD is zero, also after training, and each token alone.

    Args:
        build: the embedding of vocab_size, d_model and pad_token, such as its class.
        d_model, num_parameters, device, tolerance: as of ``check_mixer``.
        vocab_size: tokens.
    """
    place, pad = torch.device(device), vocab_size - 2
    tokens = torch.arange(_GAMES * _LENGTH, device=place).view(_GAMES, _LENGTH) % vocab_size

    def new() -> Embedding:
        return build(vocab_size, d_model, pad).to(place)

    with trying(new, Embedding, place, vocab_size, d_model) as embedding:
        with torch.no_grad():
            vectors, is_pad = embedding(tokens), tokens == pad
            require(not vectors[is_pad].any(), "not zero at PAD")
            what = "not token by token"
            require_near(embedding(tokens[:, 3]), vectors[:, 3], tolerance, what)
            require(torch.equal(embedding(tokens.int()), vectors), f"{what}: int32 is another")
            rounded = embedding(tokens, torch.bfloat16)
            require(rounded.dtype == torch.bfloat16, f"not of the dtype: {rounded.dtype}")
        with_pad = answers_and_gradients(embedding, lambda own: (own(tokens),))
        without = answers_and_gradients(embedding, lambda own: (own(tokens[~is_pad][None]),))
        for name, value in without.items():
            if "gradient" in name:
                require_near(with_pad[name], value, tolerance, f"sees PAD: {name}")
        check_any(embedding, new, lambda own: (own(tokens),), num_parameters, place)
        embedding(tokens).sum().backward()
        torch.optim.SGD(embedding.parameters(), lr=1.0).step()
        require(not embedding(tokens)[is_pad].any(), "not zero at PAD: after a step of training")


def check_head(
    build: Callable[..., Head],
    d_model: int = 16,
    num_parameters: int | None = None,
    device: torch.device | str = "cpu",
    vocab_size: int = _VOCAB_SIZE,
    tolerance: float = _TOLERANCE,
    map_channels: int | None = None,
) -> None:
    """As ``check_mixer``, of a head: the losses are the cross-entropy of the logits, 0 at PAD.

    Args:
        build: the head of d_model, vocab_size and, if it reads a map, map_channels, such as its
            class.
        d_model, num_parameters, device, tolerance: as of ``check_mixer``.
        vocab_size: tokens.
        map_channels: of the map that it reads; None if it reads none.
    """
    place, pad = torch.device(device), vocab_size - 2
    hidden_TH = torch.randn(_GAMES * _LENGTH, d_model, generator=torch.Generator().manual_seed(1))
    hidden_TH = hidden_TH.to(place)
    targets_T = torch.arange(len(hidden_TH), device=place) % vocab_size
    sizes = (d_model, vocab_size, *(() if map_channels is None else (map_channels,)))
    maps = maps_of(len(hidden_TH), sizes, place)

    def new() -> Head:
        return build(*sizes).to(place)

    def by_losses(head: Head) -> tuple[Tensor, ...]:
        return (head.losses(hidden_TH, targets_T, pad, *maps),)

    def by_logits(head: Head) -> tuple[Tensor, ...]:
        logits_TV = head(hidden_TH, *maps).float()
        return (F.cross_entropy(logits_TV, targets_T, ignore_index=pad, reduction="none"),)

    with trying(new, Head, place, *sizes) as head:
        (losses,) = by_losses(head)
        require(losses.dtype == torch.float32, f"losses are not float32: {losses.dtype}")
        require(not losses[targets_T == pad].any(), "losses are not 0 at PAD")
        actual, expected = (answers_and_gradients(head, run) for run in (by_losses, by_logits))
        for name, value in expected.items():
            what = f"losses are not the cross-entropy of the logits: {name}"
            require_near(actual[name], value, tolerance, what)
        for run in (by_losses, lambda own: (own(hidden_TH, *maps),)):
            check_any(head, new, run, num_parameters, place)


def said_by(outcome: Outcome) -> tuple[Tensor, ...]:
    """What an outcome says; ownership only if it does."""
    return tuple(each for each in outcome if each is not None)


def check_outcome(
    build: Callable[[int, int, int], OutcomeHead],
    d_model: int = 16,
    num_parameters: int | None = None,
    device: torch.device | str = "cpu",
    vocab_size: int = _VOCAB_SIZE,
    tolerance: float = _TOLERANCE,
    map_channels: int = 0,
) -> None:
    """As ``check_mixer``, of an outcome: the losses are those of what it expects.

    Args:
        build: the outcome of d_model, vocab_size and map_channels, such as its class.
        d_model, num_parameters, device, tolerance: as of ``check_mixer``.
        vocab_size: tokens, n² + 3.
        map_channels: of the map; 0 for none.
    """
    place, sizes = torch.device(device), (d_model, vocab_size, map_channels)
    hidden_TH = torch.randn(_GAMES * _LENGTH, d_model, generator=torch.Generator().manual_seed(1))
    hidden_TH = hidden_TH.to(place)
    maps = maps_of(len(hidden_TH), sizes, place)
    scores_T = torch.linspace(-9, 9, len(hidden_TH), device=place)  # a draw in the middle

    def new() -> OutcomeHead:
        return build(*sizes).to(place)

    def by_losses(own: OutcomeHead) -> tuple[Tensor, ...]:
        owners = (own.owner_logits(*maps),) if own.ownership_weight else ()
        return *own.losses(hidden_TH, scores_T, *maps), *owners

    with trying(new, OutcomeHead, place, *sizes) as outcome:
        with torch.no_grad():
            win, score, *_ = outcome(hidden_TH, *maps)
            is_chance = bool(((win >= 0) & (win <= 1)).all())
            require(is_chance, "win is no probability")
            is_float = win.dtype == score.dtype == torch.float32
            require(is_float, f"not float32: {win.dtype}, {score.dtype}")
            of_win, *_ = by_losses(outcome)
            expected = F.binary_cross_entropy(win, (scores_T.sign() + 1) / 2, reduction="none")
            require_near(of_win, expected, tolerance, "losses are not those of the win probability")
            best = outcome.losses(hidden_TH, score, *maps)[1]
            require(bool(best.abs().max() <= tolerance), "losses are not those of the score")
        for run in (by_losses, lambda own: said_by(own(hidden_TH, *maps))):
            check_any(outcome, new, run, num_parameters, place)
