"""Every command and every example of every README does what the page says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from tessera.commands.check import command as check
from tessera.commands.fit.config_file import SECTIONS
from tessera.commands.named_configs import config_names
from tests.commands.check.test_command import TINY
from tests.commands.scaling import synthetic
from tests.pages import (
    CONTRIBUTING,
    INNER_PAGES,
    PAGES,
    README,
    READMES,
    ROOT,
    blocks,
    lines,
    marked_blocks,
    name_of,
    prose,
)
from tests.runs import tessera


def test_readme_offers_one_command_to_train_and_one_to_test() -> None:
    marked = marked_blocks(README)
    assert set(marked) == {"train", "test"}
    assert "tessera fit --config configs/quickstart.yaml" in marked["train"]
    assert "pytest" in marked["test"]
    assert all(len(block.strip().splitlines()) == 1 for block in marked.values())


def test_every_page_is_covered() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so what is tracked cannot be listed")
    assert set(listing.stdout.splitlines()) == {name_of(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_run_or_shows_what_was_printed(page: Path) -> None:
    kinds = {"sh", "console", "python", ""}
    assert {language for language, _ in blocks(page)} <= kinds
    assert page == README or not marked_blocks(page)
    # An unmarked command would be run by nobody.
    assert not [line for line in lines(page, "") if line.startswith(("tessera ", "$ "))]


def test_contributors_are_told_what_ci_runs() -> None:
    told = " && ".join(lines(CONTRIBUTING, "sh"))
    (setup, pytest_command) = marked_blocks(README)["test"].strip().rsplit(" && ", 1)
    checks = re.findall(r"^step (?:lint|types) \"(.*)\"$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert told == " && ".join([setup, ".ci/run", pytest_command, *checks])


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


# What makes each command of the README short: the same settings, fewer and smaller.
SELFPLAY = (
    "--trainer.val_check_interval 2 --data.batch_size 8 --data.games_per_chunk 8"
    " --picture_every_n_validations 0 --model.d_model 8 --model.board.channels 4"
    " --model.expert_iteration.slots 2 --model.expert_iteration.first_rows 2"
    " --model.expert_iteration.simulations 2 --model.expert_iteration.fast_simulations 0"
    " --model.expert_iteration.playouts 1 --model.expert_iteration.playout_steps 1"
    " --model.expert_iteration.match_pairs 1 --model.expert_iteration.match_simulations 0"
)
SHORT = {
    "fit": "--trainer.val_check_interval 2 --data.val_batches 1 --data.games_per_chunk 32"
    " --model.d_model 8 --checkpoint_every_n_steps 2 --picture_every_n_validations 0",
    "fit --config fixed_point_9x9": "--trainer.val_check_interval 2 --data.val_batches 1"
    " --data.batch_size 8 --data.games_per_chunk 8 --model.d_model 8 --trainer.precision 32"
    " --model.fixed_point.cached_games 16 --picture_every_n_validations 0",
    "fit --config selfplay_5x5": SELFPLAY,
    "fit --config selfplay_9x9": SELFPLAY + " --trainer.precision 32",
    "fit --config selfplay_19x19": SELFPLAY + " --trainer.precision 32 --data.max_moves 8",
    "test": "--data.test_batches 1 --data.games_per_chunk 16 --model.d_model 8",
    "predict": "--data.games_per_chunk 16 --model.d_model 8",
    "gtp": "",
    "map": "--device cpu",
    "export": "--device cpu --games 1",
    "board": "--device cpu --no-open",
    "games": "--number 2 --device cpu",
    "arena": "--games 2 --device cpu",
    "check": "--device cpu",
    "compare": "--model.n_layers 4 --count 1",
    "scaling fit": "--replicates 10",
    "scaling": "--from 2e3 --to 8e3 --rungs 4 --data.board_size 3 --data.max_moves 12"
    " --data.batch_size 16 --data.games_per_chunk 64 --data.test_batches 1 --model.d_model 8"
    " --model.n_layers 1 --model.board.channels 4 --trainer.precision 32 --dry-run",
    "doctor": "",
    "bench": "--board_size 3 --batch_size 4 --seconds 0.01",
    "bench contexts": "--rows 192 --tokens 20 --steps 1 --device cpu",
    "bench search": "--board_size 3 --batch_size 4 --seconds 0.01 --device cpu",
    "bench memory": "--rows muse --device cpu --json muse.json",
    "bench memory --rows": "--device cpu",
    "bench memory --report": "--device cpu",
    "bench mixers": "--mixers identity --beside 2 --seconds 0.01 --device cpu",
    "bench map": "--config quickstart --board_size 3 --moves 2 --device cpu",
}


def test_the_pages_show_every_command() -> None:
    shown = {line.split()[1] for page in READMES for line in lines(page, "sh")}
    assert shown >= {"fit", "test", "predict", "map", "gtp", "board", "games", "export"}
    assert shown >= {"arena", "check", "compare", "scaling", "doctor", "bench"}


def until_it_serves(*arguments: str) -> int:
    """Run a command that serves until Ctrl-C, which follows as soon as it serves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    has_ended = threading.Event()

    def interrupt() -> None:
        while not has_ended.wait(0.05):
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                os.kill(os.getpid(), signal.SIGINT)
                return

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    code = tessera(*arguments, "--port", port)
    has_ended.set()
    waiting.join()
    return code - (128 + signal.SIGINT)


def commands_of(page: Path) -> list[str]:
    """The lines of a page but those of an earlier page that nothing here goes on from.

    A model that is trained here is gone on from where a later line names the last one, or begins
    with the weights of a run.
    """
    pages = [*READMES, *INNER_PAGES]
    earlier = {line for other in pages[: pages.index(page)] for line in lines(other, "sh")}
    own, kept = lines(page, "sh"), []
    for nth, line in enumerate(own, 1):
        is_gone_on_from = any("last" in later or "--init_from" in later for later in own[nth:])
        if (line.startswith("tessera fit ") and is_gone_on_from) or line not in earlier:
            kept.append(line)
    return kept


@pytest.mark.parametrize(
    "page", [page for page in (*READMES, *INNER_PAGES) if commands_of(page)], ids=name_of
)
def test_commands_of_a_page_run(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("pgx", "pyspiel"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "games.txt").write_text("E5 C3 G3\n")
    (tmp_path / "game.sgf").write_text("(;SZ[9];B[ee];W[cg];B[gg];W[gf])")
    synthetic.write(tmp_path / "runs.csv", mamba=synthetic.runs(seeds=2))
    monkeypatch.setattr(check, "scale_for", lambda device: TINY)
    if page == README:  # whose own training is run by the checks before landing
        quickstart = ("fit", "--config", "quickstart", "--trainer.max_steps", "2")
        assert tessera(*quickstart, *SHORT["fit"].split()) == 0
    for steps, line in enumerate(commands_of(page), 3):
        if line.startswith("echo "):  # writes a file that a command reads
            subprocess.run(line, shell=True, check=True)
            continue
        program, *arguments = shlex.split(re.sub(r"max_steps \d+", f"max_steps {steps}", line))
        assert program == "tessera", line
        if "--trainer.max_steps" not in arguments and arguments[0] == "fit":
            arguments += ["--trainer.max_steps", str(steps)]
        names = (" ".join(arguments[:count]) for count in (3, 2, 1))
        short = next(SHORT[name] for name in names if name in SHORT)
        run = until_it_serves if arguments[0] == "board" else tessera
        assert run(*arguments, *short.split()) == 0, line


# A command in the middle of a sentence may take hours: it is only parsed.
IN_PROSE = [
    (page, command)
    for page in READMES
    for command in re.findall(r"`tessera ((?:fit|validate|test|predict)\b[^`]*)`", prose(page))
]


def test_commands_in_the_prose_are_found() -> None:
    assert {page for page, _ in IN_PROSE} >= {README}


@pytest.mark.parametrize(("page", "command"), IN_PROSE, ids=lambda x: str(x).replace("/", "."))
def test_commands_in_the_prose_are_understood(
    page: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert tessera(*shlex.split(command), "--print_config") == 0, capsys.readouterr().err


def test_faults_on_the_pages_are_answered_as_they_say(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    told = [line for page in READMES for line in lines(page, "console")]
    assert len(told) >= 6
    for command, answer in zip(told[::2], told[1::2], strict=True):
        assert tessera(*command.removeprefix("$ tessera ").split()) == 2
        assert capfd.readouterr().err.strip() == answer


def examples() -> list[tuple[Path, str, str]]:
    """Each Python example: its page, the program, and what it prints, the plain block after it."""
    found = []
    for page in (*READMES, *INNER_PAGES):
        for match in re.finditer(
            r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```)?", page.read_text(), re.M | re.S
        ):
            found.append((page, match[1], match[2] or ""))
    return found


def test_the_page_of_the_game_shows_the_engine_in_python() -> None:
    assert "tessera/go/README.md" in [name_of(page) for page, _, printed in examples() if printed]


# Runs each program that it reads in a module of its own: none sees a name of another.
EACH = """
import contextlib, io, json, sys, traceback, types

found = []
for program in json.load(sys.stdin):
    out, fault = io.StringIO(), ""
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(program, "example", "exec"), vars(module))
        except BaseException:
            fault = traceback.format_exc()
    found.append((out.getvalue(), fault))
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def printed_by() -> dict[str, tuple[str, str]]:
    """What each Python example prints, and why it failed; one process, for they are short."""
    programs = [program for _, program, _ in examples()]
    run = subprocess.run(
        [sys.executable, "-c", EACH],
        **{"cwd": ROOT, "input": json.dumps(programs), "timeout": 240},
        **{"capture_output": True, "text": True},
    )
    assert run.returncode == 0, run.stderr
    return dict(zip(programs, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize(("page", "program", "printed"), examples(), ids=lambda x: "")
def test_python_of_a_page_prints_what_it_says(
    page: Path, program: str, printed: str, printed_by: dict[str, tuple[str, str]]
) -> None:
    out, fault = printed_by[program]
    assert not fault, f"{page}: {fault}"
    assert out == printed


def default_settings(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """All settings of ``tessera fit`` with their defaults."""
    assert tessera("fit", "--print_config") == 0
    settings: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return settings


def test_settings_of_the_pages_have_the_defaults_they_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = default_settings(capsys)
    text = "\n".join(page.read_text() for page in READMES)
    rows = re.findall(rf"^\| (`(?:{'|'.join(SECTIONS)})\.\w+`.*?) \| (.*?) \|", text, re.M)
    assert len(rows) >= 10
    for names, defaults in rows:
        for name, default in zip(
            re.findall(r"`(\w+\.\w+)`", names), defaults.split(", "), strict=True
        ):
            section, key = name.split(".")
            assert str(settings[section][key]) == str(yaml.safe_load(default.strip("`"))), name


@pytest.mark.parametrize("page", READMES, ids=name_of)
def test_every_setting_that_a_page_names_is_one(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = default_settings(capsys)
    names = re.findall(rf"(?:--|`)({'|'.join(SECTIONS)})\.(?!py\b)(\w+)", prose(page))
    assert not [f"{section}.{key}" for section, key in names if key not in settings[section]]


def test_the_page_of_the_commands_names_every_configuration() -> None:
    page = (ROOT / "tessera" / "commands" / "README.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)` \| \d+×", page, re.M)) == config_names()
