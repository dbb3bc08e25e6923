"""Configurations that come with the program are found by name; a file of that name wins."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import tessera as tessera_package
from tessera.commands.named_configs import config_names, model_names, with_config_files
from tests.runs import tessera

NAMES = [
    *("any_board", "board_19x19", "board_9x9", "fixed_point_9x9", "full_game", "landmarks_9x9"),
    *(
        "quickstart",
        "rules_9x9",
        "selfplay_19x19",
        "selfplay_5x5",
        "selfplay_9x9",
        "tessera",
        "uniform_9x9",
    ),
]


def test_the_names_are_those_of_the_folder(repository: Path) -> None:
    assert config_names() == NAMES
    assert sorted(path.stem for path in (repository / "configs").glob("*.yaml")) == NAMES
    models = sorted(path.stem for path in (repository / "configs" / "models").iterdir())
    assert model_names() == models and {"transformer", "hybrid"} <= set(models)
    assert not set(models) & set(NAMES)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    "arguments",
    ["--config quickstart", "--config=quickstart", "-c quickstart", "-cquickstart"],
)
def test_every_command_takes_a_name(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, arguments: str
) -> None:
    assert tessera(command, *arguments.split(), "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["d_model"] == 64


def test_the_last_of_several_configurations_wins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["--config", "uniform_9x9", "--config", "quickstart", "--config", "small.yaml"]
    assert tessera("fit", *names, "--print_config") == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["data"]["player"] == "uniform"
    assert settings["cpu_threads"] == 1 and settings["data"]["board_size"] == 3


def test_what_is_said_later_wins_and_a_configuration_overrides_options_before_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_command = ["--data.seed", "7", "--data.board_size", "5"]
    arguments = [*of_command, "--config", "quickstart", "--data.komi", "0.5"]
    assert tessera("fit", *arguments, "--print_config") == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    # The configuration says nothing of a seed.
    assert (data["seed"], data["board_size"], data["komi"]) == (7, 9, 0.5)
    page = Path(tessera_package.__file__).parent / "commands" / "README.md"
    said = "a `--config` overrides the options that stand before it"
    assert said in " ".join(page.read_text().split())


def test_a_file_wins_over_a_name_and_a_folder_does_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("quickstart").write_text("data: {board_size: 5}")
    Path("full_game").mkdir()
    names = ["--config", "full_game", "--config", "quickstart"]
    assert tessera("fit", *names, "--print_config") == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["data"]["board_size"] == 5 and settings["model"]["n_layers"] == 4


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_an_unknown_name_is_a_line_with_the_names_there_are(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert tessera(command, "--config", "quickstart", "--config", "foo") == 2
    names = f"{', '.join(NAMES)}, or a model that tessera compare lists"
    said = f"tessera: config must be a file or one of {names}, got foo.\n"
    assert capsys.readouterr() == ("", said)
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_a_run_has_the_first_configuration_s_name_and_resumes_as_it_was_typed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--config", "transformer", "--config", "small.yaml", "--data.games_per_chunk", "16"]
    assert tessera("fit", *small, "--trainer.max_steps", 1) == 0
    checkpoint = "checkpoints/transformer/version_0/last.ckpt"
    resume = f"tessera fit {' '.join(small)} --trainer.max_steps 2 --ckpt_path {checkpoint}"
    assert f"resume:     {resume}" in capsys.readouterr().out.splitlines()
    assert tessera(*resume.split()[1:]) == 0
    assert [path.name for path in Path("checkpoints").iterdir()] == ["transformer"]


def test_a_model_in_front_of_a_configuration_leaves_it_the_games_and_the_sizes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for names in (["hybrid", "board_9x9"], ["hybrid"], ["board_9x9"]):
        configs = [argument for name in names for argument in ("--config", name)]
        assert tessera("fit", *configs, "--print_config") == 0
        shown.append(yaml.safe_load(capsys.readouterr().out))
    both, model, games = shown
    assert both["model"]["mixer"] == model["model"]["mixer"] == [*["mamba"] * 3, "attention"]
    for section in ("trainer", "data"):
        assert both[section] == games[section]
    assert both["model"]["head"] == "points" and both["model"]["lr"] == games["model"]["lr"]


def test_help_names_the_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    assert tessera("fit", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    names = f"{', '.join(NAMES)}, or a model that tessera compare lists"
    assert f"A YAML file of settings, or one of {names}." in shown


def test_only_the_value_of_config_is_a_name() -> None:
    argv = ["fit", "--run_name", "quickstart", "--config", "none", "quickstart", "-c"]
    assert with_config_files(argv) == argv
