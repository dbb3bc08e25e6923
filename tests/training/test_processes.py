"""Training in several processes, as on several GPUs; here two, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]


def weights(name: str, devices: int, *options: str) -> dict[str, Tensor]:
    """What a run has learned; it has a process of its own, which starts the others."""
    command = [sys.executable, "-m", "tessera", "fit", "--config", "small.yaml", *options]
    command += ["--run_name", name, "--trainer.devices", str(devices)]
    command += ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    saved = torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)
    assert saved["global_step"] == int(options[1])
    return saved["state_dict"]


def test_two_processes_share_a_batch_and_resume_bit_for_bit(folder: Path) -> None:
    whole = weights("whole", 2, "--trainer.max_steps", "6")
    weights("halves", 2, "--trainer.max_steps", "3")
    halves = weights("halves", 2, "--trainer.max_steps", "6", "--ckpt_path", "last")
    assert all(torch.equal(weight, halves[name]) for name, weight in whole.items())
    # Each takes four sequences of a batch; in this stream none holds PAD, so the means are equal.
    alone = weights("alone", 1, "--trainer.max_steps", "6", "--data.batch_size", "8")
    for name, weight in whole.items():
        torch.testing.assert_close(weight, alone[name], rtol=0, atol=1e-5, msg=name)
