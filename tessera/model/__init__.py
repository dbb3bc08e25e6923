"""Sequence models that read a game and predict its next token."""

from tessera.model.mamba import MAX_CONTEXT, MambaModel
from tessera.model.mixer import MambaMixer
from tessera.model.scan import SelectiveScan, selective_scan
from tessera.model.state import LayerState, MambaState, MambaStateCapture

__all__ = [
    "MAX_CONTEXT",
    "LayerState",
    "MambaMixer",
    "MambaModel",
    "MambaState",
    "MambaStateCapture",
    "SelectiveScan",
    "selective_scan",
]
