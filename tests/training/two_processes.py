"""Runs of several processes, and a callback that writes down what each of them sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.monitor import TesseraMonitor
from tests.runs import python_path
from tests.training.test_copies import Watch

ROOT = Path(__file__).parents[2]
LOOK = ["--trainer.callbacks", '[{"class_path": "tests.training.two_processes.Look"}]']
# Started by Lightning, by torch's own launcher, and as SLURM does it.
PYTHON: tuple[str, ...] = (sys.executable, "-m")
TORCHRUN = (*PYTHON, "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
SRUN = (*PYTHON, "tests.training.srun")  # two nodes; takes --trainer.num_nodes 2


def fit(
    name: str,
    devices: int,
    *options: str,
    launcher: Sequence[str] = PYTHON,
    strategy: str = "auto",
    accelerator: str = "cpu",
) -> subprocess.CompletedProcess[str]:
    """A run with a process of its own, which starts the others."""
    command = [*launcher, "tessera", "fit", "--config", "small.yaml", *options]
    command += ["--run_name", name, "--trainer.devices", str(devices)]
    command += ["--trainer.accelerator", accelerator, "--trainer.strategy", strategy]
    environment = {**os.environ, "PYTHONPATH": python_path(ROOT, Path.cwd())}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def weights(name: str, devices: int, *options: str, **more: Any) -> dict[str, Tensor]:
    """What a run has learned; the options begin with its last step."""
    done = fit(name, devices, "--trainer.max_steps", *options, **more)
    assert done.returncode == 0, done.stderr[-4000:]
    saved = torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)
    assert saved["global_step"] == int(options[0])
    return saved["state_dict"]


class Messages(Watch):
    """Notes by batch what is sent to the other processes too."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[int, list[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.sent.setdefault(self.step, []).append(func.overloadpacket.__name__)
        return super().__torch_dispatch__(func, types, args, kwargs)


class Look(Callback):
    """Writes ``rankN.pt`` with the weights and gradients, and ``rankN.json`` with the rest."""

    def __init__(self) -> None:
        self.messages = Messages()
        # After each backward pass, and before each step.
        self.gradients: dict[str, list[list[Tensor]]] = {"backward": [], "step": []}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.messages.__enter__()

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self.messages.step += 1

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note("backward", pl_module)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        self._note("step", pl_module)

    def _note(self, when: str, module: LightningModule) -> None:
        gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
        self.gradients[when].append([gradient.clone() for gradient in gradients])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.messages.__exit__(None, None, None)
        at = f"rank{trainer.global_rank}"
        torch.save({"weights": pl_module.state_dict(), **self.gradients}, f"{at}.pt")
        seen = {"strategy": type(trainer.strategy).__name__, "sent": self.messages.sent}
        seen["copied"] = {step: sorted(places) for step, places in self.messages.found.items()}
        Path(f"{at}.json").write_text(json.dumps(seen))


class LookOnGPU(Callback):
    """Writes ``gpuN.pt`` and ``gpuN.json``: the weights, whether steps were replayed, copies."""

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        at, graphs = f"gpu{trainer.global_rank}", pl_module.model._graphs
        (monitor,) = (c for c in trainer.callbacks if isinstance(c, TesseraMonitor))
        weights = {name: weight.cpu() for name, weight in pl_module.state_dict().items()}
        torch.save(weights, f"{at}.pt")
        seen: dict[str, Any] = {"unowned": [str(copy) for copy in monitor.unowned_copies]}
        seen["num_graphs"] = 0 if graphs is None else len(graphs._steps)
        seen["num_profiled_steps"] = monitor.num_profiled_steps
        Path(f"{at}.json").write_text(json.dumps(seen))
