"""Training with Lightning: the module, its metrics, checkpoints, and what a person sees."""

from tessera.training.checkpointing import AtomicCheckpointIO, CheckpointError, TrainingCheckpoint
from tessera.training.metrics import NextMoveMetrics
from tessera.training.module import TesseraModule

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointError",
    "NextMoveMetrics",
    "TesseraModule",
    "TrainingCheckpoint",
]
