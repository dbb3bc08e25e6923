"""The rows of ``tessera bench memory``: which models, how they are run, and what was published.

Source: the benchmarks of MUSE phase 1 and of phases 7 and 8, whose gigabytes are of 1,024³ bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml

from tessera.commands.named_configs import config_file
from tessera.model import ModelSettings

GROUPS = {
    "sizes": "the four sizes of phases 7 and 8",
    "lengths": "linear and quadratic attention as games grow longer",
    "muse": "MUSE phase 1",
}
INFERENCE, TRAINING, CHECKPOINTED = MODES = ("inference", "training", "checkpointed")

# The models that come with the program which the rows are made of.
_EIGHT, _BASELINE = "phase8_standard", "transformer"
_MUSE = {name: f"muse_{name}" for name in ("standard", "ultra", "extreme", "ultimate")}
_MODELS = (_EIGHT, _BASELINE, *_MUSE.values())

_GIB, _MIB = 2**30, 2**20

# Width and layers of each size, its heads, and the published peaks of inference in phases 7 and 8.
_SIZES = {
    (4096, 32): (32, 5.81, 5.81),
    (3072, 48): (24, 4.86, 4.86),
    (2048, 64): (16, 2.93, 2.93),
    (2048, 48): (16, 2.28, 2.28),
}
_VOCABULARY, _LENGTH = 50_257, 512
_LENGTHS, _LONG_SIZE, _LONG_HEADS = (512, 1024, 2048, 4096, 8192, 16_384), (1024, 16), 8
_MUSE_VOCABULARY, _MUSE_BATCH = 10_000, 2

# What is published of MUSE phase 1, in MiB, of which kind of run, and why ours differs.
_AS_A_SUM = "published: logits in halves, their sum for a loss, no optimizer"
_OF_MUSE = {
    "baseline": (456.3, TRAINING, "published: all in float32, no optimizer"),
    "standard": (82.0, TRAINING, _AS_A_SUM),
    "ultra": (69.1, CHECKPOINTED, f"{_AS_A_SUM}; 16.3 are cuBLAS's, of earlier runs"),
    "extreme": (44.0, CHECKPOINTED, f"{_AS_A_SUM}; the batch in parts"),
    "ultimate": (38.2, INFERENCE, "published: vectors of 1,000 words at a time; here products"),
}
_OF_SEVEN = "alike, but 8.1 MiB of the published are cuBLAS's"
_OF_EIGHT = "ours is causal: sums of keys and values for each 64 positions, in float32"


class MemoryRow(NamedTuple):
    """A model that is run in one way.

    Attributes:
        group: one of ``GROUPS``.
        name: of the model.
        model: what it is made of.
        batch_size, length: sequences, and the positions of each.
        mode: one of ``MODES``.
        published: bytes at the peak, None if nobody said.
        reason: why ours are others.
    """

    group: str
    name: str
    model: ModelSettings
    batch_size: int
    length: int
    mode: str
    published: float | None = None
    reason: str = ""

    @property
    def said(self) -> str:
        """The row in a few words."""
        return f"{self.name}, {self.length:,} positions, {self.mode}"


def rows_of(group: str) -> list[MemoryRow]:
    """The rows of a group, one of ``GROUPS``."""
    models = {name: _settings(name) for name in _MODELS}
    return list({"sizes": _of_sizes, "lengths": _of_lengths, "muse": _of_muse}[group](models))


def _settings(name: str) -> ModelSettings:
    """A model as it comes with the program."""
    return ModelSettings(**yaml.safe_load(Path(config_file(name)).read_text())["model"])


def _pair(
    models: Mapping[str, ModelSettings], d_model: int, n_layers: int, heads: int
) -> dict[str, ModelSettings]:
    """Both phases at one size: what stood for phase 7 has full attention instead."""
    eight = replace(models[_EIGHT], vocab_size=_VOCABULARY, d_model=d_model, n_layers=n_layers)
    linear = replace(eight.tangent_attention, num_heads=heads)
    full = replace(eight.attention, num_heads=heads)
    return {
        "phase 7, attention": replace(eight, mixer="attention", attention=full),
        "phase 8, linear": replace(eight, tangent_attention=linear),
    }


def _of_sizes(models: Mapping[str, ModelSettings]) -> Iterator[MemoryRow]:
    for (d_model, n_layers), (heads, *peaks) in _SIZES.items():
        pair = _pair(models, d_model, n_layers, heads).items()
        for (name, model), peak, why in zip(pair, peaks, (_OF_SEVEN, _OF_EIGHT), strict=True):
            size = f"{name}, {d_model}×{n_layers}"
            yield MemoryRow("sizes", size, model, 1, _LENGTH, INFERENCE, peak * _GIB, why)
            for mode in (TRAINING, CHECKPOINTED):
                yield MemoryRow("sizes", size, _in(mode, model), 1, _LENGTH, mode)


def _of_lengths(models: Mapping[str, ModelSettings]) -> Iterator[MemoryRow]:
    pair = _pair(models, *_LONG_SIZE, _LONG_HEADS)
    for length in _LENGTHS:
        for name, model in pair.items():
            size = f"{name}, {'×'.join(map(str, _LONG_SIZE))}"
            yield MemoryRow("lengths", size, _in(TRAINING, model), 1, length, TRAINING)


def _of_muse(models: Mapping[str, ModelSettings]) -> Iterator[MemoryRow]:
    named = {"baseline": replace(models[_BASELINE], d_model=512, n_layers=6)}
    named |= {name: models[preset] for name, preset in _MUSE.items()}
    for name, model in named.items():
        model = replace(
            model,
            vocab_size=_MUSE_VOCABULARY,
            tensor_train=replace(model.tensor_train, factors="square"),
        )
        published, of, why = _OF_MUSE[name]
        for mode in MODES:
            own = (published * _MIB, why) if mode == of else (None, "")
            run = MemoryRow("muse", name, _in(mode, model), _MUSE_BATCH, _LENGTH, mode)
            yield run._replace(published=own[0], reason=own[1])


def _in(mode: str, model: ModelSettings) -> ModelSettings:
    return replace(model, checkpoint_activations=mode == CHECKPOINTED)
