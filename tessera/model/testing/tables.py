"""The contract of what reads features: tables of positions.

Shape suffixes: B games, L positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tessera.model.features.base import Features, at_once
from tessera.model.testing.any_part import check_any, require, require_near, trying
from tessera.model.testing.reading import tables_like

_GAMES, _LENGTH, _CUT = 3, 7, 4
_TOLERANCE = 1e-4
_VOCAB_SIZE = 19  # 4×4


def check_features(
    build: Callable[[int, int], Features],
    d_model: int = 16,
    num_parameters: int | None = None,
    device: torch.device | str = "cpu",
    vocab_size: int = _VOCAB_SIZE,
    tolerance: float = _TOLERANCE,
) -> None:
    """As ``check_mixer``, of features: causal, zero at PAD, and step by step as at once.

    Args:
        build: the features of d_model and vocab_size, such as its class.
        d_model, num_parameters, device, tolerance: as of ``check_mixer``.
        vocab_size: tokens, n² + 3.
    """
    place, pad = torch.device(device), vocab_size - 2
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, pad, (_GAMES, _LENGTH), generator=generator).to(place)
    tokens[1, _CUT:] = pad
    is_pad = tokens == pad

    def new() -> Features:
        return build(d_model, vocab_size).to(place)

    with trying(new, Features, place, d_model, vocab_size) as features:
        shape = (_GAMES, _LENGTH)
        rows, others = (tables_like(features, shape, generator).to(place) for _ in range(2))

        def at_once_of(own: Features, sets: Tensor) -> tuple[Tensor, ...]:
            (added, board_map), _ = own.encode(own.begun(sets), tokens, is_pad, None)
            return (added,) if board_map is None else (added, board_map.unflatten(0, shape))

        def stepped(own: Features) -> tuple[Tensor, ...]:
            state = own.init_state(_GAMES, place)
            found: list[tuple[Tensor, ...]] = []
            for ply in range(_LENGTH):
                tables = at_once(own.begun(rows[:, ply]))
                part = slice(ply, ply + 1)
                encoded, after = own.encode(tables, tokens[:, part], is_pad[:, part], state)
                state = after or None
                added, board_map = encoded
                maps = () if board_map is None else (board_map.unflatten(0, (_GAMES, 1)),)
                found.append((added, *maps))
            return tuple(torch.cat(parts, 1) for parts in zip(*found, strict=True))

        with torch.no_grad():
            expected = at_once_of(features, rows)
            require(not expected[0][is_pad].any(), "not zero at PAD")
            changed = at_once_of(features, torch.cat([rows[:, :_CUT], others[:, _CUT:]], 1))
            for kind, one, other in zip(("added", "map"), expected, changed, strict=False):
                is_past = torch.equal(one[:, :_CUT], other[:, :_CUT])
                require(is_past, f"not causal: {kind}")
                is_heard = not torch.equal(one[:, _CUT:], other[:, _CUT:])
                require(is_heard, f"says nothing: {kind} is the same whatever is read")
            for one, other in zip(stepped(features), expected, strict=True):
                what = "step by step is not at once"
                require_near(one[~is_pad], other[~is_pad], tolerance, what)
        check_any(features, new, lambda own: at_once_of(own, rows), num_parameters, place)
