"""What can be known of the Dockerfile and the compose file without a Docker engine."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def instructions(repository: Path) -> list[tuple[str, str]]:
    """The Dockerfile as (INSTRUCTION, rest of the line), continuation lines joined."""
    text = (repository / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, rest in (line.split(None, 1) for line in lines)]


def value_of(instructions: list[tuple[str, str]], name: str) -> str:
    """The rest of the one line with this instruction."""
    (value,) = [rest for instruction, rest in instructions if instruction == name]
    return value


def test_compose_file_follows_the_compose_specification(repository: Path) -> None:
    text = (repository / "docker-compose.yml").read_text()
    spec = PyCompose.from_yaml(text)
    spec.validate()
    assert spec.service_names() == ["tessera", "tensorboard"]
    with pytest.raises(ValueError):
        PyCompose.from_yaml(text.replace("shm_size: 8gb", "shm_size: [8gb]")).validate()


def test_tessera_service_has_the_gpu_the_shared_memory_and_the_project(
    compose: dict[str, Any],
) -> None:
    service = compose["services"]["tessera"]
    assert service["runtime"] == "nvidia"
    assert service["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert service["shm_size"] == "8gb"
    assert service["volumes"] == [".:/app", "triton:/root/.triton"]
    assert "triton" in compose["volumes"]
    assert service["build"] == "."


def test_services_work_where_the_project_is_mounted(
    compose: dict[str, Any], instructions: list[tuple[str, str]]
) -> None:
    workdir = value_of(instructions, "WORKDIR")
    for service in compose["services"].values():
        assert service["working_dir"] == workdir
        assert workdir in [volume.split(":")[1] for volume in service["volumes"]]


def test_image_runs_the_command_that_the_package_installs(
    instructions: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    (entry,) = json.loads(value_of(instructions, "ENTRYPOINT"))
    assert entry in project["scripts"]
    assert json.loads(value_of(instructions, "CMD")) == ["--help"]


@pytest.mark.parametrize("how", ["compose command", "image default"])
def test_what_the_container_starts_with_is_accepted_by_the_program(
    how: str,
    compose: dict[str, Any],
    instructions: list[tuple[str, str]],
    repository: Path,
    tmp_path: Path,
) -> None:
    if how == "compose command":
        arguments = [*compose["services"]["tessera"]["command"], "--print_config"]
    else:
        arguments = json.loads(value_of(instructions, "CMD"))
    program = "import sys; from tessera.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_base_image_brings_a_torch_that_the_package_accepts(
    instructions: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    match = re.fullmatch(
        r"pytorch/pytorch:(\d+\.\d+\.\d+)-cuda\d+\.\d+-cudnn\d+-devel",
        value_of(instructions, "FROM"),
    )
    assert match, "the kernels need nvcc, which only a devel image has"
    requirements = {r.name: r for r in map(Requirement, project["dependencies"])}
    assert requirements["torch"].specifier.contains(match[1])


def test_image_installs_the_extra_with_the_mamba_kernels(
    instructions: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    installs = [shlex.split(rest) for name, rest in instructions if name == "RUN"]
    (words,) = [words for words in installs if "-e" in words]
    target = words[words.index("-e") + 1]
    assert target == ".[cuda]"
    assert "--no-build-isolation" in words
    extra = {canonicalize_name(Requirement(r).name) for r in extras(project, "cuda")}
    assert extra == {"mamba-ssm", "causal-conv1d"}


def extras(project: dict[str, Any], name: str) -> list[str]:
    """The requirements of one extra."""
    return project["optional-dependencies"][name]


def test_extras_are_the_ones_that_are_promised(project: dict[str, Any]) -> None:
    assert set(project["optional-dependencies"]) == {"cuda", "test", "rivals"}
    rivals = {canonicalize_name(Requirement(r).name) for r in extras(project, "rivals")}
    assert {"pgx", "open-spiel"} <= rivals


def test_everything_copied_is_there_and_reaches_the_build(
    instructions: list[tuple[str, str]], repository: Path
) -> None:
    ignored = (repository / ".dockerignore").read_text().split()
    sources = [
        source for name, rest in instructions if name == "COPY" for source in rest.split()[:-1]
    ]
    assert {"pyproject.toml", "README.md", "tessera", "configs"} == set(sources)
    for source in sources:
        assert (repository / source).exists(), source
        assert source not in ignored


def test_dockerfile_passes_the_linter(repository: Path) -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    result = subprocess.run(
        [hadolint, "--no-color", repository / "Dockerfile"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
