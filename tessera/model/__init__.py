"""Sequence models that read a game and predict its next token; see README.md beside this file."""

from tessera.model.backend import Scan
from tessera.model.embeddings import Embedding
from tessera.model.features.base import Encoded, Features
from tessera.model.feed_forward import FeedForward
from tessera.model.heads import Head
from tessera.model.mamba_model import MambaModel
from tessera.model.mixers.base import Mixer
from tessera.model.mixers.mamba import MambaMixer
from tessera.model.mixers.mamba2 import Mamba2Mixer
from tessera.model.model import GameModel
from tessera.model.outcome import Outcome, OutcomeHead
from tessera.model.scans.dual import DualScan, dual_scan
from tessera.model.scans.selective import SelectiveScan, selective_scan
from tessera.model.settings import ModelSettings
from tessera.model.state import LayerState, MambaStateCapture, ModelState
from tessera.vocabulary import MAX_CONTEXT

__all__ = [
    "MAX_CONTEXT",
    "DualScan",
    "Embedding",
    "Encoded",
    "Features",
    "FeedForward",
    "GameModel",
    "Head",
    "LayerState",
    "Mamba2Mixer",
    "MambaMixer",
    "MambaModel",
    "MambaStateCapture",
    "Mixer",
    "ModelSettings",
    "ModelState",
    "Outcome",
    "OutcomeHead",
    "Scan",
    "SelectiveScan",
    "dual_scan",
    "selective_scan",
]
