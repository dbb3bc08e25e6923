"""What ``tessera COMMAND --help`` shows first, and what last."""

from __future__ import annotations

import itertools

import pytest

from tessera.commands.fit.trainer_settings import STRATEGIES
from tests.runs import tessera


def test_the_help_names_the_strategies_that_are_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tessera("fit", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    about = said.partition("--trainer.strategy STRATEGY ")[2].partition("(type:")[0]
    assert about.startswith(f"{', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]};")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_the_help_shows_our_own_settings_first_and_the_trainers_last(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tessera(command, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"usage: tessera {command} [options]"
    options = [line.split()[0].rstrip(",") for line in lines if line.startswith("  -")]
    sections = [name[2:].split(".")[0].split("+")[0] for name in options if name[:2] == "--"]
    last = {name: nth for nth, name in enumerate(sections)}
    first = {name: nth for nth, name in reversed(list(enumerate(sections)))}
    parts = ["model", "data", "monitor", "defragmentation", "trainer"]
    assert list(dict.fromkeys(name for name in sections if name in parts)) == parts
    for name in ("run_name", "cpu_threads", "ckpt_path"):
        assert first[name] < first["model"]
    for before, after in itertools.pairwise(parts):
        assert last[before] < first[after]
    assert last["trainer"] == len(sections) - 1
    only = {"validate": {"json"}, "test": {"json"}, "predict": {"games"}}.get(command, set())
    assert {"json", "games"} & set(sections) == only
