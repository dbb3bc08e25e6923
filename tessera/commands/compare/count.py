"""What is counted of a model: parameters, the state of a game, the products of a forward pass.

Shape suffixes: B games, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from tessera.model import GameModel, ModelSettings, ModelState

PARTS = ("features", "embedding", "mixers", "feed_forward", "norms", "head", "outcome")
# torch's counter knows attention by the names that it has on a GPU.
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True)
class Count:
    """What was counted of one model.

    Args:
        parameters: by part, each weight once; those that a model has.
        state_bytes: of one game, by the moves that have been played.
        flops_per_token: of the products of a forward pass, by the length of the game; each addition
            and each multiplication counts, attention looks at the whole game from every position,
            with a window at two blocks of it, as in training.
    """

    parameters: dict[str, int]
    state_bytes: dict[int, int]
    flops_per_token: dict[int, float]

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())


def count(settings: ModelSettings, lengths: Sequence[int], remembered: Sequence[int] = ()) -> Count:
    """Build the model without memory, and count.

    Args:
        settings: of the model.
        lengths: positions of a game at which states and FLOPs are counted.
        remembered: more of them, for states alone.

    Raises:
        SettingError: with a problem for every setting that is out of range.
    """
    with torch.device("meta"):
        model = GameModel(settings)
    return Count(
        parameters_of(model),
        {length: _state_bytes(model, length) for length in (*lengths, *remembered)},
        {length: _flops(settings, length) / length for length in lengths},
    )


def parameters_of(model: GameModel) -> dict[str, int]:
    """The number of parameters by part, see ``PARTS``."""
    blocks = model.blocks
    has_norms = not blocks.is_bare
    owners: dict[str, list[nn.Module | None]] = {
        "features": [model.features],
        "embedding": [model.embedding],
        "mixers": [blocks.mixers],
        "feed_forward": [blocks.feed_forwards] if has_norms else [],
        "norms": [blocks.norms, blocks.feed_forward_norms, blocks.final_norm] if has_norms else [],
        "head": [model.head],
        "outcome": [model.outcome],
    }
    found = {
        part: sum(weight.numel() for owner in modules if owner for weight in owner.parameters())
        for part, modules in owners.items()
    }
    return {part: number for part, number in found.items() if number}


def _state_bytes(model: GameModel, length: int) -> int:
    layers = model.blocks.init_state(1, length, "meta")
    own = None if model.features is None else model.features.init_state(1, "meta")
    return ModelState(layers if own is None else (*layers, own)).bytes_per_game


def _flops(settings: ModelSettings, length: int) -> int:
    """Of one game; every round of the mixers costs what any other does, so two are enough."""
    num_kinds = len(settings.mixers())
    rounds, more = divmod(settings.n_layers, num_kinds)
    if rounds <= 2:
        return _counted(settings, length)
    one, two = (
        _counted(replace(settings, n_layers=count * num_kinds + more), length) for count in (1, 2)
    )
    return one + (rounds - 1) * (two - one)


def _counted(settings: ModelSettings, length: int) -> int:
    counter = FlopCounterMode(display=False, custom_mapping={_ATTENTION: _of_attention})
    with FakeTensorMode(), torch.no_grad():
        model = GameModel(settings).eval()
        tokens_BL = torch.zeros(1, length, dtype=torch.int64)
        tables: tuple[Any, ...] = ()
        if model.features is not None:
            shape = (1, length, model.features.num_sets, model.features.board_size)
            tables = model.features.begun(torch.zeros(shape, dtype=torch.int32))
        with counter:
            hidden_BLH, maps = _read(model, tokens_BL, tables)
            model.head(hidden_BLH, *(maps if model.head.reads_map else ()))
            if model.outcome is not None:
                model.outcome(hidden_BLH, *maps)
    return int(counter.get_total_flops())


def _read(model: GameModel, tokens_BL: Tensor, tables: tuple[Any, ...]) -> tuple[Tensor, Any]:
    """What the heads read, as in training; not by the model's call, which looks at the tokens."""
    is_pad_BL = tokens_BL == model.pad_token
    hidden_BLH, maps = model.token_vectors(tokens_BL), tuple[Tensor, ...]()
    if model.features is not None:
        (added_BLH, board_map), _ = model.features.encode(tables, tokens_BL, is_pad_BL, None)
        hidden_BLH = hidden_BLH + added_BLH
        maps = () if board_map is None else (board_map,)
    hidden_BLH, _, _ = model.blocks.mix(hidden_BLH, is_pad_BL)
    return hidden_BLH, maps


def _of_attention(query: Any, key: Any, value: Any, *others: Any, **more: Any) -> int:
    """Of the two products of attention between tensors of these shapes."""
    return int(sdpa_flop_count(query, key, value))
