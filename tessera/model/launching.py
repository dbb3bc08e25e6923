"""Launching a step of training ahead of the training, so that its kernels are compiled by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from tessera.model.block import Seen
from tessera.model.graphs import is_hooked
from tessera.model.mixers.gated_delta import GatedDeltaSettings
from tessera.model.mixers.mamba2 import Mamba2Settings
from tessera.model.mixers.state_space import SelectiveSettings
from tessera.model.parts import PartSettings
from tessera.model.scans.delta import DeltaScan
from tessera.model.scans.dual import DualScan, is_left_alone
from tessera.model.scans.selective import SelectiveScan

if TYPE_CHECKING:
    from tessera.model.model import GameModel


def launch_step(model: GameModel, run: Callable[[], tuple[torch.Tensor, Seen]]) -> None:
    """Launch a forward and a backward pass and keep nothing of it.

    Nothing happens if anything but this program's own kernels, and mamba_ssm's of Mamba-2, might
    run, or a hook be called.

    Args:
        model: that is trained.
        run: its losses, and what a watcher may see.
    """
    watchers = (model, model.watched)  # which are not called
    inside = [module for module in model.modules() if module not in watchers]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not _is_of_own_kernels(model) or is_hooked(inside, weights):
        return
    losses, _ = run()
    with torch.autocast("cuda", enabled=False):
        torch.autograd.grad(losses.sum(), weights, allow_unused=True)


def _is_of_own_kernels(model: GameModel) -> bool:
    """Whether every part is ours, and every mixer runs kernels that nobody has to time first."""
    settings = model.settings
    return not settings.own_parts() and all(
        _runs_triton(settings.part("mixer", name), model.device) for name in settings.mixers()
    )


def _runs_triton(mixer: PartSettings, device: torch.device) -> bool:
    """Whether a mixer of these settings runs in Triton kernels that are not tuned."""
    if isinstance(mixer, SelectiveSettings):
        return SelectiveScan.choose_for(mixer.scan, device)[0] == "triton"
    if isinstance(mixer, Mamba2Settings):
        is_pinned = not is_left_alone()
        return is_pinned and DualScan.choose_for(mixer.scan, device)[0] == "mamba_ssm"
    if isinstance(mixer, GatedDeltaSettings):
        return DeltaScan.choose_for(mixer.scan, device)[0] == "triton"
    return False
