"""How players are named, and which names mean nothing."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest

from tessera.commands.arena.players import PlayerName, labels_of, player_named
from tessera.commands.arguments import run_or_file
from tessera.play.evaluator import ModelEvaluator
from tessera.play.search import PASSES
from tessera.play.search_player import SearchPlayer
from tessera.setting_errors import SettingError
from tessera.training.checkpoint_file import CheckpointError


def test_every_kind_of_player_is_known_by_its_name() -> None:
    assert player_named("rules") == PlayerName("rules", "rules")
    assert player_named("playouts:500") == PlayerName("playouts:500", "playouts", 500)
    assert player_named("uct:20") == PlayerName("uct:20", "uct", 20)
    command = "gtp:gnugo --mode gtp --level 1"
    assert player_named(command).target == command[4:] and player_named(command).kind == "gtp"
    assert player_named("a/last.ckpt") == PlayerName("a/last.ckpt", "model", target="a/last.ckpt")
    found = player_named("last@sims=64,temperature=0,considered=8,passes=last,dtype=bfloat16")
    assert found.target == "last" and found.has_search
    assert found.settings == {
        "sims": 64,
        "temperature": 0.0,
        "considered": 8,
        "passes": "last",
        "dtype": "bfloat16",
    }
    assert player_named("x.ckpt@temperature=0.5").settings == {"temperature": 0.5}
    assert not player_named("x.ckpt@temperature=0.5").has_search
    # An address of mail is no setting, nor is a folder's name.
    assert player_named("me@home/x.ckpt").target == "me@home/x.ckpt"
    assert player_named("me@home/x.ckpt@sims=1").target == "me@home/x.ckpt"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "a player must be uniform, rules, playouts:N, uct:N, gtp:COMMAND or a checkpoint"),
        ("@sims=4", "a player must be uniform, rules"),
        ("playouts:0", "N of playouts:N must be at least 1, got 0"),
        ("playouts:", "N of playouts:N must be a whole number"),
        ("uct:many", "N of uct:N must be a whole number, got 'many'"),
        ("uct:1000000", "N of uct:N must be at most 100000, got 1000000"),
        ("gtp:", "gtp:COMMAND must name a command, got none"),
        ("x@simms=3", "x@simms=3: a key must be one of temperature, sims, considered"),
        ("x@sims=many", "x@sims=many: sims must be a whole number, got 'many'"),
        ("x@sims=-1", "x@sims=-1: sims must be at least 0, got -1"),
        ("x@sims=40000", "sims must be at most 32767"),
        ("x@sims=4,sims=5", "x@sims=4,sims=5: sims is there twice; keep one of them"),
        ("x@temperature=hot", "temperature must be 0 to 1000, got 'hot'"),
        ("x@temperature=nan", "temperature must be 0 to 1000, got nan"),
        ("x@considered=4", "x@considered=4: considered is of a search; give sims as well"),
        ("x@sims=4,passes=never", "passes must be one of free, last, sensible, got never"),
        ("x@sims=4,dtype=int8", "dtype must be one of float32, bfloat16, got int8"),
    ],
)
def test_a_name_that_means_nothing_is_said_in_a_line(name: str, says: str) -> None:
    with pytest.raises(SettingError) as caught:
        player_named(name)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_labels_tell_players_apart() -> None:
    assert labels_of(["rules", "uniform"]) == ["rules", "uniform"]
    assert labels_of(["rules", "rules"]) == ["rules (player 1)", "rules (player 2)"]
    long = "checkpoints/" + "n" * 60
    assert labels_of([long, "rules"]) == [f"…{long[-40:]} (player 1)", "rules"]
    file = "checkpoints/a_run_with_a_name/version_0/last.ckpt@sims=4"
    assert labels_of([file]) == ["…/version_0/last.ckpt@sims=4 (player 1)"]
    engine = "gtp:gnugo --mode gtp --chinese-rules --capture-all-dead --level 10"
    assert labels_of([engine]) == ["… --capture-all-dead --level 10 (player 1)"]


def test_a_run_is_meant_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("checkpoints/mine").mkdir(parents=True)
    assert run_or_file("mine", "quickstart") == ("last", "mine")
    assert run_or_file("last", "quickstart") == ("last", "quickstart")
    assert run_or_file("player_9x9", "quickstart") == ("player_9x9", "quickstart")
    assert run_or_file("mine.ckpt", "quickstart") == ("mine.ckpt", "quickstart")
    with pytest.raises(CheckpointError, match="no such file, and no folder checkpoints/your of a"):
        run_or_file("your", "quickstart")
    Path("mine").write_text("a file goes first")
    assert run_or_file("mine", "quickstart") == ("mine", "quickstart")


def test_what_may_follow_a_checkpoint_is_what_a_search_takes() -> None:
    taken = signature(SearchPlayer).parameters.keys() | signature(ModelEvaluator).parameters.keys()
    names = {"sims": "num_simulations", "considered": "num_considered"}
    keys = "temperature sims considered value_scale max_visit passes first_pass score_weight dtype"
    assert {names.get(key, key) for key in keys.split()} == taken - {"evaluator", "model"}
    for passes in PASSES:
        assert player_named(f"x@sims=1,passes={passes}").settings["passes"] == passes
