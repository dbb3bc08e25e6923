"""What can be known of the workflow without running it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tessera.commands.doctor import TESTED_ON


@pytest.fixture
def workflow(repository: Path) -> dict[Any, Any]:
    return yaml.safe_load((repository / ".github" / "workflows" / "ci.yml").read_text())


def test_it_runs_at_pushes_and_pull_requests_and_may_only_read(workflow: dict[Any, Any]) -> None:
    # To YAML the key `on` is the truth.
    assert set(workflow[True]) == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read"}


def test_it_calls_what_everybody_calls_and_ends(workflow: dict[Any, Any], repository: Path) -> None:
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest" and 0 < job["timeout-minutes"] <= 60
    checkout, python, run = job["steps"]
    assert checkout["uses"].startswith("actions/checkout@v")
    assert python["uses"].startswith("actions/setup-python@v")
    # Text: as a number 3.10 would be 3.1.
    assert python["with"]["python-version"] in TESTED_ON
    assert run == {"run": ".ci/run"}
    assert os.access(repository / ".ci" / "run", os.X_OK)


def test_a_checkout_without_history_and_branch_can_be_cloned_as_ci_does(tmp_path: Path) -> None:
    """actions/checkout fetches one commit of a pull request, on no branch."""

    def git(*arguments: str, folder: Path = tmp_path) -> str:
        user = ["-c", "user.name=t", "-c", "user.email=t@t"]
        run = subprocess.run(
            ["git", *user, *arguments], cwd=folder, check=True, capture_output=True, text=True
        )
        return run.stdout.strip()

    origin = tmp_path / "origin"
    git("init", "-q", str(origin))
    for number in "12":
        (origin / "file").write_text(number)
        git("add", "file", folder=origin)
        git("commit", "-qm", number, folder=origin)
    git("clone", "-q", "--depth", "1", f"file://{origin}", "checkout")
    git("checkout", "-q", "--detach", folder=tmp_path / "checkout")
    git("clone", "--quiet", str(tmp_path / "checkout"), "clone")
    assert (tmp_path / "clone" / "file").read_text() == "2"
