"""Games become batches, on the device that trains on them."""

from tessera.data.batch import GameBatch
from tessera.data.batch_size import BatchTrials
from tessera.data.chunk_size import NoRoomForGamesError
from tessera.data.datamodule import GameDataModule, Learner, OwnStream
from tessera.data.selfplay_stream import MixedStream, SelfPlayStream
from tessera.data.settings import StreamSettings
from tessera.data.stream import TEST_NUMBERS, TRAIN_NUMBERS, VAL_NUMBERS, GameStream

__all__ = [
    "TEST_NUMBERS",
    "TRAIN_NUMBERS",
    "VAL_NUMBERS",
    "BatchTrials",
    "GameBatch",
    "GameDataModule",
    "GameStream",
    "Learner",
    "MixedStream",
    "NoRoomForGamesError",
    "OwnStream",
    "SelfPlayStream",
    "StreamSettings",
]
