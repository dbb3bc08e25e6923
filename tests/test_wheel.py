"""The program as a wheel: what is in it, and that it trains and predicts from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tessera.commands.named_configs import config_names, model_names
from tessera.training.run_folder import given_names


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the repository, where building leaves nothing behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("tessera", "configs", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(repository / name, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    run([sys.executable, "-c", build], source)
    (built,) = folder.glob("tessera-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The folder in which the wheel is installed, beside nothing else."""
    target = wheel.parent / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile"]
    run([*pip, "--quiet", "--target", target, wheel], wheel.parent)
    return target


def run(command: list[str | Path], folder: Path, installed: Path | None = None) -> str:
    """What a command prints that runs in a folder, with only ``installed`` before the packages."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if installed is not None:
        environment["PYTHONPATH"] = str(installed)
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_holds_the_program_its_page_and_the_configurations_only(
    wheel: Path, repository: Path
) -> None:
    held = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    description = {path for path in held if path.parts[0].endswith(".dist-info")}
    program = {path.relative_to(repository) for path in (repository / "tessera").rglob("*.py")}
    configurations = {
        Path("tessera") / path.relative_to(repository)
        for path in (repository / "configs").rglob("*.yaml")
    }
    folder = repository / "tessera" / "commands" / "board" / "page"
    page = {path.relative_to(repository) for path in folder.iterdir()}
    assert {path.suffix for path in page} == {".html", ".css", ".js", ".svg"}
    weights = {Path("tessera/weights") / f"{name}.safetensors" for name in given_names()}
    assert held - description == program | configurations | page | weights
    assert len(configurations) == len(config_names()) + len(model_names())


def test_the_installed_program_trains_and_predicts_from_an_empty_folder(
    installed: Path, tmp_path: Path
) -> None:
    where = "import tessera; print(tessera.__file__)"
    found = run([sys.executable, "-c", where], tmp_path, installed)
    assert Path(found.strip()) == installed / "tessera" / "__init__.py"
    # The command is what pip wrote, so neither the working folder nor the tree is on its path.
    command = [installed / "bin" / "tessera"]
    fit = ["fit", "--config", "quickstart", "--data.games_per_chunk", "32"]
    said = run([*command, *fit, "--trainer.max_steps", "2"], tmp_path, installed)
    checkpoint = "checkpoints/quickstart/version_0/last.ckpt"
    longer = f"--trainer.max_steps 4 --ckpt_path {checkpoint}"
    assert f"resume:     tessera {' '.join(fit)} {longer}" in said.splitlines()
    assert (tmp_path / checkpoint).is_file()
    (tmp_path / "games.txt").write_text("E5 C3 G3\n")
    predict = ["predict", "--config", "quickstart", "--ckpt_path", "last", "--games", "games.txt"]
    lines = run([*command, *predict], tmp_path, installed).splitlines()
    assert [json.loads(line)["played"] for line in lines] == ["E5", "C3", "G3", None]
