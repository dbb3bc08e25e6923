"""The rooms of the house and the arrows between them, as the README lists them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What each room may import of the others. Whatever stands on top may import everything below it.
ALLOWED: dict[str, set[str]] = {
    "setting_errors": set(),
    "vocabulary": {"setting_errors"},
    "accelerator": set(),
    "compiling": {"accelerator"},
    "stopwatch": set(),
    "transfers": {"stopwatch"},
    "go": {"vocabulary", "setting_errors", "accelerator", "transfers"},
    "model": {"vocabulary", "setting_errors", "accelerator", "transfers"},
    "data": {"accelerator", "setting_errors", "vocabulary", "transfers", "go"},
    "monitor": {
        "accelerator",
        "setting_errors",
        "vocabulary",
        "stopwatch",
        "transfers",
        "go",
        "model",
    },
    "training": {
        "accelerator",
        "compiling",
        "setting_errors",
        "vocabulary",
        "transfers",
        "signals",
        "go",
        "model",
        "data",
        "play",
        "monitor",
    },
    "play": {"accelerator", "setting_errors", "vocabulary", "transfers", "go", "model", "data"},
    "commands": {
        "accelerator",
        "compiling",
        "setting_errors",
        "vocabulary",
        "transfers",
        "signals",
        "go",
        "model",
        "data",
        "training",
        "monitor",
        "play",
    },
    "signals": set(),
    # What a program of the user's begins with.
    "companion": {"data", "go", "model", "play", "setting_errors", "training", "vocabulary"},
    "": {"companion"},
    "__main__": {"cli"},
}
ALLOWED["commands"].add("companion")
ALLOWED["cli"] = ALLOWED["commands"] | {"commands"}

# Rooms inside a room: none reads another one, and what lies beside them reads none of them.
INNER: dict[str, set[str]] = {
    "commands": {"fit", "check", "bench", "board", "map", "compare", "export", "scaling", "arena"}
}
# But for these: what is compared is what fit would run.
INNER_READS: dict[str, set[str]] = {"compare": {"fit"}, "scaling": {"fit", "compare"}}

# Packages outside the house that a room never touches.
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric", "jsonargparse"}
FORBIDDEN: dict[str, set[str]] = {
    "vocabulary": LIGHTNING | {"torch"},
    "transfers": LIGHTNING | {"mamba_ssm", "torchmetrics", "tensorboard"},
    "go": LIGHTNING | {"mamba_ssm", "torchmetrics", "tensorboard"},
    "model": LIGHTNING | {"torchmetrics", "tensorboard"},
}

# Where a package's module and its distribution have different names.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "mamba_ssm": "mamba-ssm",
    "causal_conv1d": "causal-conv1d",
    "selective_scan_cuda": "mamba-ssm",
    "pynvml": "nvidia-ml-py",
    "pyspiel": "open-spiel",
    "triton": "torch",
    "yaml": "pyyaml",
}

TOP_LEVEL = {
    "tessera",
    "tests",
    "configs",
    "lightning_logs",
    "checkpoints",
    "Dockerfile",
    "docker-compose.yml",
    "pyproject.toml",
    "README.md",
}
KEPT_EMPTY = {"lightning_logs", "checkpoints"}


def imported_modules(source: str, module: str, is_package: bool) -> set[str]:
    """Absolute dotted names of everything a module's source imports, wherever in it."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from tessera import go` names a room only together with the imported name.
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def wrong_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """What ``module`` imports against the arrows, as readable lines."""
    _, room, inner, *_ = [*module.split("."), "", ""]
    wrong = []
    for name in sorted(imported_modules(source, module, is_package)):
        parts = name.split(".")
        if parts[0] == "tessera" and len(parts) > 1 and parts[1] in ALLOWED:
            allowed = ALLOWED.get(room, set()) | {room}
            others = INNER.get(room, set()) - {inner} - INNER_READS.get(inner, set())
            if parts[1] not in allowed or (parts[1] == room and not others.isdisjoint(parts[2:3])):
                wrong.append(f"{module} imports {name}")
        elif parts[0] in FORBIDDEN.get(room, set()):
            wrong.append(f"{module} imports {name}")
    return wrong


def test_no_module_imports_against_the_arrows(repository: Path) -> None:
    wrong, rooms = [], set()
    for path in sorted((repository / "tessera").rglob("*.py")):
        parts = path.relative_to(repository).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        rooms.add(module.split(".")[1] if "." in module else "")
        wrong += wrong_imports(path.read_text(), module, is_package)
    assert not wrong, "\n".join(wrong)
    assert {"vocabulary", "go", "commands"} <= rooms


def test_every_package_that_is_imported_is_declared(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["cuda"], *extras["rivals"]]
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    imported = set()
    for path in (repository / "tessera").rglob("*.py"):
        for name in imported_modules(path.read_text(), "tessera.room.module", False):
            imported.add(name.split(".")[0])
    imported -= {"tessera", *sys.stdlib_module_names}
    assert {DISTRIBUTIONS.get(name, name) for name in imported} <= declared


def test_every_room_is_drawn(repository: Path) -> None:
    for room, drawn in INNER.items():
        packages = (repository / "tessera" / room).glob("*/__init__.py")
        assert {package.parent.name for package in packages} == drawn
    entries = (repository / "tessera").iterdir()
    rooms = {
        entry.stem
        for entry in entries
        if entry.suffix == ".py" or (entry.is_dir() and any(entry.rglob("*.py")))
    }
    assert rooms - set(ALLOWED) <= {"__init__"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tessera.model.model", "import lightning"),
        ("tessera.model.model", "from lightning.pytorch import LightningModule"),
        ("tessera.model.scans.selective", "from tessera.go.engine import GPUGoEngine"),
        ("tessera.model.backend", "from ..go import engine"),
        ("tessera.model.backend", "from .. import go"),
        ("tessera.go.engine", "from tessera import data"),
        ("tessera.go.engine", "def f():\n    import tessera.data.stream as stream"),
        ("tessera.go.engine", "import lightning.pytorch"),
        ("tessera.data.stream", "from tessera.training import module"),
        ("tessera.data.stream", "from tessera.model import MambaModel"),
        ("tessera.play.model_player", "from tessera.training import TesseraModule"),
        ("tessera.monitor.probes", "from tessera.training.module import GoModule"),
        ("tessera.training.module", "from tessera.cli import main"),
        ("tessera.vocabulary", "from tessera.go import rules"),
        ("tessera.vocabulary", "import torch"),
        ("tessera.transfers", "from tessera.vocabulary import Vocabulary"),
        ("tessera.vocabulary", "from tessera.transfers import to_host"),
        ("tessera.monitor.probes", "from tessera.data import GameStream"),
        ("tessera.commands.check.report", "from tessera.commands.bench import report"),
        ("tessera.commands.check.report", "from ..bench import report"),
        ("tessera.commands.arguments", "from tessera.commands.fit.parser import TesseraParser"),
    ],
)
def test_an_import_against_the_arrows_is_found(module: str, source: str) -> None:
    assert len(wrong_imports(source, module)) == 1


def test_imports_along_the_arrows_are_allowed() -> None:
    assert not wrong_imports("from tessera.go import GPUGoEngine\nimport torch", "tessera.data.x")
    assert not wrong_imports("from .rules import Rules", "tessera.go", is_package=True)
    assert not wrong_imports("from ..one_line import one_line", "tessera.commands.fit.parser")
    assert not wrong_imports("from tessera.commands.fit import parser", "tessera.commands.fit.x")
    assert not wrong_imports("from ..vocabulary import Vocabulary", "tessera.go.engine")


def test_importing_the_game_and_the_model_brings_no_lightning() -> None:
    program = (
        "import sys, tessera.go, tessera.model\n"
        "assert 'torch' in sys.modules and 'lightning' not in sys.modules\n"
        "assert not any(name.startswith('tessera.data') for name in sys.modules)\n"
        # torch's compiler takes as long as all the rest of torch.
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_importing_the_package_brings_nothing() -> None:
    program = (
        "import sys, tessera\n"
        "assert callable(tessera.load)\n"
        "assert not any(name.startswith(('torch', 'tessera.')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_the_top_level_holds_only_what_was_agreed(repository: Path) -> None:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so what is tracked cannot be listed")
    names = {line.split("/", 1)[0] for line in listing.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
    kept = {line for line in listing.stdout.splitlines() if line.split("/")[0] in KEPT_EMPTY}
    assert kept == {f"{folder}/.gitkeep" for folder in KEPT_EMPTY}
