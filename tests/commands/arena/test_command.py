"""``tessera arena`` as it is typed: results, logs that go on, games as files, mistakes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tessera.play.sgf import SgfGame, read_sgf
from tests.runs import SMALL, fit, python_path, tessera

GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
NASTY = Path(__file__).parents[2] / "play" / "nasty_engine.py"
# A model that a search can ask: it remembers nothing, and expects an end.
BOARD = ("--model.mixer", "identity", "--model.features", "board", "--model.head", "points")
BOARD = (*BOARD, "--model.outcome", "win_and_score", "--data.context", "null")
BOARD = (*BOARD, "--data.windows_per_game", "null", "--model.board.channels", 4)
BOARD = (*BOARD, "--model.board.depth", 1, "--data.board_size", 5, "--data.max_moves", "null")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with three models: one of 3×3 that reads moves, two of 5×5 boards."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--trainer.max_steps", 1) == 0
        assert fit("--trainer.max_steps", 1, "--run_name", "board", *BOARD) == 0
        assert fit("--trainer.max_steps", 2, "--run_name", "later", *BOARD) == 0
    yield folder


@pytest.fixture
def place(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same for one test, which may write beside it."""
    (tmp_path / "checkpoints").symlink_to(trained / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arena(*arguments: object) -> dict[str, Any]:
    """What the command found."""
    assert tessera("arena", *arguments, "--json", "found.json") == 0
    found: dict[str, Any] = json.loads(Path("found.json").read_text())
    return found


def nasty(mode: str, when: int = 1) -> str:
    return f"gtp:{shlex.join([sys.executable, '-S', str(NASTY), mode, str(when)])}"


def test_a_dash_for_a_file_is_standard_output_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("rules", "uniform", "--games", 2, "--board_size", 3)
    assert tessera("arena", *asked, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out).keys() == arena(*asked).keys()
    assert not Path("-").exists()


def test_a_match_is_reported_with_its_conditions(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("rules", "uniform", "--games", 20, "--board_size", 5, "--seed", 3)
    found = arena(*asked)
    out = capsys.readouterr().out
    assert "player 1: rules\nplayer 2: uniform\nboard: 5×5\n" in out
    assert "komi 7.0, move limit 50" in out and "4 to 8 random plies by uniform" in out
    assert re.search(r"rules +uniform +20 +\d+ +\d+ +\d+ +[\d.]+% +[\d.]+% to [\d.]+%", out)
    assert "Elo from uniform" in out and "black's advantage" in out
    (match,) = found["matches"]
    assert match["wins"] + match["draws"] + match["losses"] == 20 and sum(match["pairs"]) == 10
    assert match["win_interval"][0] < match["win_rate"] < match["win_interval"][1]
    assert match["forfeits"] == [0, 0] and len(match["games"]) == 20
    assert found["conditions"]["seed"] == 3 and found["sequential_test"] is None
    again = arena(*asked)
    assert again["matches"][0]["games"] == match["games"]
    other = arena(*asked[:-1], 4)
    assert other["matches"][0]["games"] != match["games"]


def test_models_play_with_and_without_search_against_everybody(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = "checkpoints/board/version_0/last.ckpt"
    asked = ("board", f"{board}@sims=4,considered=3", f"{board}@temperature=1")
    found = arena(*asked, "--games", 2, "--sgf", "sgf")
    assert len(found["matches"]) == 3 and found["conditions"]["board"] == "5×5"
    assert found["conditions"]["players"][0]["file"] == board
    assert len(found["conditions"]["players"][0]["sha256"]) == 64
    assert {match["num_games"] for match in found["matches"]} == {2}
    covariance = found["ratings"]["covariance"]
    assert len(covariance) == 3 and all(covariance[n][n] > 0 for n in range(3))
    assert sum(each["elo"] for each in found["ratings"]["players"]) == pytest.approx(0)
    files = {file.name: file.read_bytes() for file in Path("sgf").iterdir()}
    assert len(files) == 6
    games = [read_sgf(content)[0] for content in files.values()]
    assert all(isinstance(game, SgfGame) and game.komi == 7 for game in games)
    shutil.rmtree("sgf")
    arena(*asked, "--games", 2, "--sgf", "sgf")
    assert files == {file.name: file.read_bytes() for file in Path("sgf").iterdir()}
    # A model of another board, which reads moves in windows.
    assert arena("small", "uct:2", "--games", 2)["conditions"]["board"] == "3×3"
    assert tessera("arena", "small", "board") == 2
    said = capsys.readouterr().err
    assert "--board_size must be given for models of different boards: small 3, board 5" in said


def test_an_exported_model_plays_as_its_checkpoint(place: Path) -> None:
    given = ("--ckpt_path", "last", "--run_name", "board", "--output", "board.safetensors")
    assert tessera("export", *given) == 0
    asked = ("rules", "--games", 2, "--seed", 5)
    digests = [
        [game["digest"] for game in arena(name, *asked)["matches"][0]["games"]]
        for name in ("board.safetensors", "board")
    ]
    assert digests[0] == digests[1]


def test_a_log_goes_on_where_it_ended(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("rules", "uniform", "--board_size", 3, "--log", "log.jsonl", "--games")
    whole = arena(*asked, 12)["matches"][0]["games"]
    lines = Path("log.jsonl").read_text().splitlines()
    assert len(lines) == 13
    # Of seven games one has no other colour yet; a torn line is none.
    Path("log.jsonl").write_text("\n".join([*lines[:8], lines[8][:30]]))
    assert arena(*asked, 12)["matches"][0]["games"] == whole
    after = Path("log.jsonl").read_text().splitlines()
    assert after[:8] == lines[:8] and len(after) == 13
    # All are there: nothing is played, and nothing written.
    assert arena(*asked, 12)["seconds"] is None
    assert Path("log.jsonl").read_text().splitlines() == after
    assert arena(*asked, 14)["matches"][0]["num_games"] == 14
    for changed, says in (
        (("--seed", 1), "seed is 0 there and 1 here"),
        (("--komi", 6.5), "rules.komi is 7.0 there and 6.5 here"),
        (("--openings", "2"), "openings is 4 to 8 random plies"),
    ):
        before = Path("log.jsonl").read_bytes()
        capsys.readouterr()
        assert tessera("arena", *asked, 12, *changed) == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1 and says in told.err and told.out == ""
        assert Path("log.jsonl").read_bytes() == before


def test_a_sequential_test_stops_when_it_is_decided(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("rules", "uniform", "--board_size", 5, "--komi", 0, "--games", 1000, "--openings", 2)
    found = arena(*asked, "--sprt", "0,200", "--log", "log.jsonl", "--seed", 1)
    test, (match,) = found["sequential_test"], found["matches"]
    assert test["decision"] == "H1" and test["log_likelihood_ratio"] >= test["bounds"][1]
    assert match["num_games"] < 1000 and "H1 accepted" in capsys.readouterr().out
    # The openings that count are the first ones, all of them with both games.
    numbers = [game["opening"] for game in match["games"]]
    assert numbers == [number for number in range(len(numbers) // 2) for _ in range(2)]
    written = len(Path("log.jsonl").read_text().splitlines()) - 1
    assert written == match["num_games"] + test["num_beyond"]
    again = arena(*asked, "--sprt", "0,200", "--log", "log.jsonl", "--seed", 1, "--sgf", "sgf")
    assert again["matches"] == found["matches"] and again["seconds"] is None
    # Of the games that count there are files, and of no others.
    assert len(list(Path("sgf").iterdir())) == match["num_games"] < written


def test_no_file_of_a_match_depends_on_when_an_engine_answers(place: Path) -> None:
    written = []
    for processes in (1, 3):
        # Each run waits for other times, and others are ready together.
        asked = ("board@sims=1,considered=2", "board", nasty("dawdles"), "--openings", 2)
        asked = (*asked, "--games", 4, "--max_moves", 16, "--processes", processes)
        arena(*asked, "--threads", processes, "--sgf", "sgf")
        written.append({file.name: file.read_bytes() for file in Path("sgf").iterdir()})
        shutil.rmtree("sgf")
    assert len(written[0]) == 12 and written[0] == written[1]


def test_a_long_match_says_how_far_it_is(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.commands.arena.schedule._TELL_S", 0.0)
    arena("rules", "uniform", "--board_size", 3, "--games", 4)
    told = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"rules – uniform: 0 of 4 games, \d+ moves", told[0])
    assert all(re.match(r"rules – uniform: \d of 4 games", line) for line in told)


def test_forfeits_and_games_that_are_the_same_are_counted_apart(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (nasty("crashes", 2), nasty("behaves"), "--board_size", 3, "--openings", 0)
    asked = (*asked, "--games", 4, "--processes", 1, "--log", "log.jsonl")
    found = arena(*asked)
    out = capsys.readouterr().out
    (match,) = found["matches"]
    assert match["players"] == ["nasty 1 (player 1)", "nasty 1 (player 2)"]
    assert match["forfeits"] == [4, 0] and match["losses"] == 4
    assert "forfeit × 4: nasty 1 (player 1): was ended by SIGABRT" in out
    assert match["num_duplicates"] == 2 and match["endings"] == {"forfeit": 4}
    assert found["conditions"]["engines side by side"] == 1
    assert arena(*asked)["matches"] == found["matches"]


def test_who_learned_with_another_komi_is_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("board", "board@temperature=1", "rules", "--games", 2, "--openings", 2)
    arena(*asked)
    assert "learned with komi" not in capsys.readouterr().err
    arena(*asked, "--komi", 0.5)
    players = "board, board@temperature=1"
    told = f"tessera: {players} learned with komi 7.5, and plays with 0.5 (--komi).\n"
    assert told in capsys.readouterr().err


def test_ratings_are_drawn_as_they_are_told(place: Path) -> None:
    given = ("uniform", "rules", "--board_size", 5, "--games", 6)
    assert tessera("arena", *given, "--picture", "elo.svg", "--json", "elo.json") == 0
    picture = Path("elo.svg").read_text()
    assert "5x5, 6 games, seed 0." in picture
    rows = json.loads(Path("elo.json").read_text())["ratings"]["players"]
    # Names stand as high as their marks, y being counted from above.
    heights = {
        row["player"]: float(re.findall(rf' y="([\d.]+)"[^>]*>{row["player"]}<', picture)[0])
        for row in rows
    }
    by_rating = sorted(rows, key=lambda row: -row["elo"])
    assert [row["player"] for row in by_rating] == sorted(heights, key=lambda name: heights[name])


@pytest.mark.skipif(GNUGO is None, reason="GNU Go is not installed (Debian's package gnugo)")
def test_two_models_and_gnu_go_play_in_seconds(place: Path) -> None:
    flags = "--mode gtp --chinese-rules --positional-superko --forbid-suicide --capture-all-dead"
    gnugo = f"gtp:{GNUGO} {flags} --level 1"
    asked = ("board", "later@sims=2", gnugo, "--games", 2, "--processes", 2, "--sgf", "sgf")
    found = arena(*asked)
    contents = [player.get("sha256") for player in found["conditions"]["players"]]
    assert contents[0] != contents[1] and contents[2] is None
    assert [match["forfeits"] for match in found["matches"]] == [[0, 0]] * 3
    assert found["matches"][1]["players"] == ["board", "GNU Go 3.8"]
    assert found["matches"][1]["losses"] + found["matches"][2]["losses"] >= 3
    files = {file.name: file.read_bytes() for file in Path("sgf").iterdir()}
    shutil.rmtree("sgf")
    arena(*asked)
    assert files == {file.name: file.read_bytes() for file in Path("sgf").iterdir()}


def test_ctrl_c_is_one_line_and_the_log_is_kept(place: Path) -> None:
    command = [sys.executable, "-m", "tessera", "arena", "rules", nasty("hangs", 6)]
    command += ["--board_size", "3", "--log", "log.jsonl", "--processes", "2"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path(Path(__file__).parents[3])},
    )
    until = time.monotonic() + 60
    log = Path("log.jsonl")
    while not (log.exists() and log.read_text().count("\n") > 1) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "tessera: stopped by SIGINT.\n")
    first, *games = map(json.loads, log.read_text().splitlines())
    assert games and first["conditions"]["players"][1]["engine"] == "nasty 1"
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "nasty_engine.py hangs 6" not in listing.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "the following arguments are required: PLAYER"),
        ("rules", "there must be at least two players, got one."),
        ("rules none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
        ("rules last --run_name never", "no checkpoints/never/version_*/last.ckpt"),
        ("rules uct:0", "N of uct:N must be at least 1, got 0."),
        ("rules uniform --games 3", "--games must be even"),
        ("rules uniform --games 0", "--games must be at least 2, got 0."),
        ("rules uniform --board_size 1", "--board_size must be at least 2, got 1."),
        ("rules uniform --komi nan", "--komi must be -1000 to 1000, got nan."),
        ("rules uniform --openings 8-4", "--openings must be plies such as 6 or 4-8, got 8-4."),
        ("rules uniform --opening_player me", "--opening_player must be one of uniform, rules"),
        ("rules uniform --sprt 0", "--sprt must be ELO0,ELO1, got 0."),
        ("rules uniform --sprt 5,0", "--sprt: elo1 must be more than elo0, 5, got 0"),
        ("rules uniform uct:1 --sprt 0,5", "--sprt is of two players."),
        ("rules uniform --deadline 0", "--deadline must be more than 0 and at most 86400"),
        ("rules uniform --processes 0", "--processes must be at least 1, got 0."),
        ("rules uniform --log none/log", "--log: there is no folder none."),
        ("rules uniform --sgf=", "--sgf must name a folder, got none."),
        ("rules uniform --sgf mine.txt", "--sgf must name a folder; mine.txt is a file."),
        ("rules uniform --json .", "--json: . cannot be written."),
        ("rules uniform --log mine.txt", "--log mine.txt is no log of a match"),
        ("rules gtp:no-such-program", "gtp:no-such-program cannot play: no-such-program: No such"),
        ("rules gtp:false", "gtp:false cannot play: ended with exit code 1"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    Path("mine.txt").write_text("mine\n")
    before = {file.name for file in Path().iterdir()}
    assert tessera("arena", *shlex.split(arguments)) == 2
    told = capsys.readouterr()
    assert told.out == "" and says in told.err and told.err.count("\n") == 1, told.err
    assert {file.name for file in Path().iterdir()} == before
    assert Path("mine.txt").read_text() == "mine\n"


def test_a_search_needs_a_model_that_knows_positions(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tessera("arena", "small@sims=2", "rules") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "small@sims=2" in told
