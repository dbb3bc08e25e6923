"""Training with Lightning: the module, its metrics, checkpoints, and what a person sees."""

from tessera.training.checkpoint_file import CheckpointError, SaveError
from tessera.training.checkpointing import AtomicCheckpointIO, TrainingCheckpoint
from tessera.training.metrics import NextMoveMetrics
from tessera.training.module import TesseraModule

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointError",
    "NextMoveMetrics",
    "SaveError",
    "TesseraModule",
    "TrainingCheckpoint",
]
