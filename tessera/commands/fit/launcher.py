"""Who has started the processes of a run, where it was not the run itself: torchrun or SLURM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment


@dataclass(frozen=True, slots=True)
class Launcher:
    """What a launcher has started.

    Attributes:
        name: of the launcher.
        num_nodes: on how many machines.
        num_processes: on each of them.
        nth: this process on its machine, from 0.
    """

    name: str
    num_nodes: int
    num_processes: int
    nth: int

    @property
    def world_size(self) -> int:
        """All processes together."""
        return self.num_nodes * self.num_processes


def launcher() -> Launcher | None:
    """The one that has started this process, in Lightning's order; None if there is none."""
    if TorchElasticEnvironment.detect():
        world_size = TorchElasticEnvironment().world_size()
        num_nodes = world_size // int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        return _launcher("torchrun", world_size, num_nodes, "LOCAL_RANK")
    if SLURMEnvironment.detect():
        # Lightning's class cannot be made without a variable that a job may lack.
        world_size = int(os.environ["SLURM_NTASKS"])
        num_nodes = int(os.environ.get("SLURM_NNODES", 1))
        return _launcher("SLURM", world_size, num_nodes, "SLURM_LOCALID")
    return None


def _launcher(name: str, world_size: int, num_nodes: int, nth: str) -> Launcher:
    if num_nodes < 1 or world_size % num_nodes:  # not as many on each
        num_nodes = 1
    return Launcher(name, num_nodes, world_size // num_nodes, int(os.environ.get(nth, 0)))


def launcher_problems(devices: Any, num_devices: int, num_nodes: int) -> Iterator[str]:
    """What devices and num_nodes must be where a launcher has started the processes.

    Args:
        devices: as they were given.
        num_devices: how many those are.
        num_nodes: as given.
    """
    started = launcher()
    if started is None or num_devices * num_nodes == started.world_size:
        return
    if num_nodes != started.num_nodes:
        yield (
            f"num_nodes must be {started.num_nodes}, as many as {started.name} starts processes "
            f"on, got {num_nodes}."
        )
    if num_devices != started.num_processes:
        where = " on each node" if started.num_nodes > 1 else ""
        yield (
            f"devices must be {started.num_processes}, as many as {started.name} starts{where}, "
            f"got {devices}."
        )
