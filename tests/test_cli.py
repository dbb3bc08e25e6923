"""What a person types, and what comes back: the front door, faults, and a first run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tessera.commands.fit import memory_needs
from tests.runs import fit, python_path, tessera

FILES = {
    "misspelt.yaml": "data:\n  bord_size: 9\n",
    "type.yaml": "data:\n  board_size: nine\n",
    "text_komi.yaml": "data:\n  komi: six\n",
    "empty.yaml": "",
    "only_comment.yaml": "# nothing\n",
    "tab.yaml": "data:\n\tboard_size: 9\n",
    "twice.yaml": "data:\n  board_size: 9\n  seed: 1\n  board_size: 13\n",
    "section.yaml": "data: 3\n",
    "list.yaml": "- data\n",
    "open.yaml": "data: {board_size: 9\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--config misspelt.yaml", "data.bord_size is no setting. Did you mean data.board_size?"),
        ("--data.bord_size 9", "--data.bord_size is no setting. Did you mean --data.board_size?"),
        ("--data.board 9", "--data.board is no setting. Did you mean --data.board_size?"),
        ("--config type.yaml", "data.board_size must be a whole number, got nine."),
        ("--data.board_size 9.5", "data.board_size must be a whole number, got 9.5."),
        ("--data.batch_size=-4", "data.batch_size must be at least 1, got -4."),
        ("--data.board_size 1", "data.board_size must be 2 to 19, got 1."),
        ("--data.board_size 25", "data.board_size must be 2 to 19, got 25."),
        ("--config text_komi.yaml", "data.komi must be a number or null, got six."),
        (
            "--config none.yaml",
            "config must be a file or one of any_board, board_19x19, board_9x9, fixed_point_9x9, ",
        ),
        ("--config", "config must name a file, got none."),
        ("--config empty.yaml", "config empty.yaml must not be empty."),
        ("--config only_comment.yaml", "config only_comment.yaml must not be empty."),
        ("--config tab.yaml", "config tab.yaml, line 2: a tab; YAML must be indented with spaces."),
        (
            "--config=twice.yaml",
            "config twice.yaml, line 4: data.board_size is there twice; keep one of them.",
        ),
        (
            "--config section.yaml",
            "config section.yaml: data must hold settings by name, got 3.",
        ),
        (
            "--config list.yaml",
            "config list.yaml must hold settings by name, such as trainer: and data:.",
        ),
        ("--config open.yaml", "config open.yaml, line 2: expected ',' or '}', but got "),
        (
            "--model.scan fast",
            "model.mamba.scan must be one of auto, triton, mamba_ssm, torch, got",
        ),
        ("--model.mixer mamba3", "model.mixer must be mamba, mamba2"),
        (
            "--model.mixer mamba2 --model.scan triton",
            "model.mamba2.scan must be one of auto, mamba_ssm, torch, got triton.",
        ),
        ("--model.lr=-1", "model.lr must be more than 0, got -1.0."),
        ("--data.player me", "data.player must be one of uniform, rules, got me."),
        ("--checkpoint_every_n_steps 0", "checkpoint_every_n_steps must be at least 1, got 0."),
        ("--run_name a/b", "run_name must be letters, digits, . - and _, got 'a/b'."),
        ("--trainer.max_steps=-5", "trainer.max_steps must be at least -1, got -5."),
        ("--trainer.max_steps many", "trainer.max_steps must be a whole number, got many."),
        ("--ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
        ("surplus", "surplus is no setting."),
    ],
)
def test_a_fault_is_one_line_and_exit_code_2(
    folder: Path, capfd: pytest.CaptureFixture, arguments: str, message: str
) -> None:
    for name, text in FILES.items():
        Path(name).write_text(text)
    assert tessera("fit", *arguments.split()) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1, err
    assert err.startswith(f"tessera: {message}")
    assert not any(Path("checkpoints").rglob("*")) and not Path("lightning_logs").exists()


def test_all_faults_are_said_at_once(folder: Path, capfd: pytest.CaptureFixture) -> None:
    wrong = ["--data.board_size", 25, "--data.context", 0, "--model.lr=-1", "--cpu_threads", 0]
    assert tessera("fit", *wrong) == 2
    assert len(capfd.readouterr().err.splitlines()) == 4


def test_help_version_and_unknown_commands(capsys: pytest.CaptureFixture) -> None:
    assert tessera("--help") == 0
    assert "validate  measure a model" in capsys.readouterr().out
    assert tessera("--version") == 0
    assert capsys.readouterr().out.startswith("tessera ")
    assert tessera("fitt") == 2
    assert "the command must be one of fit, validate" in capsys.readouterr().err
    assert tessera() == 2


def test_help_loads_neither_torch_nor_lightning() -> None:
    program = (
        "import sys; from tessera.cli import main; main(['--help'])\n"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert time.monotonic() - began < 5


def test_print_config_shows_every_setting_and_one_board_size(capsys: pytest.CaptureFixture) -> None:
    assert tessera("fit", "--data.board_size", 9, "--print_config") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["data"]["board_size"] == 9 and shown["data"]["player"] == "rules"
    assert "vocab_size" not in shown["model"] and shown["model"]["d_model"] == 256
    assert shown["trainer"]["gradient_clip_val"] == 1.0
    assert tessera("fit", "--model.vocab_size", 84) == 2
    assert "vocab_size" in capsys.readouterr().err


# Board size, context and blocks of each configuration.
CONFIGURATIONS = {
    "quickstart": (9, None, 1),
    "tessera": (19, 64, 1),
    "any_board": (9, None, 2),
    "board_9x9": (9, None, 1),
    "board_19x19": (19, None, 2),
    "fixed_point_9x9": (9, None, 1),
    "landmarks_9x9": (9, None, 4),
    "full_game": (19, None, 4),
    "uniform_9x9": (9, None, 4),
    "rules_9x9": (9, None, 4),
    "selfplay_5x5": (5, 1, 1),
    "selfplay_9x9": (9, 1, 1),
    "selfplay_19x19": (19, 1, 1),
}


def test_every_configuration_is_known(repository: Path) -> None:
    assert {file.stem for file in (repository / "configs").glob("*.yaml")} == set(CONFIGURATIONS)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_are_complete_and_belong_to_what_the_design_says(
    name: str, repository: Path, capsys: pytest.CaptureFixture
) -> None:
    file = repository / "configs" / f"{name}.yaml"
    assert tessera("fit", "--config", file, "--print_config") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    found = (shown["data"]["board_size"], shown["data"]["context"], shown["model"]["n_layers"])
    assert found == CONFIGURATIONS[name]
    assert name.startswith(("quickstart", "selfplay")) or shown["model"]["d_model"] == 256
    # Valid in every other respect as well: everything but a checkpoint is there.
    assert tessera("fit", "--config", file, "--ckpt_path", "none.ckpt") == 2
    assert "none.ckpt is no checkpoint" in capsys.readouterr().err


def test_a_run_as_a_process_ends_with_three_lines_and_warns_of_nothing(
    folder: Path, repository: Path
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tessera", "fit", "--config", "small.yaml"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": python_path(repository), "PATH": "", "HOME": str(folder)},
        check=True,
    )
    checkpoint = "checkpoints/small/version_0/last.ckpt"
    assert run.stdout.splitlines() == [
        f"checkpoint: {checkpoint}",
        "curves:     tensorboard --logdir lightning_logs",
        "resume:     tessera fit --config small.yaml "
        f"--trainer.max_steps 40 --ckpt_path {checkpoint}",
    ]
    assert Path(checkpoint).is_file()
    shown = run.stderr.splitlines()
    assert all(line.startswith(("step ", "validation at step ")) for line in shown), run.stderr
    assert shown[-1].startswith("step 20/20  loss ")
    for figure in ("excess_nats", "tokens/s", "left"):
        assert figure in shown[-1]


def test_validate_and_test_measure_a_checkpoint_on_games_of_their_own(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 5) == 0
    capsys.readouterr()
    # The model's and the games' settings come from the checkpoint.
    for command, group in (("validate", "val"), ("test", "test")):
        assert tessera(command, "--ckpt_path", "last", "--run_name", "small") == 0
        shown = capsys.readouterr()
        for metric in ("loss", "excess_nats", "legal_mass", "legal_top1"):
            assert f"\n{metric} " in shown.out
        assert "captures 0" in shown.out and f"{group}/" not in shown.out
    assert [path.name for path in Path("lightning_logs/small").iterdir()] == ["version_0"]


def test_out_of_memory_names_the_setting_to_lower(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What could never fit is refused before; here it looks as if there were room.
    monkeypatch.setattr(memory_needs, "device_memory", lambda device: 2**100)
    games = ["--data.games_per_chunk", 4 * 10**13]
    assert fit(*games) == 1
    told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tessera:")]
    assert len(told) == 1 and "lower data.games_per_chunk (=40000000000000)" in told[0]
    assert fit("--model.d_model", 10**7) == 1
    told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tessera:")]
    assert len(told) == 1 and "lower data.batch_size" in told[0] and "model.d_model" in told[0]


def test_predict_writes_the_distribution_of_every_ply(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 2) == 0
    Path("games.txt").write_text("# two games\nA1 b2 pass C3\n\nB2  # the centre\n")
    Path("game.sgf").write_text("(;GM[1]SZ[3];B[ab];W[bb])")
    capsys.readouterr()
    given = ["--ckpt_path", "last", "--run_name", "small"]
    assert tessera("predict", *given, "--games", "games.txt", "game.sgf") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    games = [(line["game"], line["ply"], line["played"]) for line in lines]
    assert games == [
        *[("games.txt:2", ply, v) for ply, v in enumerate(["A1", "B2", "pass", "C3", None])],
        *[("games.txt:4", ply, v) for ply, v in enumerate(["B2", None])],
        *[("game.sgf", ply, v) for ply, v in enumerate(["A2", "B2", None])],
    ]
    for line in lines:
        chances = line["probabilities"]
        assert sum(chances.values()) == pytest.approx(1, abs=1e-4)
        assert list(chances)[:2] == ["A3", "B3"] and list(chances)[-2:] == ["pass", "EOS"]
        assert len(chances) == 11
    # Games with the same beginning are expected to begin alike.
    assert lines[0]["probabilities"] == lines[5]["probabilities"]
    assert lines[1]["probabilities"] != lines[6]["probabilities"]


def test_predict_says_which_game_it_cannot_read(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert tessera("predict", "--games", "x.sgf") == 2
    assert "ckpt_path must name the model" in capsys.readouterr().err
    assert fit("--trainer.max_steps", 1) == 0
    Path("far.txt").write_text("A1 Q16")
    Path("big.sgf").write_text("(;GM[1]SZ[19];B[ab])")
    Path("empty.txt").write_text("# no game\n")
    for games, message in (
        ([], "games must name at least one SGF or text file."),
        ([""], "games must name at least one SGF or text file."),
        (["none.sgf"], "games must be files; there is no none.sgf."),
        (["far.txt"], "far.txt:1: move 2: vertex must be A1 to C3 or pass, got 'Q16'."),
        (["big.sgf"], "big.sgf: the board must be 3×3, the model's, got 19."),
        (["empty.txt"], "empty.txt: there is no game in it."),
    ):
        capsys.readouterr()
        arguments = ["--games", *games] if games else []
        assert tessera("predict", "--ckpt_path", "last", "--run_name", "small", *arguments) == 2
        assert capsys.readouterr().err == f"tessera: {message}\n"
