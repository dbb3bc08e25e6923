"""Sequence models that read a game and predict its next token."""

from tessera.model.dual import DualScan, dual_scan
from tessera.model.mamba import MAX_CONTEXT, MambaModel
from tessera.model.mamba2 import Mamba2Mixer
from tessera.model.mixer import MambaMixer
from tessera.model.scan import SelectiveScan, selective_scan
from tessera.model.state import LayerState, MambaState, MambaStateCapture

__all__ = [
    "MAX_CONTEXT",
    "DualScan",
    "LayerState",
    "Mamba2Mixer",
    "MambaMixer",
    "MambaModel",
    "MambaState",
    "MambaStateCapture",
    "SelectiveScan",
    "dual_scan",
    "selective_scan",
]
