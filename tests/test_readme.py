"""The README's marked blocks are what .ci/run executes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def marked_blocks(readme: str) -> dict[str, str]:
    """The commands of each fenced block that follows a line ``<!-- ci:NAME -->``."""
    return dict(re.findall(r"^<!-- ci:(\w+) -->\n```\w*\n(.*?)^```", readme, re.M | re.S))


def test_readme_offers_one_command_to_train_and_one_to_test(repository: Path) -> None:
    blocks = marked_blocks((repository / "README.md").read_text())
    assert set(blocks) == {"train", "test"}
    assert "tessera fit --config configs/quickstart.yaml" in blocks["train"]
    assert "pytest" in blocks["test"]
    assert all(len(block.strip().splitlines()) == 1 for block in blocks.values())


def run_ci_on(folder: Path, repository: Path, train: str, test: str) -> subprocess.CompletedProcess:
    """.ci/run in a throw-away repository whose README holds the two given commands."""
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(repository / ".ci" / "run", folder / ".ci" / "run")
    blocks = f"<!-- ci:train -->\n```sh\n{train}\n```\n<!-- ci:test -->\n```sh\n{test}\n```\n"
    (folder / "README.md").write_text(blocks)
    (folder / ".gitignore").write_text(".venv\n")
    commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "c"]
    for arguments in (["init", "-q"], ["add", "-A"], commit):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return subprocess.run(
        ["bash", ".ci/run"], cwd=folder, capture_output=True, text=True, timeout=60
    )


TOOLS = (
    "mkdir -p .venv/bin && for tool in ruff mypy; do"
    " printf '#!/bin/sh\\nexit %s\\n' {code} > .venv/bin/$tool; chmod +x .venv/bin/$tool; done"
)


@pytest.mark.parametrize(
    ("train", "test", "passes"),
    [
        (TOOLS.format(code=0), "echo 3 passed", True),
        (TOOLS.format(code=0) + "; false", "echo 3 passed", False),
        (TOOLS.format(code=0), "echo 1 failed; false", False),
        (TOOLS.format(code=1), "echo 3 passed", False),
        (TOOLS.format(code=0), "", False),
    ],
    ids=["all pass", "training fails", "a test fails", "the linter fails", "no test command"],
)
def test_ci_runs_the_readme_commands_and_reports_any_failure(
    tmp_path: Path, repository: Path, train: str, test: str, passes: bool
) -> None:
    result = run_ci_on(tmp_path / "clone", repository, train, test)
    assert (result.returncode == 0) is passes, result.stdout + result.stderr
    assert not test or "\n3 passed\n" in result.stdout or "\n1 failed\n" in result.stdout
