"""The README's marked blocks are what .ci/run executes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tessera.commands.check import command as check
from tests.commands.check.test_command import TINY
from tests.runs import tessera


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


def readme_lines(readme: str, language: str) -> list[str]:
    """The lines of all fenced blocks of this language that follow no ci marker."""
    blocks = re.findall(rf"(?<!-->)\n```{language}\n(.*?)^```", readme, re.M | re.S)
    return [line for block in blocks for line in block.strip().splitlines()]


# What makes each command of the README short: the same settings, fewer and smaller.
SHORT = {
    "fit": "--trainer.val_check_interval 2 --data.val_batches 1 --data.games_per_chunk 16"
    " --model.d_model 8 --checkpoint_every_n_steps 2 --picture_every_n_validations 0",
    "test": "--data.test_batches 1 --data.games_per_chunk 16 --model.d_model 8",
    "predict": "--data.games_per_chunk 16 --model.d_model 8",
    "check": "--device cpu",
    "doctor": "",
    "bench": "--board_size 3 --batch_size 4 --seconds 0.01",
}


def test_commands_of_the_readme_run(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("pgx", "pyspiel"):
        monkeypatch.setitem(sys.modules, module, None)
    shutil.copytree(repository / "configs", tmp_path / "configs")
    (tmp_path / "games.txt").write_text("E5 C3 G3\n")
    lines = readme_lines((repository / "README.md").read_text(), "sh")
    commands = ["fit", "fit", "test", "predict", "check", "doctor", "bench"]
    assert [line.split()[1] for line in lines] == commands
    monkeypatch.setattr(check, "scale_for", lambda device: TINY)
    for steps, line in enumerate(lines, 3):
        arguments = line.replace("max_steps 1000", f"max_steps {steps}").split()[1:]
        if "--trainer.max_steps" not in arguments and arguments[0] == "fit":
            arguments += ["--trainer.max_steps", str(steps)]
        assert tessera(*arguments, *SHORT[arguments[0]].split()) == 0, line


def test_faults_in_the_readme_are_answered_as_it_says(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    lines = readme_lines((repository / "README.md").read_text(), "console")
    assert len(lines) >= 4
    for command, answer in zip(lines[::2], lines[1::2], strict=True):
        assert tessera(*command.removeprefix("$ tessera ").split()) == 2
        assert capfd.readouterr().err.strip() == answer


def test_python_of_the_readme_prints_what_it_says(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    match = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", readme, re.S)
    assert match is not None
    run = subprocess.run(
        [sys.executable, "-c", match[1]], cwd=repository, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == match[2], run.stderr


def test_settings_of_the_readme_have_the_defaults_it_says(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tessera("fit", "--print_config") == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    rows = re.findall(
        r"^\| (`\w+\.\w+`.*?) \| (.*?) \|", (repository / "README.md").read_text(), re.M
    )
    assert len(rows) >= 10
    for names, defaults in rows:
        for name, default in zip(
            re.findall(r"`(\w+\.\w+)`", names), defaults.split(", "), strict=True
        ):
            section, key = name.split(".")
            assert str(settings[section][key]) == str(yaml.safe_load(default.strip("`"))), name
