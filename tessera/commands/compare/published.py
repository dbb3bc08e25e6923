"""What the sibling designs say of their own sizes, beside what the same models have here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from tessera.commands.compare.count import parameters_of
from tessera.model import GameModel, ModelSettings

# What a figure is of: the model that comes with the program, and what makes it the published one.
_ULTRA, _EIGHT = "muse_ultra", "phase8_standard"
MODELS = (_ULTRA, _EIGHT)

# Of muse_ultra, by part; the parts are written in thousands, and the head is another than the sum.
_OF_ULTRA = {
    "embedding": 18_400,
    "mixers": 486_192,
    "feed_forward": 52_272,
    "norms": 7_168,
    "head": 79_700,
    "total": 616_088,
}
# Of phases 7 and 8, by width and layers.
_SIZES = {
    (4096, 32): 3_080_000_000,
    (3072, 48): 2_570_000_000,
    (2048, 64): 1_540_000_000,
    (2048, 48): 1_190_000_000,
}
_ULTRA_VOCABULARY, _EIGHT_VOCABULARY = 10_000, 50_257


class Published(NamedTuple):
    """One published number of parameters.

    Attributes:
        what: in words.
        published: as it was said.
        counted: of the modules.
    """

    what: str
    published: int
    counted: int

    @property
    def difference(self) -> float:
        """By which share of the published one the counted one is larger."""
        return self.counted / self.published - 1


def published(models: Mapping[str, ModelSettings]) -> list[Published]:
    """Every number that is published of the models, and what is counted.

    Args:
        models: the settings of ``MODELS``, as they come with the program.
    """
    ultra = models[_ULTRA]
    whole = replace(
        ultra,
        vocab_size=_ULTRA_VOCABULARY,
        tensor_train=replace(ultra.tensor_train, factors="square"),
    )
    found = _parameters(whole)
    rows = [
        Published(f"muse_ultra, {part.replace('_', '-')}", said, found[part])
        for part, said in _OF_ULTRA.items()
    ]
    for (d_model, n_layers), said in _SIZES.items():
        model = replace(models[_EIGHT], d_model=d_model, n_layers=n_layers)
        total = _parameters(replace(model, vocab_size=_EIGHT_VOCABULARY))["total"]
        rows.append(Published(f"phase8, d_model {d_model:,}, {n_layers} layers", said, total))
    return rows


def _parameters(settings: ModelSettings) -> dict[str, int]:
    with torch.device("meta"):
        found = parameters_of(GameModel(settings))
    return {**found, "total": sum(found.values())}
