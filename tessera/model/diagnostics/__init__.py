"""What phase 8 of a sibling design looks at in a model; nothing of it is part of one.

Each is a plain function of vectors, with one property that defines it and a test of that.
"""

from tessera.model.diagnostics.entailment import apertures, apex_angles, is_entailed
from tessera.model.diagnostics.resonance import level_density, resonance
from tessera.model.diagnostics.sheaf import agreement, num_sections, turns_between
from tessera.model.diagnostics.topology import betti_numbers

__all__ = [
    "agreement",
    "apertures",
    "apex_angles",
    "betti_numbers",
    "is_entailed",
    "level_density",
    "num_sections",
    "resonance",
    "turns_between",
]
