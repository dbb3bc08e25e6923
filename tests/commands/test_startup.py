"""What a command loads and builds before its first step: what it takes is counted, not timed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


def waited_for_a_core_s(pid: int) -> float:
    """How long a process could have run, but others did; 0 where Linux does not count it."""
    file = Path(f"/proc/{pid}/schedstat")
    return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0.0


@pytest.mark.slow
def test_an_engine_of_go_programs_answers_within_six_seconds_of_its_start(
    folder: Path, repository: Path
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    command = [sys.executable, "-m", "tessera", "gtp", "--ckpt_path", "last", "--run_name", "small"]
    cores = set(sorted(os.sched_getaffinity(0))[:2])
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        with subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": python_path(repository)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"name\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"= Tessera\n"
            seconds.append(time.monotonic() - began - waited_for_a_core_s(process.pid))
            process.stdin.close()
        assert process.returncode == 0
    print(f"the first answer after {', '.join(f'{each:.2f}' for each in seconds)} s")
    assert min(seconds) < 6


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
