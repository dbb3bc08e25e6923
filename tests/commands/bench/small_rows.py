"""Rows of ``tessera bench memory`` that take no time."""

from __future__ import annotations

from tessera.commands.bench.memory_rows import TRAINING, MemoryRow
from tessera.model import ModelSettings


def small(mixer: str = "attention", mode: str = TRAINING) -> MemoryRow:
    settings = ModelSettings(
        vocab_size=50,
        d_model=32,
        n_layers=2,
        mixer=mixer,
        feed_forward="low_rank",
        norm="layer",
        checkpoint_activations=mode == "checkpointed",
    )
    return MemoryRow("sizes", mixer, settings, 2, 16, mode)
