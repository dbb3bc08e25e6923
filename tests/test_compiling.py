"""Kernels that are compiled side by side: they are those that are launched afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tessera.compiling import compile_together
from tests.go.compile_kernels import has_assembler
from tests.runs import python_path

pytestmark = pytest.mark.skipif(not has_assembler(), reason="this Triton brings no ptxas")

BEGINNING = """
import torch
from tests.absent_gpu import compiled, launched
from tessera.compiling import compile_together
device = torch.device("cpu")
"""

GAMES = """
from tessera.data.settings import StreamSettings
from tessera.go import engine
from tessera.data.stream import GameStream
from tessera.monitor import TesseraMonitor
from tessera.monitor.game import GameProbe

engine.resolve_backend = lambda name, device: "triton"  # as on a GPU
games = StreamSettings(board_size=5, player="uniform", games_per_chunk=192, backend="triton")
stream = GameStream(games)
monitor = TesseraMonitor(board_size=5)
compile_together(device, stream.launch, lambda: monitor.launch_games(device))
assert not launched and not compiled
stream.batch(0)
GameProbe(5, "full", device).warm_up()
assert launched == ["play_games_kernel", "legal_kernel", "play_kernel"], launched
assert not compiled, compiled
stream.settings = StreamSettings(board_size=6, backend="triton")
stream.launch()
assert compiled == ["play_games_kernel"], compiled
"""

MODEL = """
from tessera.model import MambaModel

model = MambaModel(84, d_model=64, n_layers=2, scan="triton").train()
tokens, targets = torch.randint(0, 81, (2, 4, 32))
compile_together(device, lambda: model.launch_training(tokens, targets))
assert not launched and not compiled
assert all(weight.grad is None for weight in model.parameters())
(model(tokens, targets).sum() / 100).backward()
assert sorted(set(launched)) == [
    "convolution_backward_kernel", "convolution_forward_kernel",
    "scan_backward_kernel", "scan_forward_kernel",
], launched
assert not compiled, compiled
model(tokens[:, :31], targets[:, :31])
assert compiled == ["convolution_forward_kernel", "scan_forward_kernel"], compiled

del launched[:]
model.embedding.register_forward_hook(lambda *_: launched.append("hook"))
model.launch_training(tokens, targets)
assert not launched
"""

FAULTS = """
import logging
from tests.absent_gpu import _Binaries
from triton import knobs

def fault():
    raise RuntimeError("it is said at the launch")

logging.getLogger("tessera").setLevel(logging.DEBUG)
compile_together(device, fault)
assert knobs.runtime.jit_cache_hook is None
knobs.runtime.jit_cache_hook = fault
compile_together(device, fault)
assert knobs.runtime.jit_cache_hook is fault
"""

TRAINING = """
from triton import knobs

early, late = [], []

def note(*, fn, is_manual_warmup, **_):
    (early if is_manual_warmup else late).append(fn.name)

knobs.runtime.jit_post_compile_hook = note
from tessera.cli import main

options = ("--trainer.max_steps=3", "--trainer.val_check_interval=100")
assert main(["fit", "--config", "small.yaml", *options]) == 0
print(*sorted(early))
print(*sorted(late))
"""


def run(program: str, repository: Path, cache: Path) -> str:
    """What a program prints that finds no kernel compiled."""
    environment = {**os.environ, "PYTHONPATH": python_path(repository)}
    environment["TRITON_CACHE_DIR"] = str(cache)
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [GAMES, MODEL + FAULTS], ids=["games", "model"])
def test_what_is_compiled_is_what_is_launched(
    program: str, repository: Path, tmp_path: Path
) -> None:
    run(BEGINNING + program, repository, tmp_path)


@pytest.mark.gpu
def test_a_training_compiles_nothing_at_a_launch(folder: Path, repository: Path) -> None:
    early, late = run(TRAINING, repository, folder / "cache").splitlines()[-2:]
    assert not late
    assert {"play_games_kernel", "legal_kernel", "play_kernel"} <= set(early.split())
    assert {"scan_forward_kernel", "scan_backward_kernel"} <= set(early.split())


def test_without_a_gpu_nothing_is_called() -> None:
    compile_together(torch.device("cpu"), lambda: pytest.fail("it was called"))
