"""What a command loads and builds before its first step: what it takes is counted, not timed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import fit, python_path

# Packages that torchmetrics loads where they are installed.
HEAVY = ("scipy", "torchvision", "transformers")

TRAINS = """
import sys
import torch
from tessera.model import GameModel

built = []
build = GameModel.__init__

def noted(model, *arguments, **more):
    build(model, *arguments, **more)
    built.append(model.device.type)

GameModel.__init__ = noted
from tessera.cli import main

assert main(["fit", "--config", "small.yaml", "--trainer.max_steps", "1"]) == 0
print(built)
print(*sorted(sys.modules))
"""

METRICS = """
import sys
from tessera.commands.light_metrics import load_metrics_lightly
load_metrics_lightly()
import lightning.pytorch
import torchmetrics
metric = torchmetrics.Metric
assert "torchmetrics.functional" not in sys.modules
assert torchmetrics.__version__ and not hasattr(torchmetrics, "__wrapped__")
"""


def run(program: str, *folders: Path) -> str:
    """What a program prints."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    environment = {**os.environ, "PYTHONPATH": python_path(*folders)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder of packages that cannot be loaded, as if they were installed."""
    folder = tmp_path / "packages"
    for name in HEAVY:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('{name} was loaded')")
        record = folder / f"{name}-99.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    return folder


def test_a_training_builds_one_model_and_loads_no_metric_it_does_not_use(
    folder: Path, repository: Path
) -> None:
    built, modules = run(TRAINS, repository).splitlines()[-2:]
    # One on the meta device, to see whether it can be built: it takes neither time nor memory.
    assert built == "['meta', 'cpu']"
    loaded = set(modules.split())
    assert not {*HEAVY, "torchmetrics.functional", "torch._inductor.compile_fx"} & loaded
    assert "torchmetrics.metric" in loaded and "tessera.model" in loaded


def test_an_engine_of_go_programs_loads_no_more_than_it_needs(
    folder: Path, repository: Path
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    run = [sys.executable, "-X", "importtime", "-W", "ignore", "-m", "tessera", "gtp"]
    done = subprocess.run(
        [*run, "--ckpt_path", "checkpoints/small/version_0/last.ckpt"],
        env={**os.environ, "PYTHONPATH": python_path(repository)},
        input="name\ngenmove b\n",
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("= Tessera\n\n= ")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"torch", "tessera.play.gtp"} <= loaded
    unneeded = {"torchmetrics.functional", "torch._inductor.compile_fx", "tensorboard"}
    unneeded |= {"PIL.Image", "tessera.monitor", "tessera.commands.fit.lightning_cli"}
    assert not {*HEAVY, *unneeded} & loaded


def test_torchmetrics_loads_what_is_asked_for_later(repository: Path) -> None:
    run(
        f"{METRICS}\nimport torchmetrics.classification\n"
        "assert 'torchmetrics.aggregation' not in sys.modules\n"
        "from torchmetrics import Accuracy, functional\n"
        "assert Accuracy is torchmetrics.classification.Accuracy\n"
        "assert issubclass(Accuracy, metric) and torchmetrics.Metric is metric\n"
        "assert torchmetrics.SumMetric()(3) == 3 and functional.accuracy\n",
        repository,
    )


def test_what_torchmetrics_finds_installed_is_not_loaded(repository: Path, packages: Path) -> None:
    run(METRICS, repository, packages)
    with pytest.raises(AssertionError, match="was loaded"):
        run(f"{METRICS}\ntorchmetrics.Accuracy", repository, packages)


@pytest.mark.parametrize("module", ["metric", "collections"])
def test_a_torchmetrics_of_another_form_is_loaded_whole(repository: Path, module: str) -> None:
    run(
        f"import sys\nsys.modules['torchmetrics.{module}'] = sys\n"
        "from tessera.commands.light_metrics import load_metrics_lightly\n"
        "load_metrics_lightly()\n"
        "assert not any(name.startswith('torchmetrics') for name in sys.modules)\n"
        "import torchmetrics.functional\nassert torchmetrics.Accuracy",
        repository,
    )
