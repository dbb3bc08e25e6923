"""The models that come with the program train, and the page of them tells what is true."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tessera.commands.bench import memory_command
from tessera.commands.compare.counting import claims_in_lines
from tessera.commands.compare.published import MODELS, published
from tessera.commands.named_configs import model_names
from tessera.model import GameModel, ModelSettings
from tests.commands.bench.small_rows import small
from tests.pages import ROOT, blocks
from tests.runs import tessera

PAGE = ROOT / "tessera" / "model" / "presets.md"
# What makes a run short, behind everything that a command says.
SMALL_MODEL = "--model.d_model 16 --model.n_layers 2"
SMALL_RUN = (
    f"{SMALL_MODEL} --data.board_size 3 --data.max_moves 12 --data.batch_size 4"
    " --data.games_per_chunk 32 --data.val_batches 1 --trainer.limit_val_batches 0"
    " --checkpoint_every_n_steps 9 --picture_every_n_validations 0 --cpu_threads 1"
)
# What the notes on the published code count.
ULTRA = [18_404, 486_192, 52_272, 7_168, 52_052, 616_088]
MILLIONS = ["3,081.8", "2,575.5", "1,540.7", "1,188.0"]


def model_of(name: str) -> dict[str, Any]:
    """What a configuration says of the model."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    return settings["model"]


def commands() -> list[list[str]]:
    """What stands on the right side of the table of published commands."""
    rows = re.findall(r"^\| .*`.*\| `tessera (.*)` \|$", PAGE.read_text(), re.M)
    return [shlex.split(row) for row in rows]


def shortened(arguments: list[str], steps: Iterator[int]) -> list[str]:
    """The arguments of a command and, behind them, those that make it short."""
    if arguments[0] == "compare":
        return [*arguments, *SMALL_MODEL.split(), "--count", "3"]
    if arguments[0] == "bench":
        sizes = "--seconds 0.01 --d_model 8" if arguments[1] == "mixers" else ""
        return [*arguments, "--device", "cpu", *sizes.split()]
    if arguments[0] == "fit":
        short = ["--trainer.max_steps", str(next(steps)), "--trainer.accumulate_grad_batches", "1"]
        return [*arguments, *SMALL_RUN.split(), *short]
    return arguments


def test_every_published_command_s_counterpart_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_command, "rows_of", lambda group: [small()])
    ours = commands()
    kinds = {arguments[0] for arguments in ours}
    assert len(ours) >= 19 and kinds == {"fit", "compare", "bench", "doctor"}
    steps = iter(range(1, 99))  # a run that goes on needs one more than it has made
    for arguments in ours:
        assert tessera(*shortened(arguments, steps)) == 0, arguments
    for name in ("phase7_standard", "phase8_standard", "phase8_max_ssm"):
        assert Path(f"checkpoints/{name}/version_0/last.ckpt").exists()
    assert Path("sizes.json").exists() and Path("step.json").exists()


@pytest.mark.parametrize("name", model_names())
def test_a_model_s_configuration_is_a_model_alone_and_is_on_the_page(
    name: str, repository: Path
) -> None:
    text = (repository / "configs" / "models" / f"{name}.yaml").read_text()
    assert set(yaml.safe_load(text)) == {"model"}
    assert f"#   tessera fit --config {name} --config uniform_9x9\n" in text
    sizes = yaml.safe_load(text)["model"]
    (row,) = re.findall(
        rf"^\| `{name}` \|.*\| (\d+), (\d+) layers(?: of each)? \|$", PAGE.read_text(), re.M
    )
    kinds = len(sizes["mixer"]) if name == "phase8_max_ssm" else 1
    assert tuple(map(int, row)) == (sizes["d_model"], sizes["n_layers"] / kinds)


@pytest.mark.parametrize("name", ["hybrid", "muse_ultra"])
def test_a_model_trains_under_its_own_name_and_is_measured(name: str, folder: Path) -> None:
    both = ["--config", name, "--config", "uniform_9x9"]
    run = [*SMALL_RUN.split(), "--model.n_layers", "4", "--trainer.precision", "32"]
    assert tessera("fit", *both, *run, "--trainer.max_steps", 1) == 0
    assert [path.name for path in Path("checkpoints").iterdir()] == [name]
    measured = ["--data.test_batches", "1", "--ckpt_path", "last", "--json", "out.json"]
    assert tessera("test", *both, *run, *measured) == 0
    assert Path("out.json").exists()


@pytest.mark.parametrize("name", model_names())
def test_a_model_goes_with_the_board(name: str) -> None:
    of_run = model_of("board_9x9")
    model = ModelSettings.of({**model_of(f"models/{name}"), **of_run, "vocab_size": 84})
    with torch.device("meta"):
        built = GameModel(model)
    assert (model.features, model.head, model.d_model) == ("board", "points", 256)
    assert sum(weight.numel() for weight in built.parameters()) == model.num_parameters()


def test_the_page_has_what_is_published_and_what_is_counted() -> None:
    claims = published({name: ModelSettings(**model_of(f"models/{name}")) for name in MODELS})
    assert ("", "\n".join(claims_in_lines(claims)[1:]) + "\n") in blocks(PAGE)
    assert [claim.counted for claim in claims[:6]] == ULTRA
    assert [f"{claim.counted / 1e6:,.1f}" for claim in claims[6:]] == MILLIONS


def test_the_page_of_parts_has_their_numbers_of_parameters() -> None:
    page = (PAGE.parent / "low_rank.md").read_text()
    rows = re.findall(r"^\| [^|]* \| `model\.(\w+) (\w+)` \|.*\| ([\d,]+)[^|]*\|$", page, re.M)
    assert {name for _, name, _ in rows} >= {"tensor_train", "low_rank_table", "tied"}
    for kind, name, said in rows:
        sizes = (364, 256, 362) if kind == "embedding" else (256, 364)
        assert f"{ModelSettings().part(kind, name).num_parameters(*sizes):,}" == said, name
    for kind, said in re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \| .*less", page, re.M):
        layer = ModelSettings(low_rank={"kind": kind}).low_rank  # type: ignore[arg-type]
        assert f"{layer.num_parameters(512):,}" == said, kind
