"""How long a person waits for commands on a GPU, and how fast two of them are, as commands.

By itself, with nothing beside it: ``pytest tests/commands/test_seconds_gpu.py -m gpu -s``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.runs import python_path

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
_SPEED = re.compile(r"([\d,]+) tokens/s")
# What a console shows if something waits for the GPU, warns, or keeps steps from being replayed.
_SIGNS = ("design violation", "Warning", "[W", "one kernel at a time")


def tessera(folder: Path, *options: str) -> tuple[float, str]:
    """Seconds of a whole command with the caches of ``folder``, and what it printed."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        **{"PYTHONPATH": python_path(ROOT), "TRITON_CACHE_DIR": str(folder / "triton")},
        **{"PYTHONPYCACHEPREFIX": str(folder / "bytecode")},
    }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tessera", *options],
        **{"cwd": folder, "env": environment, "text": True, "capture_output": True},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.1f} s: tessera {' '.join(options)}")
    return seconds, done.stdout + done.stderr


def test_a_training_begins_within_seconds(tmp_path: Path) -> None:
    twenty = ("--trainer.max_steps", "20")
    cold, _ = tessera(tmp_path, "fit", "--config", "uniform_9x9", *twenty)
    warm, _ = tessera(tmp_path, "fit", "--config", "uniform_9x9", *twenty)
    tessera(tmp_path, "fit", "--config", "tessera", *twenty)
    design, _ = tessera(tmp_path, "fit", "--config", "tessera", *twenty)
    assert cold <= 25 and warm <= 10 and design <= 8, (cold, warm, design)


def test_the_check_takes_less_than_three_quarters_of_a_minute(tmp_path: Path) -> None:
    cold, _ = tessera(tmp_path, "check", "--device", "cuda")
    warm, _ = tessera(tmp_path, "check", "--device", "cuda")
    assert cold <= 90 and warm <= 45, (cold, warm)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize(("config", "steps"), [("uniform_9x9", "300"), ("tessera", "1000")])
def test_two_gpus_train_nearly_twice_as_fast_as_one(
    tmp_path: Path, config: str, steps: str
) -> None:
    rates = []
    for devices in ("1", "2"):
        options = ("--trainer.max_steps", steps, "--trainer.devices", devices)
        _, printed = tessera(tmp_path, "fit", "--config", config, *options)
        assert not [sign for sign in _SIGNS if sign in printed], printed[-2000:]
        rates.append(float(_SPEED.findall(printed)[-1].replace(",", "")))
    print(f"{config}: {rates[1] / rates[0]:.2f} times as fast")
    assert rates[1] >= 1.9 * rates[0]
