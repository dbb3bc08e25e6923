"""A log holds every game that is over, goes on where it ended, and belongs to one match."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sgfmill import sgf, sgf_moves

from tessera.go import get_player
from tessera.play.match import match_rules, play_match
from tessera.play.match_log import MatchLog
from tessera.play.match_sgf import match_document, match_file
from tessera.play.match_table import Fixture, PlayedGame, digest_of
from tessera.play.sgf import SgfGame, read_sgf
from tessera.setting_errors import SettingError

CONDITIONS: dict[str, Any] = {"players": [{"player": name} for name in "abd"], "seed": 3}


def some_games(number: int) -> list[PlayedGame]:
    chance, games = random.Random(2), []
    for nth in range(number):
        moves = tuple(chance.randrange(26) for _ in range(9))
        fixture = Fixture(nth // 2, nth % 2 == 0, moves[:4])
        forfeit = "no answer to genmove within 2 s" if nth == 1 else None
        ended = "passes" if forfeit is None else "forfeit"
        # White has won by area; what forfeited was the first side, which had white.
        points = 0.0 if forfeit or fixture.first_is_black else 1.0
        scored = (-7.5, points, digest_of(5, moves), (0.25, 0.5), (3, 2), ended, forfeit)
        games.append(PlayedGame(fixture, moves, *scored))
    return games


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, games = str(tmp_path / "log.jsonl"), some_games(6)
    with MatchLog(path, CONDITIONS, 5) as log:
        assert log.games == {}
        for game in games[:4]:
            log.append((0, 1), game)
        log.append((0, 2), games[4])
        # It is there before the file is closed.
        assert len(Path(path).read_text().splitlines()) == 6
    with MatchLog(path, CONDITIONS, 5) as log:
        assert log.games == {(0, 1): games[:4], (0, 2): [games[4]]}
        log.append((0, 1), games[5])
    with MatchLog(path, CONDITIONS, 5) as log:
        assert log.games[0, 1] == [*games[:4], games[5]]


def test_a_line_that_was_not_finished_is_cut_off(tmp_path: Path) -> None:
    path, games = tmp_path / "log.jsonl", some_games(3)
    with MatchLog(str(path), CONDITIONS, 5) as log:
        for game in games:
            log.append((0, 1), game)
    whole = path.read_bytes()
    for cut in (1, 20, 100):
        path.write_bytes(whole[:-cut])
        with MatchLog(str(path), CONDITIONS, 5) as log:
            assert log.games[0, 1] == games[:2]
            log.append((0, 1), games[2])
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 4}, "is of another match: seed is 3 there and 4 here."),
        (
            {"players": [{"player": name} for name in "acd"]},
            "is of another match: players 2.player is b there and c here.",
        ),
        ({"more": 1}, "is of another match: more is None there and 1 here."),
    ],
)
def test_a_log_of_other_conditions_is_refused_and_left_alone(
    tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    path = tmp_path / "log.jsonl"
    MatchLog(str(path), CONDITIONS, 5).close()
    before = path.read_bytes()
    with pytest.raises(SettingError) as caught:
        MatchLog(str(path), {**CONDITIONS, **changed}, 5)
    assert str(caught.value).endswith(says) and "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json\n", "line 1 is no JSON object"),
        ("no end", "its first line has no end"),
        ('{"a": 1}\n', "its first line says no conditions"),
        ("[]\n", "line 1 is no JSON object"),
        (None, "line 2 is no game"),
    ],
)
def test_a_file_that_is_no_log_is_refused_and_left_alone(
    tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "log.jsonl"
    if content is None:
        MatchLog(str(path), CONDITIONS, 5).close()
        content = path.read_text() + '{"pairing": [0, 1]}\n'
    path.write_text(content)
    with pytest.raises(SettingError, match=says):
        MatchLog(str(path), CONDITIONS, 5)
    assert path.read_text() == content


@pytest.mark.parametrize(
    "changed",
    [
        *({"opening": value} for value in ("x", -1, 0.5, float("inf"), 10**30, True)),
        *({"first_is_black": value} for value in ("no", None, 1)),
        *({"opening_plies": value} for value in (-1, 10, None)),
        *({"pairing": value} for value in ([0], [0, 1, 2], [1, 0], [0, 5], [0, 0], 5, ["a", "b"])),
        *({"moves": value} for value in ("Z9", 5, None)),
        *({"score": value} for value in ("5", float("nan"), float("inf"), 10**400, 7.5, None)),
        *({"points": value} for value in (9, 1.0, 0.5, None)),
        *({"ended": value} for value in (5, "nonsense", "forfeit")),
        *({"forfeit": value} for value in (5, "nobody")),
        *({"seconds": value} for value in ([], 5, [-1, 0], [0, float("nan")], [0, 1, 2])),
        *({"num_chosen": value} for value in ([], [-5, 0], [0, 0.5], [0, 10**400])),
    ],
    ids=str,
)
def test_a_game_that_cannot_have_been_played_is_refused(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    path = tmp_path / "log.jsonl"
    with MatchLog(str(path), CONDITIONS, 5) as log:
        log.append((0, 1), some_games(1)[0])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps({**json.loads(second), **changed})}\n")
    before = path.read_bytes()
    with pytest.raises(SettingError, match="is no log of a match: line 2 is no game"):
        MatchLog(str(path), CONDITIONS, 5)
    assert path.read_bytes() == before


def test_a_log_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "log.jsonl")
    with MatchLog(path, CONDITIONS, 5) as log:
        # Locks are of an open file, so a second one of this process stands for another's.
        with pytest.raises(SettingError, match="no other process writes to"):
            MatchLog(path, CONDITIONS, 5)
        log.append((0, 1), some_games(1)[0])
    with MatchLog(path, CONDITIONS, 5) as log:
        assert log.games == {(0, 1): some_games(1)}


def test_what_is_no_file_is_no_log() -> None:
    with pytest.raises(SettingError, match="must be a file; /dev/null is none"):
        MatchLog("/dev/null", CONDITIONS, 5)


def test_a_log_holds_nothing_but_json(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with MatchLog(str(path), CONDITIONS, 5) as log:
        log.append((0, 1), some_games(1)[0])
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"log": "tessera arena 1", "conditions": CONDITIONS}
    assert len(second["moves"].split()) == 9 and second["opening_plies"] == 4


def test_sgf_of_a_match_replays_in_another_program_to_the_same_score() -> None:
    rules = match_rules()
    result = play_match(get_player("rules"), get_player("uniform"), 2, board_size=5, rules=rules)
    for game in result.games:
        document = match_document(game, result.names, 5, rules, seed=0)
        content = document.serialise()
        (read,) = read_sgf(content)
        assert isinstance(read, SgfGame) and tuple(read.moves) == game.moves
        again = sgf.Sgf_game.from_bytes(content)
        board, plays = sgf_moves.get_setup_and_moves(again)
        for colour, point in plays:
            if point is not None:
                board.play(*point, colour)
        margin = board.area_score() - 7
        root = again.get_root()
        wanted = "0" if margin == 0 else f"{'B' if margin > 0 else 'W'}+{abs(margin):g}"
        assert root.get("RE") == wanted and margin == game.score
        names = ["rules", "uniform"][:: 1 if game.fixture.first_is_black else -1]
        assert [root.get("PB"), root.get("PW")] == names
        assert "DT" not in root.properties() and root.get("KM") == 7
    files = [match_file((0, 2), game) for game in result.games[:2]]
    assert files == ["1-3_000000_black_1.sgf", "1-3_000000_black_3.sgf"]
    forfeited = some_games(2)[1]
    root = match_document(forfeited, ("a", "b"), 5, rules, seed=0).get_root()
    assert root.get("RE") == "B+F" and "no answer to genmove" in root.get("C")
    resigned = replace(forfeited, ended="resignation", forfeit=None)
    root = match_document(resigned, ("a", "b"), 5, rules, seed=0).get_root()
    assert root.get("RE") == "B+R" and root.get("C").endswith("; ended by resignation")
