"""``tessera games``: files that other programs open, legal games, the maps in them, mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from sgfmill import sgf, sgf_moves

from tessera.companion import load
from tessera.go import RULES, GPUGoEngine, play_games
from tessera.go.bitboard import as_moves
from tessera.go.players import distribution, get_player
from tessera.play.referee import Verdict, judge
from tessera.play.sgf import SgfGame, read_sgf
from tessera.vocabulary import Vocabulary
from tests.runs import SMALL, fit, tessera

LAST = "checkpoints/small/version_0/last.ckpt"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contents(folder: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def moves_of(content: bytes) -> list[int]:
    (game,) = read_sgf(content)
    assert isinstance(game, SgfGame)
    return game.moves


def percentages(node: sgf.Tree_node) -> dict[str, float]:
    """What a comment says: by vertex, and ``pass``."""
    rows = re.findall(r"^(?:[a-j]  )?(\w+)  ([\d.]+) %$", node.get("C"), re.M)
    return {vertex: float(chance) for vertex, chance in rows}


def test_built_in_games_are_the_engines_and_the_same_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("games", "--number", 70, "--first", 3, "--board_size", 5, "--seed", 4)
    assert tessera(*asked, "--player", "uniform", "--sgf", "one/two") == 0
    assert capsys.readouterr().out == "wrote games 3 to 72 into one/two\n"
    assert tessera(*asked, "--player", "uniform", "--sgf", "other") == 0
    assert tessera("games", "--first", 7, "--board_size", 5, "--sgf", "single") == 0
    assert capsys.readouterr().out.endswith("\nwrote game 7 into single\n")
    files = contents("one/two")
    assert files == contents("other") and len(files) == 70
    assert next(iter(files)) == "uniform_4_10.sgf" and "uniform_4_72.sgf" in files
    record = play_games("uniform", range(3, 73), seed=4, board_size=5)
    games = [moves_of(files[f"uniform_4_{number}.sgf"]) for number in range(3, 73)]
    assert games == [record.moves[game, : int(record.lengths[game])].tolist() for game in range(70)]
    assert judge(games, 5, RULES["full"]) == [Verdict()] * 70


def test_another_program_finds_all_it_needs_in_the_root() -> None:
    assert tessera("games", "--board_size", 9, "--sgf", "out", "--rules", "tromp-taylor") == 0
    (content,) = contents("out").values()
    document = sgf.Sgf_game.from_bytes(content)
    root = document.get_root()
    names = {"FF", "CA", "GM", "SZ", "KM", "RU", "AP", "RE", "PB", "PW", "GN"}
    assert set(root.properties()) == names, "and no date, which would be another one tomorrow"
    assert root.get("FF") == 4 and root.get("SZ") == 9 and root.get("KM") == 7.5
    assert root.get("AP") == ("tessera", "games") and root.get("RU") == "ko positional, suicide on"
    assert root.get("PB") == root.get("PW") == "tessera rules"
    board, plays = sgf_moves.get_setup_and_moves(document)
    for colour, point in plays:
        if point is not None:
            board.play(*point, colour)
    margin = board.area_score() - 7.5
    assert root.get("RE") == f"{'B' if margin > 0 else 'W'}+{abs(margin):g}"


def test_the_map_of_a_built_in_player_is_what_it_draws_from() -> None:
    assert tessera("games", "--board_size", 5, "--sgf", "out", "--map") == 0
    (content,) = contents("out").values()
    document = sgf.Sgf_game.from_bytes(content)
    engine = GPUGoEngine(1, "cpu", 5)
    nodes = document.get_main_sequence()
    moves = moves_of(content)
    for ply, (node, move) in enumerate(zip(nodes, moves, strict=False)):
        assert node.get("C").startswith(f"{'white' if ply % 2 else 'black'} to play")
        exact = distribution(get_player("rules"), engine)[0].tolist()
        told = percentages(node)
        vertices = {engine.vocabulary.vertex(token): 100 * p for token, p in enumerate(exact)}
        assert all(vertices[vertex] == pytest.approx(told[vertex], abs=0.006) for vertex in told)
        labels = node.get("LB") if node.has_property("LB") else []
        assert len(labels) == len(told) - 1
        engine.play_batch(engine.history.new_tensor([move]).long())
    assert not nodes[-1].has_property("C") and len(nodes) == len(moves) + 1


def test_a_model_plays_itself_and_tells_its_map(capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.yaml").write_text(SMALL)
    assert fit("--trainer.max_steps", 1) == 0
    asked = ("games", "--run_name", "small", "--number", 3)
    assert tessera(*asked, "--player", "last", "--sgf", "one", "--map") == 0
    assert tessera(*asked, "--player", LAST, "--sgf", "other", "--map") == 0
    files = contents("one")
    assert files == contents("other") and len(files) == 3
    assert tessera(*asked, "--player", "last", "--sgf", "seeded", "--seed", 1) == 0
    assert [moves_of(x) for x in contents("seeded").values()] != list(map(moves_of, files.values()))
    assert tessera(*asked, "--player", LAST, "--sgf", "cold", "--temperature", 1e-6) == 0
    companion = load(LAST)
    for content in contents("cold").values():
        moves = moves_of(content)
        for ply, move in enumerate(moves[:6]):
            found = companion.map(moves[:ply])
            chances = {**found.points, "pass": found.pass_}
            vertex = Vocabulary(3).vertex(move)
            assert chances[vertex] == pytest.approx(max(chances.values()), abs=1e-5)
    games = [moves_of(content) for content in files.values()]
    assert judge(games, 3, companion.rules) == [Verdict()] * 3
    for content, moves in zip(files.values(), games, strict=True):
        document = sgf.Sgf_game.from_bytes(content)
        assert document.get_root().get("PB") == "tessera last"
        for ply, node in enumerate(document.get_main_sequence()):
            found = companion.map(moves[:ply])
            told = percentages(node)
            for vertex, chance in {**found.points, "pass": found.pass_}.items():
                assert told[vertex] == pytest.approx(100 * chance, abs=0.01)


def test_a_model_that_leaves_settled_points_alone_does_so_here() -> None:
    small = SMALL.replace("board_size: 3, max_moves: 12", "board_size: 5, skip_settled: true")
    Path("small.yaml").write_text(small)
    assert fit("--trainer.max_steps", 1) == 0
    assert tessera("games", "--number", 8, "--player", LAST, "--sgf", "out") == 0
    for content in contents("out").values():
        engine = GPUGoEngine(1, "cpu", 5, skip_settled=True)
        for move in moves_of(content):
            assert move == 25 or as_moves(engine.playable_rows())[0, move]
            engine.play_batch(torch.tensor([move]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "the following arguments are required: --sgf"),
        ("--sgf=", "--sgf must name a folder, got none."),
        ("--sgf small.yaml", "--sgf must name a folder; small.yaml is a file."),
        ("--sgf out --number 0", "--number must be at least 1, got 0."),
        ("--sgf out --number many", "argument --number: invalid int value: 'many'"),
        ("--sgf out --seed=-1", "--seed must be at least 0, got -1."),
        ("--sgf out --first=-1", "--first must be at least 0, got -1."),
        ("--sgf out --board_size 25", "--board_size must be 2 to 19, got 25."),
        (
            "--sgf out --rules chess",
            "--rules must be one of full, phase2, tromp-taylor, got",
        ),
        ("--sgf out --temperature 2", "--temperature is of a model."),
        (
            "--sgf out --player=",
            "--player must be rules, uniform, a model's file or last",
        ),
        ("--sgf out --player none", "none is no checkpoint: there is no such file."),
        ("--sgf out --player small.yaml", "small.yaml is torn or no checkpoint."),
        ("--sgf out --player last --run_name never", "there is no checkpoints/never/version_*"),
        ("--sgf out --player last --rules full", "--rules are the model's; the option is of rules"),
        ("--sgf out --player x --temperature 0", "--temperature must be more than 0 and at most"),
        ("--sgf out surplus", "unrecognized arguments: surplus"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    Path("small.yaml").write_text(SMALL)
    assert tessera("games", *arguments.split()) == 2
    told = capsys.readouterr()
    assert told.out == "" and said in told.err and told.err.count("\n") == 1
    assert [file.name for file in Path().iterdir()] == ["small.yaml"]
