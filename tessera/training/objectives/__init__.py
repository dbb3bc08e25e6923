"""What a model learns: the objectives and their registry."""

from tessera.training.objectives.base import Objective, ObjectiveSettings
from tessera.training.objectives.registry import (
    OBJECTIVES,
    fixed_settings,
    objective_settings,
    plain_settings,
)

__all__ = [
    "OBJECTIVES",
    "Objective",
    "ObjectiveSettings",
    "fixed_settings",
    "objective_settings",
    "plain_settings",
]
