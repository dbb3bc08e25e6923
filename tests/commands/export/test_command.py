"""``tessera export`` as it is typed, and what it writes, used by every command."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import tessera as program
from tessera.commands import gtp
from tessera.commands.export.effect import divergence, measure_effect
from tessera.commands.gtp import Lines
from tessera.data import GameDataModule, GameStream
from tessera.data.stream import TEST_NUMBERS
from tessera.training.checkpoint_content import read_checked
from tests.runs import SMALL, fit, tessera

LAST = "checkpoints/small/version_0/last.ckpt"
# A model with everything: board, outcome, settled points left alone.
BOARD = ("--model.features", "board", "--model.head", "points", "--model.outcome", "win_and_score")
BOARD = (*BOARD, "--data.context", "null", "--data.windows_per_game", "null")
BOARD = (*BOARD, "--data.skip_settled", "true", "--data.komi", "0.5")
BOARD = (*BOARD, "--model.board.channels", 4, "--model.board.depth", 1)
BOARD = (*BOARD, "--model.board.colour", "true")  # a table that is made of another one
KINDS = ("small", "board")
OWN = """
from torch import nn
from tessera.model import FeedForward

class Twice(FeedForward):
    def __init__(self, d_model: int, width: int = 4) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(d_model, width), nn.Linear(width, d_model)

    def forward(self, hidden):
        return self.down(self.up(hidden).relu())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with two models of 3×3 games, exported as they are and in int8."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    (folder / "game.txt").write_text("A1 C3 pass B2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--trainer.max_steps", 2) == 0
        assert fit("--trainer.max_steps", 2, "--run_name", "board", *BOARD) == 0
        for kind in KINDS:
            given = ("--ckpt_path", "last", "--run_name", kind, "--games", 4)
            assert exported(f"{kind}.safetensors", *given) == 0
            json_file = ("--json", f"{kind}.json")
            assert exported(f"{kind}8.safetensors", *given, "--int8", *json_file) == 0
        yield folder


@pytest.fixture(autouse=True)
def in_a_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)


def exported(output: object, *arguments: object) -> int:
    return tessera("export", "--output", output, *arguments)


def files(kind: str) -> tuple[str, str, str]:
    """The checkpoint, what was exported as it is, and in int8."""
    last = f"checkpoints/{kind}/version_0/last.ckpt"
    return last, f"{kind}.safetensors", f"{kind}8.safetensors"


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert tessera(*arguments) == 0
    return capsys.readouterr().out


def figures(capsys: pytest.CaptureFixture[str], command: str, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, command, "--ckpt_path", file, "--json", "-"))
    assert found.pop("ckpt_path") == file
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_says_the_same_of_a_plain_export_to_the_last_digit(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after, _ = files(kind)
    for command in ("validate", "test") if kind == "board" else ():
        assert figures(capsys, command, before) == figures(capsys, command, after)
    for asked in (("map", "--moves", "A1 B2", "--json", "-"), ("predict", "--games", "game.txt")):
        told = [printed(capsys, *asked, "--ckpt_path", file) for file in (before, after)]
        assert told[0] == told[1] and "A3" in told[0]
    maps = [program.load(file).map("A1 C2") for file in (before, after)]
    assert maps[0] == maps[1]


def test_the_engine_of_go_programs_plays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    read, write = os.pipe()
    os.write(write, b"genmove b\nquit\n")
    monkeypatch.setattr(gtp, "Lines", lambda descriptor: Lines(read))
    monkeypatch.setattr(gtp, "_written_to_standard_output", lambda: print)
    answer = printed(capsys, "gtp", "--ckpt_path", "board8.safetensors")
    torch.set_num_threads(threads)
    os.close(read)
    os.close(write)
    assert answer.startswith("= ") and answer.count("=") == 2


def test_int8_is_as_far_off_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    before, _, after = files("board")
    told = json.loads(Path("board.json").read_text())
    errors = {error["kind"]: error for error in told["errors"]}
    assert errors["others"]["largest"] == 0 < errors["matrices"]["mean"]
    assert all(error["largest"] <= 0.5001 / 127 for error in errors.values())
    assert told["ckpt_bytes"] == Path(before).stat().st_size
    assert told["output_bytes"] == Path(after).stat().st_size < told["ckpt_bytes"] / 2
    # The four games that a test measures here: what is measured is the same.
    losses = [figures(capsys, "test", file)["test/loss"] for file in (before, after)]
    assert losses == pytest.approx([told["effect"][f"loss_{x}"] for x in ("before", "after")], 1e-6)
    assert losses[0] != losses[1]
    chances = [program.load(file).map("A1 C2").points for file in (before, after)]
    for point, chance in chances[0].items():
        assert chances[1][point] == pytest.approx(chance, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_divergence_is_that_of_the_two_models(kind: str) -> None:
    before, _, after = (read_checked(file, is_fit=False) for file in files(kind))
    told = measure_effect(before, after, 4, torch.device("cpu"))
    models = [program.load(file).model for file in files(kind)[::2]]
    games = GameDataModule(**{**before["datamodule_hyper_parameters"], "backend": "auto"})
    board = ("board", "settled") if kind == "board" else ()
    batch = GameStream(games.settings, first_number=TEST_NUMBERS, needs=board).batch(0)
    assert told.targets == (batch.targets != 10).sum()
    given = (batch.inputs, None, batch.features("position") if board else ())
    p, q = (model(*given, excluded=batch.settled).double().log_softmax(-1) for model in models)
    kl = F.kl_div(q, p, reduction="none", log_target=True).nan_to_num().sum(-1)
    kl = kl[batch.targets != 10]
    assert told.kl == pytest.approx(kl.mean().item(), rel=0.01) and told.kl > 0
    assert told.largest_kl == pytest.approx(kl.max().item(), rel=0.01)
    assert told.is_finite() and measure_effect(before, before, 4, torch.device("cpu")).kl == 0


def test_a_divergence_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]).log()
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence(p, q).item() == pytest.approx(wanted)
    assert divergence(p, p).item() == 0


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("export", "--ckpt_path", LAST, "--games", 3)
    lines = printed(capsys, *given, "--output", "x.safetensors").splitlines()
    sizes = [f"{Path(file).stat().st_size:,} bytes" for file in ("x.safetensors", LAST)]
    assert lines == [f"x.safetensors: {sizes[0]}, every weight as it was ({LAST}: {sizes[1]})"]
    shown = printed(capsys, *given, "--output", "x.safetensors", "--dtype", "bfloat16")
    assert "weights in bfloat16" in shown and "\nOn 3 games of the test, " in shown
    for row in ("matrices", "others", "loss", "KL divergence, mean"):
        assert f"\n{row} " in shown
    assert "nan" not in shown
    shown = printed(capsys, *given, "--output", "x.safetensors", "--dtype", "float32")
    assert shown.count("\n") == 1  # it was that already, so there is nothing to measure
    told = json.loads(printed(capsys, *given, "--output", "x.safetensors", "--int8", "--json", "-"))
    assert told["precision"] == "int8" and told["effect"]["games"] == 3


def test_an_exported_model_is_exported_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert exported("again.safetensors", "--ckpt_path", "small.safetensors") == 0
    assert Path("again.safetensors").read_bytes() == Path("small.safetensors").read_bytes()
    assert exported("again.safetensors", "--ckpt_path", "small.safetensors", "--int8") == 0
    assert Path("again.safetensors").read_bytes() == Path("small8.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("source", "given", "held", "said"),
    [
        ("small8", "", "F32", "every weight as it was, in float32, int8 before"),
        ("small8", "--int8", "I8", "weights in int8 as before"),
        ("small8", "--dtype bfloat16", "BF16", "weights in bfloat16, int8 before"),
        ("small8", "--dtype float32", "F32", "weights in float32, int8 before"),
        ("small16", "", "F16", "every weight as it was, in float16"),
        ("small16", "--int8", "I8", "weights in int8, float16 before"),
    ],
)
def test_what_is_said_of_weights_is_what_the_file_holds(
    capsys: pytest.CaptureFixture[str], source: str, given: str, held: str, said: str
) -> None:
    if not Path("small16.safetensors").exists():
        arguments = ("--ckpt_path", LAST, "--dtype", "float16", "--games", 1)
        assert exported("small16.safetensors", *arguments) == 0
    arguments = ("--ckpt_path", f"{source}.safetensors", "--games", 1, *given.split())
    shown = printed(capsys, "export", "--output", "x.safetensors", *arguments)
    assert f" bytes, {said} (" in shown.splitlines()[0]
    (_, before), (settings, header) = map(header_of, (f"{source}.safetensors", "x.safetensors"))
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}
    assert header["blocks.mixers.0.out_proj.weight"]["dtype"] == held
    assert settings["precision"] == names[held]
    again = printed(capsys, "export", "--output", "x.safetensors", *arguments, "--json", "-")
    errors = json.loads(again)["errors"]
    for when, tensors in (("before", before), ("after", header)):
        places = [tensor["data_offsets"] for tensor in tensors.values()]
        assert sum(error[f"bytes_{when}"] for error in errors) == max(end for _, end in places)


def header_of(file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of an exported file, and of each tensor what its header says."""
    content = Path(file).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header.pop("__metadata__")["tessera"]), header


def test_no_run_goes_on_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    runs = sorted(Path("checkpoints").rglob("*"))
    capsys.readouterr()
    assert fit("--ckpt_path", "small.safetensors", "--trainer.max_steps", 9) == 2
    out, err = capsys.readouterr()
    assert not out and err == (
        "tessera: small.safetensors cannot be used: an exported model has no optimizer, so it can "
        "be measured but not trained on; give the run's own last.ckpt.\n"
    )
    assert sorted(Path("checkpoints").rglob("*")) == runs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (f"--ckpt_path {LAST}", "the following arguments are required: --output"),
        ("--output x.safetensors", "the following arguments are required: --ckpt_path"),
        (f"--ckpt_path {LAST} --output x.ckpt", "--output must end in .safetensors, got x.ckpt."),
        (f"--ckpt_path {LAST} --output none/x.safetensors", "--output: there is no folder none."),
        (f"--ckpt_path {LAST} --output x.safetensors --games 0", "--games must be 1 to 100,000"),
        (f"--ckpt_path {LAST} --output x.safetensors --int8 --dtype float16", "not allowed with"),
        (f"--ckpt_path {LAST} --output x.safetensors --dtype int4", "invalid choice: 'int4'"),
        (f"--ckpt_path {LAST} --output x.safetensors --json x.safetensors", "--json must be anoth"),
        ("--ckpt_path none --output x.safetensors", "none is no checkpoint: there is no such"),
        ("--ckpt_path= --output x.safetensors", "--ckpt_path must name the model, or be last"),
        ("--ckpt_path game.txt --output x.safetensors", "game.txt is torn or no checkpoint."),
        ("--ckpt_path small.safetensors --output small.safetensors", "must be another file than"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    Path("x.safetensors").unlink(missing_ok=True)
    before = Path("small.safetensors").read_bytes()
    capsys.readouterr()
    assert tessera("export", *arguments.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and says in err, err
    assert not Path("x.safetensors").exists()
    assert Path("small.safetensors").read_bytes() == before


def test_a_full_disk_leaves_the_file_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("full.safetensors").symlink_to("/dev/full")
    assert exported("full.safetensors", "--ckpt_path", LAST) == 1
    assert "full.safetensors: No space left on device." in capsys.readouterr().err


def test_a_part_of_the_users_own_has_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exported_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("--model.feed_forward", "exported_parts.Twice", "--run_name", "own")
    assert fit("--trainer.max_steps", 1, *own) == 0
    given = ("--ckpt_path", "last", "--run_name", "own")
    monkeypatch.delitem(sys.modules, "exported_parts")
    assert exported("own.safetensors", *given) == 2
    asked = ("map", "--ckpt_path", "own.safetensors", "--moves", "A1")
    named = ("--own", "exported_parts.Twice")
    assert exported("own.safetensors", *given, *named, "--int8", "--games", 1) == 0
    monkeypatch.delitem(sys.modules, "exported_parts")
    assert tessera(*asked) == 2
    assert "its exported_parts.Twice is used only if the command line" in capsys.readouterr().err
    assert "exported_parts" not in sys.modules
    assert tessera(*asked, *named) == 0
