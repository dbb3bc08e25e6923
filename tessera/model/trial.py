"""A part is asked once for all that a model asks of it, to see that the answers have their form.

Shape suffixes: B games, L positions, H ``d_model``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tessera.model.embeddings import Embedding
from tessera.model.features.base import Features
from tessera.model.feed_forward import FeedForward
from tessera.model.heads import Head
from tessera.model.mixers.base import Mixer
from tessera.model.outcome import OutcomeHead
from tessera.vocabulary import board_size_of

_GAMES, _LENGTH = 2, 3


def try_part(part: nn.Module, device: torch.device, *sizes: int) -> None:
    """Ask a part of any kind for everything.

    Args:
        part: the part.
        device: where it is.
        sizes: those it was built of.

    Raises:
        ValueError: a line that says what a method must return, and what it returned.
    """
    if isinstance(part, Mixer):
        _try_mixer(part, sizes[0], device)
    elif isinstance(part, FeedForward):
        hidden_BLH = torch.ones(_GAMES, _LENGTH, sizes[0], device=device)
        _expect("forward", part(hidden_BLH), tuple(hidden_BLH.shape))
    elif isinstance(part, Embedding):
        tokens = torch.zeros(_GAMES, _LENGTH, dtype=torch.int64, device=device)
        _expect("forward", part(tokens), (_GAMES, _LENGTH, sizes[1]))
        _expect("forward", part(tokens[:, 0], torch.float32), (_GAMES, sizes[1]))
    elif isinstance(part, Features):
        _try_features(part, sizes[0], device)
    elif isinstance(part, OutcomeHead):
        hidden_TH = torch.ones(_LENGTH, sizes[0], device=device)
        maps = maps_of(_LENGTH, sizes, device)
        for name, found in zip(("win", "score"), part(hidden_TH, *maps), strict=False):
            _expect(f"forward, as {name},", found, (_LENGTH,))
        losses = _pair("losses", part.losses(hidden_TH, torch.zeros(_LENGTH, device=device), *maps))
        for found in losses:
            _expect("losses", found, (_LENGTH,))
    elif isinstance(part, Head):
        hidden_TH = torch.ones(_LENGTH, sizes[0], device=device)
        targets_T = torch.zeros(_LENGTH, dtype=torch.int64, device=device)
        maps = maps_of(_LENGTH, sizes, device)
        _expect("forward", part(hidden_TH, *maps), (_LENGTH, sizes[1]))
        _expect("losses", part.losses(hidden_TH, targets_T, sizes[1] - 2, *maps), (_LENGTH,))


def maps_of(positions: int, sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """A map of so many positions, for a head or an outcome of these sizes; none without channels.

    Args:
        positions: T.
        sizes: d_model, vocab_size and, if it may read a map, map_channels.
        device: where.
    """
    _, vocab_size, channels = (*sizes, 0)[:3]
    if not channels:
        return ()
    shape = (positions, board_size_of(vocab_size), board_size_of(vocab_size), channels)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(2)).to(device),)


def _try_features(features: Features, d_model: int, device: torch.device) -> None:
    tokens = torch.zeros(_GAMES, _LENGTH, dtype=torch.int64, device=device)
    is_pad_BL, n = tokens.bool(), features.board_size
    shape = (_GAMES, _LENGTH, features.num_sets, n)
    tables = features.begun(torch.ones(shape, dtype=torch.int32, device=device))
    features.check(tables, tokens)
    state = features.init_state(_GAMES, device)
    if state is not None:
        _expect_state("init_state", state)
    encoded, after = _pair("encode", features.encode(tables, tokens, is_pad_BL, state))
    added, board_map = _pair("encode, as Encoded,", encoded)
    _expect("encode", added, (_GAMES, _LENGTH, d_model))
    if features.map_channels:
        _expect("encode", board_map, (_GAMES * _LENGTH, n, n, features.map_channels))
    if (state is not None or after) and type(after) is not type(state):
        raise ValueError(
            "encode must return the kind of state that init_state does, "
            f"{type(state).__name__}, got {type(after).__name__}."
        )


def _try_mixer(mixer: Mixer, d_model: int, device: torch.device) -> None:
    state = mixer.init_state(_GAMES, _LENGTH, device)
    _expect_state("init_state", state)
    is_pad_BL = torch.zeros(_GAMES, _LENGTH, dtype=torch.bool, device=device)
    is_pad_BL[1, -1] = True
    hidden_BLH = torch.ones(_GAMES, _LENGTH, d_model, device=device)
    hidden_BLH = hidden_BLH.masked_fill(is_pad_BL[..., None], 0.0)
    shape = tuple(hidden_BLH.shape)
    for is_pad in (is_pad_BL, None):
        mixed, seen = _pair("mix", mixer.mix(hidden_BLH, is_pad))
        _expect("mix", mixed, shape)
        _expect_tensors("mix, beside the vectors,", seen)
    _expect_tensors("watched", mixer.watched(state))
    with torch.no_grad():
        for before, is_pad in ((None, is_pad_BL), (state, None)):
            mixed, after = _pair("advance", mixer.advance(hidden_BLH, is_pad, before))
            _expect("advance", mixed, shape)
            _expect_state("advance", after)
            if type(after) is not type(state):
                raise ValueError(
                    "advance must return the kind of state that init_state does, "
                    f"{type(state).__name__}, got {type(after).__name__}."
                )
        is_new_B = torch.ones(_GAMES, dtype=torch.bool, device=device)
        mixed = mixer.step_in_place(hidden_BLH[:, 0], state, is_new_B)
        _expect("step_in_place", mixed, (_GAMES, d_model))


def _pair(method: str, answer: Any) -> tuple[Any, Any]:
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(f"{method} must return a tuple of two, got {_looks(answer)}.")
    return answer


def _expect(method: str, answer: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(answer, Tensor) or tuple(answer.shape) != shape:
        raise ValueError(f"{method} must return a tensor {shape} here, got {_looks(answer)}.")


def _expect_tensors(method: str, answer: Any) -> None:
    if not isinstance(answer, tuple) or not all(isinstance(x, Tensor) for x in answer):
        raise ValueError(f"{method} must return a tuple of tensors, got {_looks(answer)}.")


def _expect_state(method: str, state: Any) -> None:
    names = getattr(state, "_fields", ())
    if not isinstance(state, tuple) or not names:
        raise ValueError(f"{method} must return a NamedTuple as its state, got {_looks(state)}.")
    for name, tensor in zip(names, state, strict=True):
        if not isinstance(tensor, Tensor) or not tensor.dim() or len(tensor) != _GAMES:
            raise ValueError(
                f"{method} must return a state whose first axis is the games, {_GAMES} here, "
                f"got {name} of {_looks(tensor)}."
            )


def _looks(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
