"""``tessera compare`` counts what the modules hold; what cannot be counted is refused in a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tessera.commands.compare.count import PARTS, _counted, _flops, count
from tessera.model import GameModel, ModelSettings
from tests.runs import tessera

BOARD = {"features": "board", "head": "points", "board": {"channels": 5, "squeeze": 2}}
MODELS: dict[str, dict[str, Any]] = {
    "bare": {},
    "Transformer": {"mixer": "attention", "n_layers": 3, "feed_forward": "dense"},
    "everything": {**BOARD, "n_layers": 2, "feed_forward": "low_rank", "outcome": "win_and_score"},
    "landmarks": {"features": "landmarks"},
    "tied": {"n_layers": 2, "norm": "layer", "head": "tied", "embedding": "tensor_train"},
    "shared": {"n_layers": 2, "feed_forward": "dense", "shares_norm": True},
}


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_what_is_counted_is_what_a_model_has(model: dict[str, Any]) -> None:
    settings = ModelSettings(28, 16, **model)
    found, built = count(settings, [5, 9]), GameModel(settings)
    assert found.total == sum(weight.numel() for weight in built.parameters())
    assert found.total == settings.num_parameters()
    assert set(found.parameters) <= set(PARTS)
    assert found.parameters["head"] == sum(weight.numel() for weight in built.head.parameters())
    for length in (5, 9):
        assert found.state_bytes[length] == built.init_state(1, max_moves=length).bytes_per_game


def test_the_flops_of_a_transformer_are_those_of_its_formula() -> None:
    d, layers, length = 16, 7, 12
    settings = ModelSettings(28, d, layers, mixer="attention", feed_forward="dense")
    products = layers * 12 * d**2 + 28 * d  # each weight of a matrix once
    attention = layers * 2 * length * d
    assert count(settings, [length]).flops_per_token == {length: 2 * (products + attention)}


@pytest.mark.parametrize("mixer", ["poincare_attention", "phase7_hybrid", "tangent_attention"])
def test_attention_with_a_window_costs_a_position_no_more_in_a_longer_game(mixer: str) -> None:
    own: dict[str, Any] = {"window": 4}
    own |= {"mode": "exact"} if mixer == "tangent_attention" else {}
    settings = ModelSettings(28, 16, mixer=mixer, **{mixer: own})
    found = count(settings, [4, 8, 12, 48]).flops_per_token
    assert found[4] < found[8] == found[12] == found[48]
    wider = replace(settings, **{mixer: {**own, "window": 12}})
    assert count(wider, [48]).flops_per_token[48] > found[48]


@pytest.mark.parametrize("n_layers", [6, 7])
def test_two_rounds_of_layers_tell_what_all_cost(n_layers: int) -> None:
    settings = ModelSettings(28, 16, n_layers, mixer=["attention", "mamba"], feed_forward="dense")
    assert _flops(settings, 3) == _counted(settings, 3) > _counted(replace(settings, n_layers=5), 3)


def test_rows_are_configurations_read_one_after_the_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.yaml").write_text("model: {d_model: 24, n_layers: 2}")
    rows = ["transformer", "transformer+mine.yaml+small.yaml"]
    more = ["--count", "3", "6", "--json", "out.json", "--model.feed_forward=none"]
    assert tessera("compare", *rows, *more, "--model.n_layers", "3") == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "state at 3" in heading and "FLOPs/token at 6" in heading
    assert "feed-forward" not in heading  # no row has one
    first, second = json.loads(Path("out.json").read_text())["rows"]
    assert [line.split()[0] for line in lines] == rows == [first["row"], second["row"]]
    sizes = [
        (row["model"]["vocab_size"], row["model"]["d_model"], row["model"]["n_layers"])
        for row in (first, second)
    ]
    assert sizes == [(364, 256, 3), (12, 8, 3)]
    assert second["model"]["mixer"] == "attention"
    assert second["parameters"]["total"] == int(lines[1].split()[-5].replace(",", ""))
    assert second["state_bytes"]["6"] - second["state_bytes"]["3"] == 3 * 3 * 2 * 8 * 4


def test_a_file_may_have_a_plus_in_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a+b.yaml").write_text("model: {d_model: 24}")
    assert tessera("compare", "a+b.yaml", "--count", "1") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("a+b.yaml     364       24")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "tessera: config must be a file or one of any_board, "),
        (["transformer+"], "tessera: config must name a file, got none."),
        (["transformer", "--model.d_model", "x"], "tessera: model.d_model must be a whole number"),
        (
            ["transformer", "hybrid+tessera"],
            "tessera: hybrid+tessera: model.mixer must name no more mixers than there are layers, ",
        ),
        (["hybrid", "--model.d_model", "0"], "tessera: hybrid: model.d_model must be a whole num"),
        (
            ["transformer", "--data.board_size", "50"],
            "tessera: transformer: data.board_size must be 2 to 19, got 50.",
        ),
        (
            ["transformer", "--model.embedding", "kinds", "--model.head", "tied"],
            "tessera: transformer: model.head must be another with embedding kinds, which has no ",
        ),
        (["--model.foo", "3"], "tessera: --model.foo is no setting."),
        (["--count", "0"], "tessera compare: --count must be 1 to 1,048,576 positions, got 0."),
        (["--json", "none/x.json"], "tessera compare: --json: there is no folder none."),
    ],
)
def test_a_mistake_is_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    counted = () if "--count" in arguments else ("--count", "3")
    assert tessera("compare", *arguments, *counted) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith(message)
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]
