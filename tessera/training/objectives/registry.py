"""The registry of the objectives.

A new one is a file beside this, a line here, and, if it has settings, an argument of
``TesseraModule`` with its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from tessera.setting_errors import Problem, SettingError
from tessera.training.objectives.base import ObjectiveSettings
from tessera.training.objectives.expert_settings import ExpertIterationSettings
from tessera.training.objectives.fixed_point import FixedPointSettings
from tessera.training.objectives.next_move import NextMoveSettings
from tessera.training.objectives.policy_gradient import PolicyGradientSettings

OBJECTIVES: dict[str, type[ObjectiveSettings]] = {
    "next_move": NextMoveSettings,
    "expert_iteration": ExpertIterationSettings,
    "fixed_point": FixedPointSettings,
    "policy_gradient": PolicyGradientSettings,
}


def objective_settings(name: str, given: Mapping[str, Any]) -> ObjectiveSettings:
    """The settings of the objective of this name.

    Args:
        name: of the objective.
        given: the settings of every objective that has any, by name: records, or plain mappings as
            checkpoints and parsers bring them.

    Raises:
        SettingError: if there is no such objective.
    """
    if name not in OBJECTIVES:
        raise SettingError(Problem("objective", name, f"be one of {', '.join(OBJECTIVES)}"))
    own = given.get(name, {})
    return own if isinstance(own, ObjectiveSettings) else OBJECTIVES[name](**dict(own))


def plain_settings(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same settings of every objective as plain dicts."""
    return {name: asdict(objective_settings(name, given)) for name in given}


def fixed_settings(name: str) -> list[str]:
    """The settings of an objective, by ``objective.setting``, that a run cannot change midway."""
    record = OBJECTIVES[name]
    return [f"{name}.{own.name}" for own in fields(record) if own.name not in record.free]
