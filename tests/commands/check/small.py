"""What the tests of the check train on, and what stands for a training that is not made."""

from __future__ import annotations

from tessera.commands.check.training_trial import TrainingSettings

SMALL = TrainingSettings(
    board_size=3,
    context=None,
    batch_size=16,
    games_per_chunk=64,
    d_model=8,
    lr=2e-2,
    warmup_steps=5,
    max_steps=150,
    min_steps=40,
)
NOT_TRAINED = TrainingSettings(batch_size=1, games_per_chunk=1, d_model=1, lr=1.0)
