"""Which settings make a model that no weight ties to a size of board."""

from __future__ import annotations

from typing import Any

import pytest

from tessera.model import ModelSettings
from tessera.vocabulary import num_tokens


@pytest.mark.parametrize("size", [9, 19])
@pytest.mark.parametrize(
    ("changes", "is_of_any"),
    [
        ({}, True),
        ({"outcome": "win_and_score"}, True),
        ({"embedding": "table"}, False),
        ({"board": {"summary": "points"}}, False),
        ({"head": "linear"}, False),
        ({"features": "landmarks"}, False),
    ],
    ids=str,
)
def test_a_model_is_of_any_board_if_none_of_its_parts_is_of_one(
    size: int, changes: dict[str, Any], is_of_any: bool
) -> None:
    usual = {"features": "board", "head": "points", "embedding": "kinds"}
    chosen = {**usual, "board": {"summary": "pooled"}, **changes}
    assert ModelSettings(num_tokens(size), 8, **chosen).is_of_any_board() is is_of_any
